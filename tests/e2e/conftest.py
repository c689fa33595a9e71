"""Fixtures of the end-to-end tests."""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts")]

from harness import Server, procs, wait_until  # noqa: E402  pylint: disable=wrong-import-position

# VIVARIUM_E2E_FLAVOUR=mod_python runs the tests marked `compat` against Debian's mod_python, to compare.
FLAVOUR = os.environ.get("VIVARIUM_E2E_FLAVOUR", "vivarium")
MPMS = ("event", "worker", "prefork")


def pytest_configure(config):
    config.addinivalue_line("markers", "compat: mod_python behaves the same")


@pytest.fixture(scope="session", autouse=True)
def adopt_orphans():
    """Processes that lose their parent become ours, so that none can get out of sight; at the end there is none."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    yield

    def all_gone():
        for pid in procs.children(os.getpid()):
            procs.reap(pid)
        return not procs.children(os.getpid())

    wait_until(all_gone, f"the end of {[procs.cmdline(p) for p in procs.children(os.getpid())]}")


@pytest.fixture(scope="session")
def stage():
    """Where a copy of the build goes if Python's user cannot read the build tree."""
    with tempfile.TemporaryDirectory(prefix="vivarium-stage.") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="module", params=MPMS)
def mpm(request):
    """Each of httpd's process models."""
    return request.param


@pytest.fixture(scope="module")
def web(request, mpm, stage):
    """A server for all tests of a module, one for each MPM: it serves tests/e2e/handlers/X.py for test_X.py.

    The module may define `configure(server)` to add configuration.
    """
    server = Server(mpm=mpm, flavour=FLAVOUR, stage=stage)
    try:
        name = request.module.__name__.removeprefix("test_")
        configure = getattr(request.module, "configure", None)
        if configure:
            configure(server)
        else:
            server.site(name)
        yield server.start()
    finally:
        server.finish()


@pytest.fixture
def make_server(stage):
    """Makes servers of a test's own: `make_server(mpm="event")`; they are not started."""
    made = []

    def make(**more):
        made.append(Server(**{"flavour": FLAVOUR, "stage": stage, **more}))
        return made[-1]

    yield make
    errors = []
    for server in made:
        try:
            server.finish()
        except (AssertionError, TimeoutError) as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)
