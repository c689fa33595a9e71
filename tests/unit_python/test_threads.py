"""The importer with several threads. Nothing here waits for time to pass: threads meet at events."""

from __future__ import annotations

import sys
import threading
import types
from pathlib import Path
from typing import Any, List

import pytest
from fake_vivarium import Request
from fake_vivarium import run as phase_of
from sites import Site, handler_returning, items, last_line, run

from mod_python import apache

WATCHDOG = 30.0


@pytest.fixture
def gate() -> Any:
    """A module through which tests and the modules under test talk."""
    made = types.ModuleType("gate")
    made.entered = threading.Event()  # type: ignore[attr-defined]
    made.release = threading.Event()  # type: ignore[attr-defined]
    made.count = []  # type: ignore[attr-defined]
    sys.modules["gate"] = made
    return made


def start(count: int, target: Any) -> List[threading.Thread]:
    threads = [threading.Thread(target=target, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: List[threading.Thread]) -> None:
    for thread in threads:
        thread.join(WATCHDOG)
        assert not thread.is_alive()


def test_a_first_import_from_many_threads_runs_once(dispatcher: Any, site: Site, gate: Any) -> None:
    site.write(
        "mod.py",
        "import gate\ngate.count.append(1)\ngate.entered.set()\nassert gate.release.wait(30)\n" + handler_returning(201),
    )
    results: List[int] = []
    first = start(1, lambda: results.append(run(dispatcher, site)))
    assert gate.entered.wait(WATCHDOG)
    ready = threading.Barrier(4)
    others = start(3, lambda: (ready.wait(WATCHDOG), results.append(run(dispatcher, site))))
    ready.wait(WATCHDOG)
    assert results == []
    gate.release.set()
    join(first + others)
    assert results == [201] * 4
    assert gate.count == [1]


def test_first_imports_of_two_directories_at_once(dispatcher: Any, tmp_path: Path, gate: Any) -> None:
    sites = [Site(tmp_path / str(number)) for number in range(4)]
    for number, site in enumerate(sites):
        site.write("mod.py", f"import gate\ngate.count.append({number})\n" + handler_returning(201 + number))
    ready = threading.Barrier(len(sites))
    results: List[Any] = []

    def one(number: int) -> None:
        ready.wait(WATCHDOG)
        results.append((number, run(dispatcher, sites[number])))

    threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(len(sites))]
    for thread in threads:
        thread.start()
    join(threads)
    assert sorted(results) == [(n, 201 + n) for n in range(len(sites))]
    assert sorted(gate.count) == [0, 1, 2, 3]


def test_others_keep_the_old_module_while_one_reloads(
    dispatcher: Any, site: Site, clock: Any, gate: Any
) -> None:
    site.write("mod.py", handler_returning(201) + "def fixuphandler(req):\n    return 201\n")
    assert run(dispatcher, site) == 201
    site.write("mod.py", "import gate\ngate.entered.set()\nassert gate.release.wait(30)\n" + handler_returning(202))
    clock.pass_(1.5)
    results: List[int] = []
    reloading = start(1, lambda: results.append(run(dispatcher, site)))
    assert gate.entered.wait(WATCHDOG)
    for _ in range(3):
        assert run(dispatcher, site) == 201
        assert apache.import_module("mod", path=[str(site)]).handler(None) == 201
        assert phase_of(dispatcher, Request(), "PythonFixupHandler", items(site, "mod"), False) == 201
        clock.pass_(1.5)
    assert results == []
    gate.release.set()
    join(reloading)
    assert results == [202]
    assert run(dispatcher, site) == 202


def test_others_get_the_error_while_one_tries_again(
    dispatcher: Any, site: Site, clock: Any, gate: Any
) -> None:
    site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    site.write("mod.py", "raise ValueError('broken')\n")
    clock.pass_(1.5)
    assert last_line(dispatcher, site) == "ValueError: broken"
    site.write("mod.py", "import gate\ngate.entered.set()\nassert gate.release.wait(30)\n" + handler_returning(202))
    clock.pass_(1.5)
    results: List[int] = []
    reloading = start(1, lambda: results.append(run(dispatcher, site)))
    assert gate.entered.wait(WATCHDOG)
    assert last_line(dispatcher, site) == "ValueError: broken"
    gate.release.set()
    join(reloading)
    assert results == [202]
    assert run(dispatcher, site) == 202


def test_an_import_statement_waits_for_the_reload(dispatcher: Any, site: Site, clock: Any, gate: Any) -> None:
    site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    site.write(
        "mod.py", "import gate\ngate.entered.set()\nassert gate.release.wait(30)\nLATE = 1\n" + handler_returning(202)
    )
    clock.pass_(1.5)
    reloading = start(1, lambda: run(dispatcher, site))
    assert gate.entered.wait(WATCHDOG)
    seen: List[Any] = []

    def imports() -> None:
        import mod  # type: ignore[import-not-found]

        seen.append(mod.LATE)

    importing = start(1, imports)
    gate.release.set()
    join(reloading + importing)
    assert seen == [1]


def test_a_circular_import_shows_nobody_a_half_made_module(
    dispatcher: Any, importer: Any, site: Site, gate: Any
) -> None:
    site.write(
        "mod.py",
        "import gate\nfrom mod_python import apache\napache.import_module('dep')\n"
        "gate.entered.set()\nassert gate.release.wait(30)\n" + handler_returning(201),
    )
    site.write("dep.py", "from mod_python import apache\napache.import_module('mod')\n")
    results: List[int] = []
    threads = start(1, lambda: results.append(run(dispatcher, site)))
    assert gate.entered.wait(WATCHDOG)
    assert importer.managed("dep") is not None
    assert importer.managed("mod") is None
    assert not any(name == "mod" for name, _ in importer._known)
    threads += start(1, lambda: results.append(run(dispatcher, site)))
    gate.release.set()
    join(threads)
    assert results == [201, 201]
