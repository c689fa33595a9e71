"""Fixtures: the fake extension, a clock that is set by hand, and sites made of a few files."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "interp-daemon" / "python"
sys.path[:0] = [str(HERE), str(PACKAGE)]

import fake_vivarium  # noqa: E402

fake_vivarium.install()

from mod_python import _dispatch, _importer, apache  # noqa: E402


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Site:
    """A directory with modules. Every change of a file gives it another modification time."""

    times = itertools.count(1_700_000_000)

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"{self.path}/"

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.touch(name)
        return file

    def touch(self, name: str) -> None:
        moment = next(self.times)
        os.utime(self.path / name, (moment, moment))


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


def items(site: Any, *names: str, silent: bool = False, is_location: bool = False) -> Tuple[Any, ...]:
    """A handler list as the extension passes it."""
    directory = None if site is None else str(site)
    return tuple((name, directory, silent, is_location) for name in names)


def texts(lines: List[Tuple[int, str]]) -> List[str]:
    """The texts of log lines, all of which have to be errors."""
    assert all(level == apache.APLOG_ERR for level, _ in lines)
    return [text for _, text in lines]


def config(**values: str) -> Dict[str, str]:
    """A configuration table's contents."""
    return values
