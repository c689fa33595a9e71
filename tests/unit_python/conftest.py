"""Fixtures: the fake extension, a clock that is set by hand, sites made of a few files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterator

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "interp-daemon" / "python")]

import fake_vivarium  # noqa: E402

fake_vivarium.install()

from sites import Clock, Site  # noqa: E402

from mod_python import _dispatch, _importer, apache  # noqa: E402


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves ``sys.path``, ``sys.modules`` and the fake as they were. No byte code: sites change within a second."""
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    fake_vivarium.logged.clear()
    fake_vivarium.answers.clear()
    fake_vivarium.current = None
    fake_vivarium.at_end.clear()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def importer(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[_importer.Importer]:
    made = _importer.Importer(clock)
    monkeypatch.setattr(apache, "_importer", made)
    yield made
    made.close()


@pytest.fixture
def dispatcher(importer: _importer.Importer, clock: Clock) -> _dispatch.Dispatcher:
    return _dispatch.Dispatcher(importer, clock)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def req() -> fake_vivarium.Request:
    return fake_vivarium.Request()
