"""The attack suite's stage and its table."""

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPO / "tests" / "e2e"), str(REPO / "scripts")]

ROWS = []


def why_not():
    """What keeps the suite from running here, if anything."""
    if os.geteuid() != 0:
        return "only root can become tenants and make the users vivtest-*"
    if not shutil.which("useradd", path="/usr/sbin:/sbin"):
        return "there is no useradd to make the users vivtest-*"
    for name in ("vivariumd", "vivarium"):
        if not (REPO / "target" / "release" / name).exists():
            return f"target/release/{name} is not built: cargo build --release --workspace"
    return None


def skip_where_impossible():
    """Skips the test where the suite cannot run, and says why."""
    reason = why_not()
    if reason:
        pytest.skip(reason)


def open_to_tenants(stage):
    """Lets tenants' users reach a folder of pytest's, which makes them for its own user alone."""
    for path in (stage, *stage.parents):
        if path != path.parent and path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o005:
            os.chmod(path, 0o755)


@pytest.fixture(scope="session")
def arena():
    """Two tenants, a supervisor, and what stands for httpd."""
    skip_where_impossible()
    from arena import Arena  # pylint: disable=import-outside-toplevel

    stage = Arena()
    try:
        stage.build()
        yield stage
    finally:
        stage.destroy()


@pytest.fixture
def table():
    """Where each attack notes how it went: (title, held, how, what the control did)."""
    return ROWS


def pytest_terminal_summary(terminalreporter):
    """Prints the table."""
    if not ROWS:
        return
    terminalreporter.section("attacks")
    width = max(len(row[0]) for row in ROWS)
    for title, held, how, control in ROWS:
        terminalreporter.write_line(f"{title:<{width}}  {'held' if held else 'LOST'}  {how[:70]:<70}  without: {control[:50]}")
    terminalreporter.write_line(f"{sum(row[1] for row in ROWS)} of {len(ROWS)} held")
