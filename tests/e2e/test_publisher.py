"""The publisher through httpd."""

import base64
import threading

import pytest

from harness import wait_until

CONF = """\
DocumentRoot "{htdocs}"
PythonOption scratch {scratch}
<Directory "{htdocs}">
    Require all granted
    SetHandler mod_python
    PythonHandler mod_python.publisher
</Directory>
<Directory "{htdocs}/httpd">
    AuthType Basic
    AuthName "httpd's"
    AuthBasicProvider file
    AuthUserFile "{htdocs}/users"
    Require valid-user
</Directory>
"""

INDEX = '''
import asyncio, os, subprocess, sys
from os import system
from mod_python import apache, util


def index(req):
    return "index"

def upload(req, text, file):
    return [text, type(text).__name__, file.filename, len(file.value), type(file.value).__name__]

async def together(req, name):
    await asyncio.sleep(0.01)
    return name

def numbers(req):
    try:
        for number in range(10**9):
            yield "%d\\n" % number
    finally:
        req.log_error("the stream was closed")

async def numbers_async(req):
    try:
        for number in range(10**9):
            yield "%d\\n" % number
            await asyncio.sleep(0)
    finally:
        req.log_error("the asynchronous stream was closed")

def raw(req):
    return bytes(range(256))

def members(req):
    __auth_realm__ = "Members"
    def __auth__(req, user, password):
        return (user, password) == ("ève", "pw")
    return "hello " + req.user

def unreadable(req):
    __auth__ = dict(eve="pw")
    return "secret"

class _Private:
    __access__ = ["eve"]
    def who(self, req):
        return req.user
    def nobody(self, req):
        __access__ = []
        return "secret"

private = _Private()
'''


def basic(text):
    """The header of a name and a password."""
    return [("Authorization", "Basic " + base64.b64encode(text.encode()).decode())]


def configure(server):
    server.extra_modules = ("auth_basic", "authn_core", "authn_file", "authz_user")
    for folder in ("", "httpd/"):
        server.write(f"{folder}index.py", INDEX)
    server.write("edited.py", "def index(req): return 'before'")
    server.write("failing.py", "1 / 0")
    # eve:pw and adam:pw, as `htpasswd -s` writes them.
    server.write("users", "eve:{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=\nadam:{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=\n")
    server.add(CONF.format(htdocs=server.htdocs, scratch=server.scratch))


def test_uploads(web):
    body = (
        '--X\r\nContent-Disposition: form-data; name="text"\r\n\r\ngrüße\r\n'
        '--X\r\nContent-Disposition: form-data; name="file"; filename="ü.bin"\r\n\r\n'
    ).encode() + b"\xff" * 300_000 + b"\r\n--X--\r\n"
    answer = web.post("/upload", body, [("Content-Type", "multipart/form-data; boundary=X")])
    assert answer.text == "['grüße', 'str', 'ü.bin', 300000, 'bytes']"
    assert web.get("/upload").status == web.post("/upload", b"").status == 400


def test_coroutines_in_many_threads(web):
    seen = {}

    def ask(number):
        seen[number] = web.get(f"/together?name={number}").text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: str(number) for number in range(24)}


@pytest.mark.parametrize(("path", "says"), [
    ("/numbers", "the stream was closed"), ("/numbers_async", "the asynchronous stream was closed"),
])
def test_a_stream_comes_as_it_is_made_and_ends_with_the_client(web, path, says):
    before = len(web.log_lines(says))
    with web.connect() as connection:
        connection.send_head("GET", path)
        response = connection.head()
        got = b""
        for piece in connection.pieces(response):
            got += piece
            if got.startswith(b"0\n1\n2\n") and len(got) > 1000:
                break
    web.wait_log(says, before + 1)


def test_bytes(web):
    answer = web.get("/raw")
    assert (answer.body, answer.header("Content-Type")) == (bytes(range(256)), "text/plain")


def test_rules_in_functions(web):
    answer = web.get("/members")
    assert (answer.status, answer.header("WWW-Authenticate")) == (401, 'Basic realm="Members"')
    assert web.get("/members", basic("ève:no")).status == 401
    assert web.get("/members", basic("ève:pw")).text == "hello ève"
    assert web.get("/members", [("Authorization", "Basic x")]).status == 400


def test_a_rule_that_cannot_be_read_lets_nobody_in(web):
    answer = web.get("/unreadable", basic("eve:pw"))
    assert answer.status == 500
    assert b"secret" not in answer.body
    web.wait_log(r"__auth__ in unreadable\(\) must be a function")


def test_names_that_httpd_has_checked(web):
    assert web.get("/httpd/private/who").status == 401
    assert web.get("/httpd/private/who", basic("eve:wrong")).status == 401
    assert web.get("/httpd/private/who", basic("eve:pw")).text == "eve"
    assert web.get("/httpd/private/who", basic("adam:pw")).status == 403
    assert web.get("/httpd/private/nobody", basic("eve:pw")).status == 403
    # The name alone is no proof where httpd asks for none.
    assert web.get("/private/who", basic("eve:pw")).status == 403


def test_an_edit_shows(web):
    assert web.get("/edited").text == "before"
    web.write("edited.py", "def index(req): return 'after the edit'")
    wait_until(lambda: {web.get("/edited").text for _ in range(10)} == {"after the edit"}, "the edit to show")
    web.write("edited.py", "def index(req): return 'before'")
    wait_until(lambda: {web.get("/edited").text for _ in range(10)} == {"before"}, "the edit to show")


@pytest.mark.parametrize("path", [
    "/os", "/os/environ", "/sys", "/sys/modules", "/subprocess/Popen", "/system", "/system?command=id", "/apache", "/util",
    "/_Private", "/private/_x", "/private/__class__", "/private/__class__/__init__/__globals__", "/index/__globals__",
    "/index/__code__/co_filename", "/__builtins__", "/__name__", "/__loader__", "/__spec__/origin", "/private/who/__func__",
    "/numbers/gi_frame", "/asyncio/subprocess", "/_index",
])
def test_what_is_never_shown(web, path):
    answer = web.get(path)
    assert answer.status in (403, 404), answer
    assert b"root" not in answer.body


@pytest.mark.parametrize("path", [
    "/%00", "/index%00.py", "/%ff", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/" + "a" * 300,
    "/index" + "/" * 4000, "/" + "a/" * 2000, "/%C3%BC", "/index.py.py", "/.py", "/.", "/index.", "/users", "/index.pyc",
    "/__pycache__/index", "/index?" + "&".join(f"a{n}=1" for n in range(1500)), "/together?" + "name=1&" * 900, "/index?%",
    "/index;x=1", "/private/who/",
])
def test_hostile_paths(web, path):
    answer = web.get(path)
    assert answer.status < 500, answer
    assert b"SHA" not in answer.body


def test_a_module_that_fails(web):
    assert web.get("/failing").status == 500
    web.wait_log("PythonHandler mod_python.publisher: ZeroDivisionError")
