"""Things that are wrong at the start: one clear line in the log, 503 to the client, and httpd runs on."""

import os
import re
import socket

import pytest

from devlib import artefacts
from harness import client, wait_until
from harness.fake import VERSION, Supervisor, number, refuse, text, welcome


@pytest.fixture
def server(make_server):
    server = make_server(mpm="event")
    server.site("hello")
    server.write("page.txt", "static")
    server.add(f'<Directory "{server.htdocs}">\n<Files page.txt>\nSetHandler none\n</Files>\n</Directory>')
    return server


def python_is_unavailable(server, code, *words, lines=1):
    """503 to clients, one line with the code that has all the words, and httpd serves other things."""
    server.allow("VIV0020", code)
    response = server.get("/hello")
    assert response.status == 503
    for word in words:
        assert word.encode() not in response.body  # the cause is the log's business, not the client's
    first = server.wait_log(code)[0]
    for word in words:
        assert word in first
    for _ in range(20):
        assert server.outcome("/hello") == "503"
    assert server.get("/page.txt").body == b"static"
    assert server.process.poll() is None
    # One line for one cause, whoever asks how often; lines per request have a code of their own.
    assert len(own_lines(server, code)) <= lines, own_lines(server, code)


def own_lines(server, code):
    """Lines about the cause itself: those about a request name its client."""
    return [line for line in server.log_lines(code) if "[client " not in line]


def test_missing_python(server):
    server.supervisor_config('[default]\npython = "/no/such/python"\n')
    server.start()
    python_is_unavailable(server, "VIV0012", "/no/such/python")


def test_python_that_is_no_program(server):
    path = server.write("not-python", "just text\n")
    server.supervisor_config(f'[default]\npython = "{path}"\n')
    server.start()
    python_is_unavailable(server, "VIV0012", str(path))


def test_python_that_ends_at_once(server):
    server.supervisor_config('[default]\npython = "/bin/false"\n')
    server.start()
    python_is_unavailable(server, "VIV0012", "exit status 1")


def test_unknown_user(server):
    server.supervisor_config('[default]\nuser = "nobody-of-that-name"\n')
    server.start()
    python_is_unavailable(server, "VIV0018", "nobody-of-that-name")


def test_unreadable_package(server):
    build = server.prefix / "build"
    server.module = artefacts.copy_build(build)
    package = build / "interp-daemon/python/mod_python"
    os.chmod(package, 0)
    server.start()
    try:
        python_is_unavailable(server, "VIV0012", "mod_python")
    finally:
        os.chmod(package, 0o755)


def test_missing_extension(server):
    build = server.prefix / "build"
    server.module = artefacts.copy_build(build)
    (build / "target/release/lib_vivarium.so").unlink()
    server.start()
    python_is_unavailable(server, "VIV0012", "lib_vivarium.so")


def test_wrong_supervisor_config(server):
    server.supervisor_config('[default]\nthreads = "many"\n')
    server.start()
    # At the start, again with httpd's configuration, and when a pool is wanted.
    python_is_unavailable(server, "VIV0040", "vivariumd.toml:2", lines=3)


def test_it_serves_as_soon_as_it_is_mended(server):
    server.supervisor_config('[default]\npython = "/no/such/python"\n')
    server.allow("VIV0012", "VIV0020").start()
    assert server.get("/hello").status == 503
    server.supervisor_config("")
    server.graceful()
    wait_until(lambda: server.outcome("/hello") == "200", "the mended Python")


def test_missing_supervisor(server):
    build = server.prefix / "build"
    server.module = artefacts.copy_build(build)
    (build / "target/release/vivariumd").unlink()
    server.allow("VIV0003", "VIV0005", "VIV0020").start()
    assert "vivariumd" in server.wait_log("VIV0003")[0]
    assert server.get("/hello").status == 503
    assert server.get("/page.txt").body == b"static"
    assert server.process.poll() is None


def test_supervisor_that_ends_at_once(server):
    server.allow("VIV0003", "VIV0004", "VIV0005", "VIV0020")
    server.add("VivariumDaemon managed /bin/false")
    server.start()
    assert server.get("/hello").status == 503
    assert server.get("/page.txt").body == b"static"
    assert server.wait_log("VIV0004.*dies too often")
    assert len(server.log_lines("VIV0004")) <= 10


def test_no_service_at_the_socket(server):
    path = server.prefix / "none.sock"
    server.add(f"VivariumDaemon unix:{path}")
    server.start()
    server.allow("VIV0005", "VIV0020")
    assert server.get("/hello").status == 503
    assert str(path) in server.wait_log("VIV0005")[0]
    assert server.get("/page.txt").body == b"static"


def test_supervisor_of_another_version(server):
    path = server.prefix / "other.sock"
    other = Supervisor(path, refuse(77, "this is another version"))
    try:
        server.add(f"VivariumDaemon unix:{path}")
        server.start()
        server.allow("VIV0005", "VIV0006", "VIV0020")
        assert server.get("/hello").status == 503
        line = server.wait_log("VIV0006")[0]
        assert re.search(r"\b77\b", line) and re.search(rf"\b{VERSION}\b", line)
        assert server.get("/page.txt").body == b"static"
        wait_until(lambda: other.heard, "a hello")
        assert set(other.heard) == {VERSION}
    finally:
        other.stop()


@pytest.mark.parametrize("answer", [
    welcome(77), b"", b"\xff" * 100, bytes(60_000), refuse(VERSION, "because")[:-3], welcome(VERSION) + b"left over",
], ids=["lying-welcome", "empty", "noise", "zeros", "cut", "trailing"])
def test_supervisor_that_talks_nonsense(server, answer):
    path = server.prefix / "other.sock"
    other = Supervisor(path, answer, close=False)
    try:
        server.add(f"VivariumDaemon unix:{path}")
        server.start()
        server.allow("VIV0005", "VIV0006", "VIV0008", "VIV0020")
        assert server.get("/hello").status == 503
        assert server.wait_log("VIV000[568]")
        assert server.get("/page.txt").body == b"static"
    finally:
        other.stop()


READY = 0

OTHER_WORKER = """#!/usr/bin/python3 -I
import os, socket
control = socket.socket(fileno=3)
control.send({packet!r})
control.recv(1)
"""


def test_worker_of_another_version(server):
    script = server.write("other-python", OTHER_WORKER.format(packet=number(READY) + number(77) + text("3.11")))
    os.chmod(script, 0o755)
    server.supervisor_config(f'[default]\npython = "{script}"\n')
    server.start()
    python_is_unavailable(server, "VIV0006", "77")


def test_worker_that_talks_nonsense(server):
    script = server.write("other-python", OTHER_WORKER.format(packet=b"\xff" * 40))
    os.chmod(script, 0o755)
    server.supervisor_config(f'[default]\npython = "{script}"\n')
    server.allow("VIV0008", "VIV0011", "VIV0012", "VIV0013", "VIV0014", "VIV0020").start()
    assert server.get("/hello").status == 503
    assert server.wait_log("VIV0014|VIV0008|VIV0012")
    assert server.get("/page.txt").body == b"static"


def test_port_in_use(make_server):
    """httpd itself refuses to start, in its own words, and no supervisor stays behind."""
    server = make_server(mpm="event").site("hello")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        with open(server.prefix / "stderr", "wb") as out:
            server.launch(out)
        assert server.process.wait() != 0
        said = (server.prefix / "stderr").read_text() + server.log_text()
        assert f"could not bind to address 127.0.0.1:{server.port}" in said
        assert "VIV" not in said


def test_two_servers_do_not_meddle(make_server):
    """Each httpd has its own supervisor; one's end is not the other's."""
    first, second = (make_server(mpm="event").site("hello").start() for _ in range(2))
    assert first.get("/hello").status == second.get("/hello").status == 200
    assert first.supervisor() != second.supervisor()
    assert not set(first.workers()) & set(second.workers())
    first.stop()
    assert client.request(second.port, "GET", "/hello").status == 200
    assert second.supervisor()
