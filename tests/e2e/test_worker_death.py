"""A worker is killed in the middle of a request: the client is told the truth, and the next request is served.

httpd's time-outs are set to an hour here. Whatever is known before the watchdog barks was not learnt by a time-out.
"""

import pytest

from harness import Truncated, procs, wait_until


def configure(server):
    server.allow("VIV0011", "VIV0012", "VIV0013", "VIV0020", "VIV0021")
    server.allow_line("Fatal Python error: Segmentation fault")  # the handler `crash`
    server.add("Timeout 3600")
    server.site("deaths")


def worker_at(web, name):
    """The pid that the handler left."""
    note = web.scratch / name
    wait_until(note.exists, f"the handler to say {name}")
    pid = int(note.read_text())
    note.unlink()
    assert pid in web.workers()
    return pid


def served_again(web):
    """A request is answered; a pool that has just lost a worker may ask for patience first (503)."""
    wait_until(lambda: web.outcome("/hello") == "200", "the next request to be served")


def kill_during(web, target, method="GET", headers=(), body=b""):
    """Starts a request, kills the worker that has it, returns the connection on which the answer comes."""
    connection = web.connect()
    connection.send_head(method, f"{target}?name", headers)
    connection.send(body)
    procs.kill(worker_at(web, "name"))
    return connection


def test_502_if_nothing_was_sent(web):
    with kill_during(web, "/wait") as connection:
        response = connection.response()
    assert response.status == 502
    assert web.wait_log("VIV0021")
    assert web.wait_log("VIV0011.*SIGKILL")
    served_again(web)


@pytest.mark.parametrize("target", ["/begun", "/begun_with_length"])
def test_a_visibly_broken_transfer_if_the_body_was_under_way(web, target):
    with kill_during(web, target) as connection, pytest.raises(Truncated) as broken:
        connection.response()
    response = broken.value.response
    assert response.status == 200
    assert not response.complete
    assert len(response.body) <= 100_000
    served_again(web)


def test_while_the_request_is_being_read(web):
    with kill_during(web, "/reading", "POST", [("Content-Length", "1000")], b"x" * 100) as connection:
        connection.send(b"x" * 900)
        assert connection.response().status == 502
    served_again(web)


def test_within_an_internal_redirect(web):
    with kill_during(web, "/redirect") as connection:
        assert connection.response().status == 502
    served_again(web)


@pytest.mark.parametrize("target", ["/by_itself", "/crash"])
def test_a_worker_that_ends_itself(web, target):
    assert web.get(target).status == 502
    served_again(web)


def test_all_requests_of_the_worker_are_told(web):
    connections = []
    pids = []
    for number in range(4):
        connection = web.connect()
        connection.send_head("GET", f"/wait?many{number}")
        connections.append(connection)
        pids.append(worker_at(web, f"many{number}"))
    for pid in set(pids):
        procs.kill(pid)
    assert [connection.response().status for connection in connections] == [502] * 4
    for connection in connections:
        connection.close()
    served_again(web)


def test_other_workers_requests_go_on(web):
    """Two workers, one dies: the other's request ends as if nothing had happened."""
    first = web.connect()
    first.send_head("GET", "/wait?first")
    survivor = worker_at(web, "first")
    others = []
    victim = survivor
    while victim == survivor:
        others.append(web.connect())
        others[-1].send_head("GET", f"/wait?other{len(others)}")
        victim = worker_at(web, f"other{len(others)}")
    procs.kill(victim)
    assert others[-1].response().status == 502
    (web.scratch / "first.go").touch()
    response = first.response()
    assert (response.status, response.body) == (200, b"waited\n")
    for number, connection in enumerate(others[:-1], 1):
        (web.scratch / f"other{number}.go").touch()
        assert connection.response().status == 200
    for connection in (first, *others):
        connection.close()
    for gate in web.scratch.glob("*.go"):
        gate.unlink()


def test_death_after_death(web):
    """The pool takes its time between starts, but it always comes back."""
    for _ in range(8):
        served_again(web)
        pid = int(web.get("/pid").body)
        assert procs.kill(pid)
        wait_until(lambda pid=pid: not procs.alive(pid), "its end")
    served_again(web)
