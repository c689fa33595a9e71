"""The handler `mod_python.wsgi` behind a real httpd."""

import hashlib
import json
import socket

import pytest

from harness import Truncated
from harness.client import Connection
from harness.server import HANDLERS

SITE = """\
<Location "/app">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonPath "['{htdocs}'] + sys.path"
    PythonOption mod_python.wsgi.application wsgi_app
    PythonOption scratch "{scratch}"
    SetEnv FROM_CONF yes
</Location>
PythonPath "['{htdocs}'] + sys.path"
<Directory "{htdocs}">
    Require all granted
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application wsgi_app::application
    PythonOption mod_python.wsgi.base_uri /based
</Directory>
DocumentRoot "{htdocs}"
"""


def configure(server):
    server.write("wsgi_app.py", (HANDLERS / "wsgi_app.py").read_text())
    server.add(SITE.format(htdocs=server.htdocs, scratch=server.scratch))


def environment(web, target, headers=(), **more):
    return json.loads(web.get(target, headers, **more).body)


def test_environment(web):
    seen = environment(
        web,
        "/app/environment/a%20b?x=%20",
        [("X-Own", "1"), ("Authorization", "Basic eDp5")],
        host=f"h.example:{web.port}",
    )
    wanted = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/app", "PATH_INFO": "/environment/a b", "QUERY_STRING": "x=%20",
        "REQUEST_URI": "/app/environment/a%20b?x=%20", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_PORT": str(web.port),
        "HTTP_X_OWN": "1", "HTTP_AUTHORIZATION": "Basic eDp5", "HTTP_HOST": f"h.example:{web.port}", "REMOTE_ADDR": "127.0.0.1",
        "FROM_CONF": "yes", "wsgi.url_scheme": "http", "wsgi.version": [1, 0], "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input_terminated": True,
    }  # fmt: skip
    assert {name: seen.get(name) for name in wanted} == wanted
    assert "CONTENT_LENGTH" not in seen


@pytest.mark.parametrize(
    ("sent", "octets"), [("caf%C3%A9", b"caf\xc3\xa9"), ("caf%E9", b"caf\xe9"), ("%E2%82%AC", b"\xe2\x82\xac")]
)
def test_paths_are_bytes(web, sent, octets):
    path = environment(web, f"/app/environment/{sent}")["PATH_INFO"]
    assert path.encode("latin-1") == b"/environment/" + octets


def test_base_uri(web):
    seen = environment(web, "/based/environment/x")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/based", "/environment/x")
    # Not below the application: declined, so httpd's own answer.
    assert web.get("/elsewhere/environment").status == 404


@pytest.mark.parametrize("status", ["200 OK", "201 Made", "404 Not here", "418 I'm a teapot", "503 Later", "299 Odd"])
def test_status_and_headers(web, status):
    response = web.get("/app/status?" + status.replace(" ", "%20"))
    assert (f"{response.status} {response.reason}", response.body) == (status, b"own body")
    assert (response.all("X-Own"), response.all("Set-Cookie")) == (["1"], ["a=1", "b=2"])


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body(web, status):
    with web.connect() as connection:
        response = connection.request("GET", "/app/status?" + status.replace(" ", "%20"))
        assert (f"{response.status} {response.reason}", response.body) == (status, b"")
        assert connection.request("GET", "/app/status?200%20OK").body == b"own body"


def test_the_validator_passes(web):
    response = web.post("/app/validated?x=y", b"body")
    assert (response.status, response.body) == (201, b"written,returned,body")
    web.wait_log("validated writes to the log")


@pytest.mark.parametrize("sizes", ["0", "1", "10,20", "8192", "8193", "40000", "200000,300000", "1000000"])
def test_lists_have_a_length(web, sizes):
    total = sum(map(int, sizes.split(",")))
    with web.connect() as connection:
        response = connection.request("GET", f"/app/sizes?{sizes}")
        assert (len(response.body), response.header("Content-Length")) == (total, str(total))
        head = connection.request("HEAD", f"/app/sizes?{sizes}")
        assert (head.body, head.header("Content-Length")) == (b"", str(total) if total else None)
        assert connection.request("GET", "/app/sizes?3").body == b"xxx"


def test_bodies(web):
    body = bytes(range(256)) * 20000
    wanted = f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    assert web.post("/app/digest", body).text == wanted
    with web.connect() as connection:
        connection.send_head("POST", "/app/digest", [("Transfer-Encoding", "chunked")])
        for at in range(0, len(body), 100_000):
            connection.send_chunk(body[at : at + 100_000])
        connection.send_chunk(b"")
        assert connection.response().text == wanted
    assert web.post("/app/lines", b"one\ntwo\nthree").body == b"one\n|two\n|three"


def test_each_piece_is_sent_before_the_next_is_made(web):
    for n in range(3):
        (web.scratch / f"step{n}").unlink(missing_ok=True)
    with web.connect() as connection:
        connection.send_head("GET", "/app/steps")
        (web.scratch / "step0").touch()
        pieces = connection.pieces(connection.head())
        for n in range(3):
            assert next(pieces) == f"piece {n}\n".encode()
            (web.scratch / f"step{n + 1}").touch()
        assert list(pieces) == []


def test_files(web):
    content = (b"0123456789" * 20000)[5:]
    response = web.get("/app/file")
    assert (response.body == content, response.header("Content-Length")) == (True, str(len(content)))
    assert web.request("HEAD", "/app/file").header("Content-Length") == str(len(content))
    assert web.get("/app/memory").body == b"in memory"


def test_errors(web):
    response = web.get("/app/fails")
    assert (response.status, response.header("X-App")) == (500, None)
    web.wait_log("RuntimeError: the application fails$")
    assert web.get("/app/no_such_application").status == 500
    response = web.get("/app/with_error")
    assert (response.status, response.header("Retry-After"), response.body) == (503, "1", b"sorry")


@pytest.mark.parametrize("name", ["late", "short"])
def test_less_than_announced_is_seen_by_the_client(web, name):
    with pytest.raises(Truncated) as broken:
        web.connect().request("GET", f"/app/{name}")
    assert broken.value.response.status == 200
    web.wait_log("the application fails late" if name == "late" else "less body than the Content-Length says")


def test_more_than_announced_is_not_sent(web):
    with web.connect() as connection:
        assert connection.request("GET", "/app/long").body == b"lon"
        assert connection.request("GET", "/app/sizes?2").body == b"xx"


def test_close_is_called_when_the_client_leaves(web):
    before = len(web.log_lines("the endless answer was closed"))
    connection = Connection(web.port, receive_buffer=4096)
    connection.send_head("GET", "/app/endless")
    connection.head()
    connection.socket.shutdown(socket.SHUT_RDWR)
    connection.close()
    web.wait_log("the endless answer was closed", before + 1)
    # HEAD of it ends at once.
    assert web.request("HEAD", "/app/endless").status == 200
    web.wait_log("the endless answer was closed", before + 2)
