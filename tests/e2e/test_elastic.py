"""Pools that grow, shrink and sleep: how many workers there are, and that no request notices."""

import os
import threading
from pathlib import Path

import pytest

from harness import procs, wait_until

ONE = '[default]\nprocesses = {{ min = {min}, max = {max} }}\nthreads = {threads}\nidle_s = {idle}\n[log]\nlevel = "debug"\n'

#: What one child sees of its own requests counts.
ONE_CHILD = "StartServers 1\nServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n"


@pytest.fixture
def make_elastic(make_server):
    """Makes a started server whose pools have between `min` and `max` workers."""
    def make(low, high, idle, threads=2, mpm="event", extra=""):
        server = make_server(mpm=mpm)
        server.site("elastic")
        server.add(extra)
        server.supervisor_config(ONE.format(min=low, max=high, idle=idle, threads=threads))
        return server.start()
    return make


class Calls:
    """Requests under way at the same time."""

    def __init__(self, server, targets):
        self.answers = {}
        self.server = server
        self.threads = [threading.Thread(target=self._run, args=(n, target), daemon=True) for n, target in enumerate(targets)]
        for thread in self.threads:
            thread.start()

    def _run(self, n, target):
        answer = self.server.get(target)
        self.answers[n] = (answer.status, answer.body)

    def finish(self):
        """Their answers: (status, body) of each."""
        for thread in self.threads:
            thread.join(180)
        assert len(self.answers) == len(self.threads), "a request was not answered"
        return list(self.answers.values())


def held(server, count, name=""):
    """Waits until that many requests are being held; the workers that hold them."""
    def found():
        files = list(server.scratch.glob(f"held.*.{name}*"))
        return {int(f.name.split(".")[1]) for f in files} if len(files) >= count else None
    return wait_until(found, f"{count} requests in handlers")


def release(server, name="go"):
    """Lets them go."""
    (server.scratch / name).touch()


def regions(server):
    """How many regions httpd's children have mapped."""
    return sum(Path(f"/proc/{pid}/maps").read_text().count("vivarium-region") for pid in server.httpd_children())


def memfds(server):
    """How many descriptors of regions and pool pages the supervisor and httpd's children have."""
    count = 0
    for pid in (server.supervisor(), *server.httpd_children()):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                count += "memfd:vivarium" in os.readlink(link)
            except FileNotFoundError:
                pass
    return count


def test_it_grows_while_requests_wait_and_not_before(make_elastic):
    server = make_elastic(0, 3, 0, threads=1)
    first = int(server.get("/pid").body)
    for _ in range(20):
        assert int(server.get("/pid").body) == first, "one worker is enough"
    assert server.workers() == [first]
    calls = Calls(server, [f"/hold?go-{n}" for n in range(5)])
    assert len(held(server, 3)) == 3, "three workers of one thread each"
    assert len(server.workers()) == 3, "and no more than three"
    release(server)
    assert {status for status, _ in calls.finish()} == {200}
    assert len(server.workers()) == 3, "with idle_s = 0 they stay"


def test_it_grows_when_one_interpreter_has_several_slow_requests(make_elastic):
    server = make_elastic(1, 2, 0, threads=16, extra=ONE_CHILD)
    (first,) = {int(server.get("/pid").body) for _ in range(5)}
    calls = Calls(server, [f"/hold?go-{n}" for n in range(6)])
    held(server, 6)
    # All are in the one worker that there is: none waits.
    wait_until(lambda: len(server.workers()) == 2 and first in server.workers(), "a second worker")
    release(server)
    assert {status for status, _ in calls.finish()} == {200}


def test_it_shrinks_and_leaves_alone_who_is_at_work(make_elastic):
    server = make_elastic(1, 3, 1, threads=1)
    calls = Calls(server, [f"/hold?go-{n}" for n in range(2)])
    keep = Calls(server, ["/hold?kept-0"])
    held(server, 3)
    (worker,) = held(server, 1, "kept")
    release(server)
    assert {status for status, _ in calls.finish()} == {200}
    wait_until(lambda: server.workers() == [worker], "the end of all idle workers")
    release(server, "kept")
    assert keep.finish() == [(200, str(worker).encode())]
    # The least number stays; it is the one that was at work.
    server.wait_log("had nothing to do and has ended", 2)
    assert server.workers() == [worker] and int(server.get("/pid").body) == worker


def test_it_sleeps_gives_its_memory_back_and_wakes(make_elastic):
    server = make_elastic(0, 2, 1)
    for turn in range(1, 4):
        before = int(server.get("/pid").body)
        assert regions(server) >= 1 and memfds(server) >= 1
        server.wait_log("pool default/.* sleeps", turn)
        wait_until(lambda: not server.workers(), "the end of all workers")
        assert not procs.alive(before)
        wait_until(lambda: not regions(server), "regions that nobody needs to be unmapped")
        wait_until(lambda: not memfds(server), "descriptors that nobody needs to be closed")
    assert server.get("/pid").status == 200


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_no_request_notices_that_its_pool_falls_asleep(make_elastic, mpm):
    server = make_elastic(0, 2, 1, mpm=mpm)
    for turn in range(8):
        # While the last worker is leaving, while the pool goes, or just after.
        line = ("has nothing to do and is asked to end", "pool default/.* sleeps")[turn % 2]
        before = len(server.log_lines(line))
        calls = Calls(server, ["/pid"] * 4)
        assert {status for status, _ in calls.finish()} == {200}
        server.wait_log(line, before + 1)
    calls = Calls(server, ["/pid"] * 4)
    assert {status for status, _ in calls.finish()} == {200}


def test_a_worker_with_a_request_between_two_phases_does_not_leave_it(make_server):
    """The access handler's interpreter has nothing to do while another one's content handler runs."""
    server = make_server()
    server.site("elastic")
    server.supervisor_config(ONE.format(min=0, max=1, idle=1, threads=2))
    server.write("inner/elastic.py", (server.htdocs / "elastic.py").read_text())
    server.add(f"""
<Directory "{server.htdocs}">
    PythonInterpPerDirective On
    PythonAccessHandler elastic::remember
    PythonLogHandler elastic::recall
</Directory>
<Directory "{server.htdocs}/inner">
    PythonHandler elastic::hold
</Directory>
""")
    server.start()
    calls = Calls(server, ["/inner/x?go"])
    (content,) = held(server, 1)
    (access,) = wait_until(lambda: [pid for pid in server.workers() if pid != content], "the access handler's worker")
    server.wait_log(rf"\(pid {access}\) has nothing to do and is asked to end")
    # It was asked long ago, and has the time that it needs.
    release(server)
    assert calls.finish() == [(200, str(content).encode())]
    recalled = wait_until(lambda: (server.scratch / "recalled").exists() and (server.scratch / "recalled").read_text().split(), "the log handler")
    assert recalled == [str(access), str(access)], "the same worker, the same object"
    wait_until(lambda: not procs.alive(access), "its end, now that nothing is left")
