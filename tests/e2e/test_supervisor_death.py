"""The supervisor is killed under load: httpd stays up, pools come back, no worker is orphaned."""

import pytest

from harness import Load, procs, wait_until


@pytest.fixture
def server(make_server, mpm):
    server = make_server(mpm=mpm)
    # The gap: no supervisor (0004, 0005), no pool (0020, 0024), a request lost with its worker (0021).
    server.allow("VIV0004", "VIV0005", "VIV0011", "VIV0020", "VIV0021", "VIV0024")
    server.site("deaths")
    return server.start()


def test_under_load(server):
    assert server.get("/hello").status == 200
    parent, children = server.process.pid, server.httpd_children()
    with Load(server.port, "/hello", expect=b"hello\n") as load:
        for _ in range(5):
            old, workers = server.supervisor(), server.workers()
            assert old and workers
            served = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > served + 50, "requests before the kill")
            procs.kill(old)
            wait_until(lambda: server.supervisor() not in (None, old), "a new supervisor")
            wait_until(lambda: not any(procs.alive(pid) for pid in workers), "the old workers' end")
            served = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > served + 50, "requests after the kill")
        # The gap ends, for the slowest child too: then nothing fails any more.
        def nothing_fails():
            failed, done = dict(load.failed), load.done
            wait_until(lambda: load.done > done + 500, "requests")
            return load.failed == failed

        wait_until(nothing_fails, "requests without a failure")
    assert not load.wrong
    assert set(load.failed) <= {"502", "503", "truncated"}, load.outcomes
    assert server.process.pid == parent and server.process.poll() is None
    if server.mpm != "prefork":  # which starts and stops children by itself under load
        assert set(children) <= set(server.httpd_children())


def test_a_request_that_runs_is_finished_or_told(server):
    """Workers that lose their supervisor finish what they have."""
    with server.connect() as connection:
        connection.send_head("GET", "/wait?name")
        note = server.scratch / "name"
        wait_until(note.exists, "the handler")
        worker = int(note.read_text())
        procs.kill(server.supervisor())
        wait_until(lambda: server.outcome("/hello") == "200", "the next request")
        (server.scratch / "name.go").touch()
        response = connection.response()
        assert (response.status, response.body) == (200, b"waited\n")
    wait_until(lambda: not procs.alive(worker), "the old worker's end")


def test_the_log_says_so_in_one_line(server):
    assert server.get("/hello").status == 200
    procs.kill(server.supervisor())
    assert len(server.wait_log("VIV0004")) == 1
    wait_until(lambda: server.outcome("/hello") == "200", "the next request")
    assert len(server.log_lines("VIV0004")) == 1


def test_httpd_killed_leaves_nothing_behind(server):
    """`kill -9` of httpd's parent and of its children: the supervisor and the workers end by themselves."""
    assert server.get("/hello").status == 200
    mine = server.tree()
    supervisor, workers = server.supervisor(), server.workers()
    for pid in (server.process.pid, *server.httpd_children()):
        procs.kill(pid)
    server.process.wait()
    wait_until(lambda: not any(procs.alive(pid) for pid in (supervisor, *workers)), "their end")
    wait_until(lambda: not any(procs.alive(pid) for pid in mine), "the end of all")
