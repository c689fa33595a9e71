"""The handler `mod_python.cgihandler` behind a real httpd."""

import sys
import threading

import pytest

from harness.server import HANDLERS

SITE = """\
DocumentRoot "{htdocs}"
<Directory "{htdocs}">
    Require all granted
    SetHandler mod_python
    PythonHandler mod_python.cgihandler
</Directory>
<Location "/where">
    SetHandler mod_python
    PythonPath "['{htdocs}'] + sys.path"
    PythonHandler where_am_i
</Location>
"""

WHERE = "import os\ndef handler(req):\n    req.write(os.getcwd() + str(os.environ.get('QUERY_STRING')))\n    return 0\n"


def configure(server):
    server.write("script.py", (HANDLERS / "cgi_script.py").read_text())
    server.write("where_am_i.py", WHERE)
    server.add(SITE.format(htdocs=server.htdocs))


def test_status(web):
    response = web.get("/script.py/status")
    assert (response.status, response.reason, response.header("Content-Type")) == (404, "Nowhere", "text/plain")


def test_the_environment_is_put_back(web):
    before = web.get("/where").text
    assert web.get("/script.py/where?a=b").text == f"{web.htdocs} script a=b {web.htdocs}/script.py\n"
    for _ in range(4):
        assert web.get("/script.py/left").text == f"None {web.htdocs}\n"
        assert web.get("/where").text == before


def test_post(web):
    body = bytes(range(256)) * 400
    assert web.post("/script.py/body", body).body == body


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python has no module cgi any more")
def test_a_form_with_a_file(web):
    body = (
        b'--B\r\nContent-Disposition: form-data; name="name"\r\n\r\nvalue\r\n--B\r\nContent-Disposition: form-data; '
        b'name="file"; filename="x.bin"\r\n\r\n' + b"z" * 50000 + b"\r\n--B--\r\n"
    )
    response = web.post("/script.py/form", body, [("Content-Type", "multipart/form-data; boundary=B")])
    assert (response.status, response.text) == (200, "value x.bin 50000\n")


def test_ends(web):
    assert web.get("/script.py/exit").text == "before\n"
    assert web.get("/script.py/endless_head").status == 500
    web.wait_log("has ended before its headers did")
    web.get("/script.py/fails")
    web.wait_log("RuntimeError: the script fails")
    assert web.get("/none.py").status == 404


def test_scripts_take_turns(web):
    answers = {}

    def ask(number):
        answers[number] = web.get(f"/script.py/turns?{number}").text

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: f"{n}\n" for n in range(12)}
