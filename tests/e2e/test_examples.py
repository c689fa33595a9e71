"""What a newcomer meets: the examples, and scripts/serve."""

import os
import re
import signal
import subprocess
import sys

import pytest

from devlib import artefacts
from devlib.httpd import MPMS, free_port
from harness import client, wait_until

EXAMPLES = artefacts.REPO / "examples"


@pytest.fixture
def examples(make_server, mpm):
    server = make_server(mpm=mpm)
    copy = server.prefix / "examples"
    artefacts.copy_tree(EXAMPLES, copy)
    for name in ("hello", "echo", "streaming", "output_filter"):
        server.add(f'Define HERE "{copy}/{name}"\nInclude "{copy}/{name}/vivarium.conf"')
    # Counting down takes no time here.
    handler = copy / "streaming/handler.py"
    handler.write_text(handler.read_text().replace("time.sleep(1)", "time.sleep(0.01)"))
    return server.start()


@pytest.mark.compat
def test_examples(examples):
    assert examples.get("/").body.startswith(b"Hello")
    assert examples.get("/hello").status == 200
    assert examples.post("/echo", b"some text" * 100_000).body == b"some text" * 100_000
    assert examples.get("/echo").status == 405
    assert examples.get("/streaming").text.split() == [*map(str, range(10, 0, -1)), "lift-off"]
    page = (EXAMPLES / "output_filter/page.txt").read_bytes()
    assert examples.get("/shout/page.txt").body == page.upper()


@pytest.mark.compat
def test_a_client_that_leaves_the_stream(examples):
    with examples.connect() as connection:
        connection.send_head("GET", "/streaming")
        connection.head()
    examples.wait_log("the client did not wait for the end")


class Serve:
    """scripts/serve without the build: as a newcomer's terminal has it."""

    def __init__(self, *arguments):
        self.port = free_port()
        command = [sys.executable, "-m", "devlib.serve", *map(str, arguments), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=artefacts.REPO, env={**os.environ, "PYTHONPATH": str(artefacts.REPO / "scripts")},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.said = ""
        while "Error log" not in self.said:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line

    def get(self, target="/"):
        return client.request(self.port, "GET", target)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        rest = self.process.stdout.read()
        assert self.process.wait() == 0, rest
        return rest


@pytest.fixture
def serve():
    running = []

    def start(*arguments):
        running.append(Serve(*arguments))
        return running[-1]

    yield start
    for one in running:
        one.stop()


PAGE = """
from mod_python import apache

def handler(req):
    req.write("{text}")
    return apache.OK
"""


def test_serve_shows_the_examples_and_what_to_do(serve):
    one = serve()
    assert one.get().body.startswith(b"Hello")
    assert f"http://127.0.0.1:{one.port}/" in one.said
    assert "examples/hello/handler.py" in one.said
    assert f"runs as {artefacts.python_user()}" in one.said
    for target in re.findall(rf"curl \S*http://127.0.0.1:{one.port}(/hello|/shout\S+)", one.said):
        assert one.get(target).status == 200
    assert "serve: stopped" in one.stop()


@pytest.mark.parametrize("mpm_name", MPMS)
def test_an_edit_shows_at_the_next_request(serve, tmp_path, mpm_name):
    """Also when the file lies where the user that Python runs as cannot read it."""
    os.chmod(tmp_path, 0o700)
    app = tmp_path / "app.py"
    app.write_text(PAGE.format(text="first"))
    one = serve(app, "--mpm", mpm_name)
    assert one.get().body == b"first"
    app.write_text(PAGE.format(text="second text"))
    wait_until(lambda: one.get().body == b"second text", "the edit to show")


def test_a_folder(serve, tmp_path):
    (tmp_path / "handler.py").write_text("from helper import handler\n")
    (tmp_path / "helper.py").write_text(PAGE.format(text="from the folder"))
    assert serve(tmp_path).get("/any/path").body == b"from the folder"


def test_serve_says_what_is_wrong(tmp_path):
    for argument in (tmp_path / "none.py", tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "devlib.serve", str(argument)], cwd=artefacts.REPO, capture_output=True,
            text=True, env={**os.environ, "PYTHONPATH": str(artefacts.REPO / "scripts")}, check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("serve: there is no ")
