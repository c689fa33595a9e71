"""A hundred declared tenants of which hardly any is awake: what they cost. `thousand_tenants.py` prints figures."""

import os

import pytest

from conftest import open_to_tenants, skip_where_impossible
from harness import procs
from harness.wait import wait_until

COUNT = 100


@pytest.fixture
def make_many(tmp_path):
    """Makes started sites, and takes them away."""
    skip_where_impossible()
    from many_site import ManySite  # pylint: disable=import-outside-toplevel

    open_to_tenants(tmp_path)
    made = []

    def make(count, **more):
        made.append(ManySite(count, stage=tmp_path, **more))
        made[-1].server.start()
        return made[-1]

    yield make
    for site in made:
        site.finish()


def shared(site):
    """Descriptors of regions and pool pages in supervisor and httpd's child."""
    pids = (site.server.supervisor(), *site.server.httpd_children())
    return [link for pid in pids for link in procs.fds(pid).values() if "memfd:vivarium" in link]


def asleep(site, pids):
    """Waits until these workers have gone, and all that was made for them."""
    wait_until(lambda: not any(procs.alive(pid) for pid in pids), "the workers' end")
    wait_until(lambda: not site.server.workers(), "the end of all workers")
    wait_until(lambda: not shared(site), "shared memory to be given back")
    wait_until(lambda: not site.groups(), f"the control groups to go: {site.groups()}")


def test_idle_tenants_cost_next_to_nothing(make_many):
    """Memory of the supervisor and of httpd's child with one tenant and with a hundred that nobody asks for."""
    sizes = []
    for count in (1, COUNT):
        site = make_many(count)
        wait_until(site.server.supervisor, "the supervisor")
        site.ask(0)
        assert len(site.server.workers()) == 1, "nobody else was woken"
        assert len(shared(site)) > 0
        sizes.append(site.memory())
    (supervisor, child), (supervisor_many, child_many) = sizes
    # A file that was read is a few KiB; a pool or a worker would be far more.
    assert supervisor_many - supervisor < 16 * COUNT, sizes
    assert child_many - child < 16 * COUNT, sizes


def test_tenants_wake_and_sleep_and_leave_nothing(make_many):
    """Each tenant wakes with its first request; when all sleep again nothing of them is left, however often."""
    site = make_many(COUNT, idle_s=1)
    (child,) = wait_until(site.server.httpd_children, "httpd's child")

    def count():
        return procs.fd_count(site.server.supervisor()) + procs.fd_count(child)

    first = None
    for turn in range(3):
        woken = range(turn, COUNT, 10)
        pids = {procs_of(site, n) for n in woken}
        assert len(pids) == len(woken), "each has a process of its own"
        asleep(site, pids)
        first = first or count()
        wait_until(lambda: count() <= first, "the descriptors to be as many as after the first time")


def procs_of(site, n):
    """The worker of a tenant, as the machine sees it."""
    site.ask(n)
    found = site.server.wait_log(rf"pool t{n}/main: worker 0 is up: pid (\d+)")
    return int(found[-1].rpartition("pid ")[2].split(",")[0])


def test_a_removed_tenants_group_goes_with_its_last_worker(make_many):
    """Its control group is there while it runs, and gone soon after it was removed: not only when all stops."""
    site = make_many(2)
    site.ask(0)
    site.ask(1)
    if not site.groups():
        pytest.skip("this machine has no control groups for tenants")
    assert site.groups() == {"t0", "t1"}
    (site.tenants / "t0.toml").unlink()
    site.server.allow("VIV0044", "VIV0046", "VIV0012", "VIV0020")
    os.kill(site.server.supervisor(), 1)
    wait_until(lambda: site.groups() == {"t1"}, "its group to go")
    assert site.server.get("/t0/x").status == 503
    assert site.ask(1)
