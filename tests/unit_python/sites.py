"""What the tests share."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

from fake_vivarium import Request
from fake_vivarium import run as phase_of

from mod_python import apache

#: The package under test.
PACKAGE = Path(__file__).resolve().parents[2] / "interp-daemon" / "python"

IMPORTING = "from mod_python import apache\ndep = apache.import_module({!r})\ndef handler(req):\n    return dep.CODE\n"


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


def handler_returning(code: int) -> str:
    return f"def handler(req):\n    return {code}\n"


def run(dispatcher: Any, site: Any, name: str = "mod", req: Any = None, **kind: bool) -> int:
    req = Request() if req is None else req
    result = phase_of(dispatcher, req, "PythonHandler", items(site, name, **kind), False)
    if result == 500:
        raise AssertionError("\n".join(texts(req.lines)))
    return result  # type: ignore[no-any-return]


def last_line(dispatcher: Any, site: Any, name: str = "mod") -> str:
    """The last line that a failing handler logs, less its title."""
    req = Request()
    assert phase_of(dispatcher, req, "PythonHandler", items(site, name), False) == 500
    return texts(req.lines)[-1].removeprefix(f"PythonHandler {name}: ")
