"""One tenant whose handlers all hang: who else is answered, and what its own clients get.

Nothing here is timed: clients are counted. `noisy_neighbour.py` prints times.
"""

import os
import threading

import pytest

from conftest import open_to_tenants, skip_where_impossible
from harness import client
from harness.wait import wait_until

# One child with ten threads: a declared tenant holds five of them at most.
ONE_CHILD = """
StartServers 1
ServerLimit 1
ThreadLimit 10
ThreadsPerChild 10
MaxRequestWorkers 10
MinSpareThreads 1
MaxSpareThreads 10
"""
PREFORK = """
StartServers 8
MinSpareServers 8
MaxSpareServers 8
ServerLimit 8
MaxRequestWorkers 8
"""


@pytest.fixture
def make_site(tmp_path):
    """Makes started servers, and takes them away."""
    skip_where_impossible()
    from tenant_site import TenantSite  # pylint: disable=import-outside-toplevel

    open_to_tenants(tmp_path)
    made = []

    def make(**more):
        made.append(TenantSite(stage=tmp_path, phases=False, **more))
        made[-1].server.start()
        return made[-1]

    yield make
    for site in made:
        for root in site.roots.values():
            (root / "release").touch()
        site.finish()


class Clients:
    """Requests under way, each on a thread and a connection of its own."""

    def __init__(self, site, host, count, extra="a", do="hang"):
        self.site, self.host, self.extra, self.do = site, host, extra, do
        self.answers, self.broken = [], []
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, n):
        target = f"/page?do={self.do}&root={self.site.roots[self.host]}&value={self.host}-{n}-{self.extra}"
        try:
            self.answers.append(client.request(self.site.server.port, "GET", target, host=self.host))
        except (client.Truncated, OSError) as error:
            self.broken.append(error)

    def count(self, status):
        """How many got that answer so far."""
        return sum(1 for answer in self.answers if answer.status == status)

    def release(self):
        """Lets handlers go on, and waits for all answers."""
        (self.site.roots[self.host] / "release").touch()
        for thread in self.threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self.threads)
        (self.site.roots[self.host] / "release").unlink()
        return self

    def hanging(self):
        """How many handlers have begun."""
        return len(self.site.server.log_lines(rf"hanging {self.host}-\d+-{self.extra}\b"))


def warm(site, *hosts):
    """A first answer of each: its Python is up."""
    for host in hosts:
        assert site.get(host, "/page").status == 200, site.server.log_text()[-3000:]


def test_a_hanging_tenant_leaves_the_others_their_threads(make_site, table):
    site = make_site(base=ONE_CHILD)
    warm(site, "closed", "open", "default")
    clients = Clients(site, "closed", 40)
    wait_until(lambda: clients.hanging() == 5 and clients.count(503) == 35, f"5 that hang and 35 that are refused: {clients.answers}")
    refused = next(answer for answer in clients.answers if answer.status == 503)
    assert int(refused.header("Retry-After")) >= 1
    for _ in range(100):
        assert site.get("open", "/page").status == 200
    assert clients.hanging() == 5 and clients.count(200) == 0, "they hang still"
    assert clients.release().count(200) == 5
    assert site.get("closed", "/page").status == 200, "and serves again afterwards"
    lines = site.server.log_lines("VIV0050")
    assert 1 <= len(lines) <= 3, lines
    # Without the protection: the built-in tenant takes all ten threads, and nobody is answered.
    control = Clients(site, "default", 10, "control")
    wait_until(lambda: control.hanging() == 10, "ten that hang")
    shut_out = Clients(site, "open", 1, "out", do="who")
    for _ in range(50):
        assert not shut_out.answers
        site.server.listening()
    control.release()
    assert shut_out.release().count(200) == 1
    table.append(("all handlers hang", True, "100 of 100 answers for the neighbour", "the neighbour waits until it ends"))


def test_who_waits_is_served_in_the_end(make_site):
    site = make_site(base=ONE_CHILD, tenant_text="[httpd]\nmax_threads_per_child = 1\nqueue = 2\nqueue_deadline_ms = 120000")
    warm(site, "closed")
    clients = Clients(site, "closed", 8)
    wait_until(lambda: clients.hanging() == 1 and clients.count(503) == 5, "one that hangs, two that wait, five refused")
    assert clients.release().count(200) == 3


def test_who_has_waited_too_long_is_not_started(make_site, table):
    """A place that does not come free, and a worker that has no thread free."""
    for threads, most in ((12, 1), (1, 4)):
        text = f"[httpd]\nmax_threads_per_child = {most}\nqueue = 2\nqueue_deadline_ms = 300\n"
        site = make_site(base=ONE_CHILD, tenant_text=text, threads=threads)
        warm(site, "closed")
        first = Clients(site, "closed", 1, "first")
        wait_until(lambda: first.hanging() == 1, "the first one to hang")
        late = Clients(site, "closed", 1, "late")
        wait_until(lambda: late.count(503) == 1, "the second one to be refused")
        assert late.answers[0].header("Retry-After")
        assert first.release().count(200) == 1
        warm(site, "closed")
        assert late.hanging() == 0, "it was never started"
    table.append(("requests that nobody waits for any more", True, "503, never started", "in time they are served"))


def test_all_children_together(make_site, table):
    """Eight processes with one thread each: a tenant that may have two runs in two, and holds half of them at most."""
    site = make_site(mpm="prefork", base=PREFORK, tenant_text="[httpd]\nmax_threads = 2\nqueue_deadline_ms = 120000\n")
    warm(site, "closed", "open")
    clients = Clients(site, "closed", 20)
    wait_until(lambda: clients.hanging() == 2 and clients.count(503) == 16, f"two that hang, two that wait: {clients.answers}")
    for _ in range(20):
        assert site.get("open", "/page").status == 200
    assert clients.hanging() == 2
    assert clients.release().count(200) == 4
    table.append(("all handlers hang, one thread in each process", True, "2 run, 2 wait, 16 refused", "see above"))


def test_dead_children_hold_nothing(make_site):
    """What a killed httpd child held of all children's places is free again."""
    site = make_site(mpm="prefork", base=PREFORK, tenant_text="[httpd]\nmax_threads = 2\nqueue_deadline_ms = 120000\n")
    site.server.allow_line(r"exit signal Killed")
    warm(site, "closed", "open")
    clients = Clients(site, "closed", 2)
    wait_until(lambda: clients.hanging() == 2, "two that hang")
    for pid in site.server.httpd_children():
        os.kill(pid, 9)
    for thread in clients.threads:
        thread.join(120)
    (site.roots["closed"] / "release").touch()
    wait_until(lambda: site.server.outcome("/") != "refused" and site.server.httpd_children(), "new children")
    wait_until(lambda: site.get("closed", "/page").status == 200, "the tenant to be served again")


def test_a_phase_that_takes_too_long(make_site, table):
    site = make_site(base=ONE_CHILD, tenant_text="[timeouts]\nrequest_s = 1\n")
    site.server.allow("VIV0014", "VIV0011", "VIV0021", "VIV0022", "VIV0013")
    warm(site, "closed")
    clients = Clients(site, "closed", 1)
    wait_until(lambda: clients.answers, "the answer")
    assert clients.answers[0].status == 504
    site.server.wait_log("VIV0053")
    wait_until(lambda: site.get("closed", "/page").status == 200, "the next worker")
    table.append(("a handler that never ends", True, "504, its worker is ended", "without request_s it hangs"))


def test_hanging_log_handlers_are_their_own(make_site, table):
    """What is left to do after requests has a thread of its own for each tenant."""
    site = make_site(base=ONE_CHILD, extra='<Directory "{root}">\nPythonLogHandler attack\n</Directory>')
    warm(site, "closed", "open")
    root = site.roots["closed"]
    for n in range(20):
        assert site.get("closed", f"/page?log=hang&root={root}&value=c{n}").status == 200
    site.server.wait_log("logging c0")
    for n in range(20):
        assert site.get("open", f"/page?log=plain&value=o{n}").status == 200
        site.server.wait_log(f"logging o{n}\\b")
    assert len(site.server.log_lines(r"logging c\d+")) == 1
    (root / "release").touch()
    site.server.wait_log(r"logging c\d+", 20)
    table.append(("log handlers that hang", True, "the neighbour's run", "its own wait their turn"))
