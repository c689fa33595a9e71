"""The page of `mod_python.testhandler`, and the command `mod_python`, with a real httpd."""

import os
import subprocess

import pytest

from devlib import artefacts
from devlib.httpd import free_port
from harness import client, wait_until
from harness.server import COMPLAINT

SITE = """\
<Location "/test">
    SetHandler mod_python
    PythonHandler mod_python.testhandler
    PythonOption shop.password hidden1
    PythonOption colour green
    SetEnv API_TOKEN hidden2
</Location>
<Location "/debug">
    SetHandler mod_python
    PythonHandler mod_python.testhandler
    PythonDebug On
</Location>
"""


def configure(server):
    server.add(SITE)


def test_the_page(web):
    response = web.get(
        "/test?a=b&view_log=1", [("X-Own", "own header"), ("Cookie", "sid=hidden3"), ("Authorization", "hidden4")]
    )
    assert (response.status, response.header("Content-Type")) == (200, "text/html; charset=utf-8")
    for shown in (
        "GET /test?a=b&amp;view_log=1 HTTP/1.1",
        "own header",
        "green",
        str(web.prefix),
        "PythonHandler",
        "&lt;/Location&gt;",
    ):
        assert shown in response.text
    assert "hidden" not in response.text
    assert "Shown only with PythonDebug On" in response.text


def test_the_log(web):
    text = web.get("/debug?view_log=1").text
    assert "resuming normal operations" in text or "cannot be read by this worker" in text


REPO = artefacts.REPO
HANDLER = """
from mod_python import apache
def handler(req):
    req.write("%s %s" % (req.uri, req.get_options()["key"]))
    return apache.OK
"""


@pytest.fixture
def root(tmp_path_factory):
    """A folder that everybody can get at."""
    folder = tmp_path_factory.mktemp("command")
    for each in [folder, *folder.parents][:3]:
        os.chmod(each, 0o755)
    return folder / "site"


def test_create_start_restart_stop(root, stage):
    port = free_port()
    environment = {**os.environ, "VIVARIUM_MODULE": str(artefacts.module(stage))}

    def command(*arguments):
        return subprocess.run(
            [REPO / "scripts/mod_python", *arguments], env=environment, capture_output=True, text=True, check=True
        )

    command("create", root, "--listen", f"127.0.0.1:{port}", "--pythonhandler", "hello", "--pythonpath", root / "lib",
            "--pythonoption", "key value")  # fmt: skip
    (root / "lib").mkdir()
    (root / "lib/hello.py").write_text(HANDLER)
    conf, log, pid = root / "conf/httpd.conf", root / "logs/error_log", root / "logs/httpd.pid"
    command("start", conf)
    try:
        wait_until(lambda: client.outcome(port, "GET", "/x") == "200", "the first answer")
        assert client.request(port, "GET", "/x").text == "/x value"
        command("restart", conf)
        wait_until(lambda: log.read_text().count("resuming normal operations") == 2, "the restart")
        assert client.request(port, "GET", "/y").text == "/y value"
    finally:
        command("stop", conf)
    wait_until(lambda: not pid.exists(), "httpd's end")
    wait_until(lambda: client.outcome(port, "GET", "/x") == "refused", "the end of the listening socket")
    assert [line for line in log.read_text().splitlines() if COMPLAINT.search(line)] == []
