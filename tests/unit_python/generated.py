"""How the tests that generate their input run: the same examples every time, and no files in the source tree."""

from __future__ import annotations

import atexit
import tempfile

import pytest

pytest.importorskip("hypothesis", reason="python3-hypothesis is not installed: scripts/setup test")

from hypothesis import HealthCheck, configuration, settings  # noqa: E402

_home = tempfile.TemporaryDirectory(prefix="vivarium-hypothesis.")
atexit.register(_home.cleanup)
configuration.set_hypothesis_home_dir(_home.name)

#: A failure must be the fault of the change that is tested, not of chance.
common = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)
