"""Graceful restarts under load: no request fails, new code is served, nothing grows."""

import signal

import pytest

from harness import Load, procs, wait_until


PROCESSES = 2


@pytest.fixture
def server(make_server, mpm):
    server = make_server(mpm=mpm)
    server.site("deaths")
    server.supervisor_config(f"[default]\nprocesses = {PROCESSES}\n")
    return server.start()


@pytest.mark.parametrize("keep_alive", [False, True], ids=["close", "keep-alive"])
def test_twenty_under_load(server, keep_alive):
    assert server.get("/hello").status == 200
    parent = server.process.pid
    seen = []
    with Load(server.port, "/hello", keep_alive=keep_alive, expect=b"hello\n") as load:
        for _ in range(20):
            done = load.done
            server.graceful()
            wait_until(lambda: load.done > done + 50, "requests after the restart")
            seen.append((procs.fd_count(parent), procs.kib(parent, "VmRSS")))
    assert load.failed == {} and not load.wrong
    # The first few fill caches and pools; from then on every restart leaves the parent as it was.
    assert {fds for fds, _ in seen[4:]} == {seen[-1][0]}
    assert seen[-1][1] - seen[4][1] <= 1024, seen


def test_old_pools_go_and_the_supervisor_keeps_nothing(server):
    def one_generation():
        server.get("/hello")
        return server.workers()

    first = wait_until(lambda: len(found := one_generation()) == PROCESSES and found, "all workers")
    supervisor = server.supervisor()
    for _ in range(3):
        server.graceful()
    wait_until(lambda: one_generation() and not set(server.workers()) & set(first), "the first workers' end")
    wait_until(lambda: len(server.workers()) == len(first), "one generation of workers")

    def descriptors():
        """Those of the supervisor, without what each child that has come so far brings: connection, region, socket."""
        links = list(procs.fds(supervisor).values())
        return len(links) - 3 * sum("vivarium-region" in link for link in links)

    fds = descriptors()
    for _ in range(5):
        server.graceful()
        old = server.workers()
        wait_until(lambda old=old: one_generation() and not set(server.workers()) & set(old), "the old workers' end")
    wait_until(lambda: len(server.workers()) == len(first), "one generation of workers")
    wait_until(lambda: descriptors() <= fds, "the supervisor's descriptors")
    assert server.supervisor() == supervisor


def test_new_code_is_served(server):
    source = (server.htdocs / "deaths.py").read_text()
    assert server.get("/version").text == "1"
    # Of different lengths: Python takes a compiled module of the same second and size for the same.
    for version in ("22", "333"):
        server.write("deaths.py", source.replace('VERSION = "1"', f'VERSION = "{version}"'))
        server.graceful()
        # A child of the old generation may still have taken the first request.
        wait_until(lambda version=version: server.get("/version").text == version, "the new code")


def test_a_running_request_is_finished_by_the_old_code(server):
    with server.connect() as connection:
        connection.send_head("GET", "/begun?name")
        note = server.scratch / "name"
        wait_until(note.exists, "the handler")
        worker = int(note.read_text())
        server.graceful()
        assert server.get("/hello").status == 200
        assert procs.alive(worker)
        (server.scratch / "name.go").touch()
        response = connection.response()
        assert response.body == b"x" * 100_000 + b"waited\n"
    wait_until(lambda: not procs.alive(worker), "the old worker's end")


def test_a_graceful_stop_finishes_what_runs(server):
    with server.connect() as connection:
        connection.send_head("GET", "/wait?name")
        wait_until((server.scratch / "name").exists, "the handler")
        server.tree()
        server.signal(signal.SIGWINCH)
        server.wait_log("AH0049[24]|SIGWINCH")
        (server.scratch / "name.go").touch()
        assert connection.response().body == b"waited\n"
    server.process.wait()
