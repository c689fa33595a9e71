"""The conformance suite: every row of mod_python's core API, on Vivarium and on Debian's mod_python.

Run it with `/usr/bin/python3 -m pytest tests/conformance`; `--write-compatibility` writes docs/compatibility.md.
"""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parents[1] / "scripts")]

from cases import GROUPS  # noqa: E402  pylint: disable=wrong-import-position
from devlib import artefacts  # noqa: E402  pylint: disable=wrong-import-position
from suite import report  # noqa: E402  pylint: disable=wrong-import-position
from suite.runner import Servers  # noqa: E402  pylint: disable=wrong-import-position

MPMS = ("event", "worker", "prefork")
SERVERS = pytest.StashKey()
OUTCOMES = pytest.StashKey()


def pytest_addoption(parser):
    group = parser.getgroup("conformance")
    group.addoption("--write-compatibility", action="store_true", help="write docs/compatibility.md")
    group.addoption("--mpm", action="append", choices=MPMS, help="only this process model of httpd")


def pytest_configure(config):
    config.stash[OUTCOMES] = {}
    if config.getoption("--write-compatibility"):
        report.PAGE.write_text(report.page(GROUPS))


def pytest_generate_tests(metafunc):
    if {"mpm", "group", "case"} <= set(metafunc.fixturenames):
        wanted = metafunc.config.getoption("--mpm") or MPMS
        rows = [
            pytest.param(mpm, group, case, id=f"{group.name}-{mpm}-{case.id}")
            for group in GROUPS for mpm in MPMS if mpm in wanted for case in group.cases if mpm in case.mpms
        ]
        metafunc.parametrize("mpm, group, case", rows)
    elif "mpm" in metafunc.fixturenames:
        metafunc.parametrize("mpm", metafunc.config.getoption("--mpm") or MPMS)


@pytest.fixture(scope="session")
def servers():
    """The servers. They run a copy of the build, so that a build in the meantime does no harm."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: processes that lose their parent become ours
    with tempfile.TemporaryDirectory(prefix="vivarium-stage.") as folder:
        os.chmod(folder, 0o755)
        given = os.environ.get("VIVARIUM_MODULE")
        if not given:
            os.environ["VIVARIUM_MODULE"] = str(artefacts.copy_build(Path(folder)))
        made = Servers(Path(folder))
        try:
            yield made
        finally:
            made.finish()
            if not given:
                del os.environ["VIVARIUM_MODULE"]
    assert not made.troubles, "\n".join(made.troubles)


@pytest.fixture
def outcomes(request):
    """Where a test notes how its case came out."""
    return request.config.stash[OUTCOMES]


def pytest_terminal_summary(terminalreporter, config):
    outcomes = config.stash[OUTCOMES]
    if outcomes:
        terminalreporter.section("conformance")
        for line in report.summary(GROUPS, outcomes):
            terminalreporter.write_line(line)
