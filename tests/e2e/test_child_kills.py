"""httpd's children are killed under load, 200 times: workers and supervisor keep nothing of the dead."""

import pytest

from harness import Load, procs, wait_until
from harness.holdings import all_attached, regions

# The number of children is fixed, so that what they cost can be compared.
SIZES = {
    "event": "StartServers 4\nServerLimit 4\nThreadsPerChild 4\nThreadLimit 4\nMaxRequestWorkers 16\n"
             "MinSpareThreads 16\nMaxSpareThreads 16",
    "prefork": "StartServers 8\nServerLimit 8\nMaxRequestWorkers 8\nMinSpareServers 8\nMaxSpareServers 8",
}


@pytest.mark.parametrize("mpm, kills", [("event", 200), ("prefork", 200)])
def test_under_load(make_server, mpm, kills):
    server = make_server(mpm=mpm)
    server.allow("VIV0020")
    server.allow_line("AH00052.*exit signal Killed")
    server.supervisor_config("[default]\nprocesses = 2\nthreads = 8\n")
    server.add(SIZES[mpm])
    server.site("deaths").start()
    count = len(all_attached(server))
    supervisor, workers = server.supervisor(), server.workers()
    before = {pid: procs.fd_count(pid) for pid in (supervisor, *workers)}
    memory = {pid: procs.map_count(pid) for pid in workers}

    killed = 0
    with Load(server.port, "/hello", connections=6, expect=b"hello\n") as load:
        while killed < kills:
            served = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > served + 20, "requests between the kills")
            for pid in server.httpd_children()[: kills - killed]:
                killed += procs.kill(pid)
        served = load.outcomes["200"]
        wait_until(lambda: load.outcomes["200"] > served + 200, "requests after the kills")
    assert not load.wrong
    assert set(load.failed) <= {"reset", "truncated", "refused"}, load.outcomes

    assert server.supervisor() == supervisor
    assert server.workers() == workers, "a worker fell with a child"
    wait_until(lambda: len(server.httpd_children()) == count, "the old number of children")
    all_attached(server)
    for pid, fds in before.items():
        wait_until(lambda pid=pid, fds=fds: procs.fd_count(pid) <= fds, f"descriptors of {procs.cmdline(pid)}")
    for pid in workers:
        # Python's own heap may have grown by a mapping or two; two hundred leaked regions would show.
        assert procs.map_count(pid) <= memory[pid] + 20


def test_a_request_of_a_dead_child_ends_in_the_worker(make_server):
    """The handler's next write fails, its thread is free again, and nothing of the request is left."""
    server = make_server(mpm="event")
    server.allow_line("AH00052.*exit signal Killed|OSError")
    server.supervisor_config("[default]\nprocesses = 1\nthreads = 1\n")
    server.add("StartServers 1\nServerLimit 1")
    server.site("deaths").start()
    with server.connect() as connection:
        connection.send_head("GET", "/begun?name")
        note = server.scratch / "name"
        wait_until(note.exists, "the handler")
        worker = int(note.read_text())
        for pid in server.httpd_children():
            procs.kill(pid)
        (server.scratch / "name.go").touch()
        # One thread: it answers again only once it is rid of the dead child's request.
        wait_until(lambda: server.outcome("/hello") == "200", "the only thread to be free")
    assert server.workers() == [worker]
    wait_until(lambda: regions(worker) == 1, "the dead child's region to be unmapped")
