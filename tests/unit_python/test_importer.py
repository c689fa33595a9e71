"""Finding modules, ``sys.path``, reloading, threads (mod_python-api.md, sections 2 and 4)."""

from __future__ import annotations

import gc
import os
import sys
import threading
import types
import weakref
from pathlib import Path
from typing import Any, List

import fake_vivarium
import pytest
from conftest import Site, config, items, texts
from fake_vivarium import Request
from fake_vivarium import run as phase_of

from mod_python import _importer, apache

WATCHDOG = 30.0


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


# --- sys.path --------------------------------------------------------------------------------------------------------


def test_a_sections_directory_comes_first_once(dispatcher: Any, site: Site) -> None:
    site.write("mod.py", handler_returning(0))
    before = list(sys.path)
    run(dispatcher, site)
    run(dispatcher, site, "mod::handler")
    assert sys.path == [str(site), *before]


def test_a_location_adds_nothing(dispatcher: Any, site: Site) -> None:
    site.write("mod.py", handler_returning(0))
    before = list(sys.path)
    req = Request()
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "mod", is_location=True), False) == 500
    assert sys.path == before


def test_python_path_replaces_and_is_evaluated_once(dispatcher: Any, site: Site, tmp_path: Path) -> None:
    site.write("mod.py", handler_returning(0))
    sys.modules["counted"] = counted = types.ModuleType("counted")
    counted.paths = lambda *more: (counted.calls.append(1), [*more, *sys.path])[1]  # type: ignore[attr-defined]
    counted.calls = []  # type: ignore[attr-defined]
    expression = f"__import__('counted').paths({str(site)!r}, os.sep + 'x', str(apache.OK), str(APLOG_ERR))"
    for number in range(3):
        other = Site(tmp_path / f"other{number}")
        req = Request(config(PythonPath=expression), number)
        assert run(dispatcher, other, "mod", req) == 0
    assert counted.calls == [1]  # type: ignore[attr-defined]
    assert sys.path[:4] == [str(site), "/x", "0", "3"]
    assert not any("other" in entry for entry in sys.path)


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("nosuch[0]", "NameError: name 'nosuch' is not defined"),
        ("'/srv/app'", "TypeError: PythonPath must be a list of directories, not str: '/srv/app'"),
        ("5", "TypeError: PythonPath must be a list of directories, not int: 5"),
        ("sys.path) +", "SyntaxError: unmatched ')'"),
    ],
)
def test_a_wrong_python_path_is_an_error_every_time(
    dispatcher: Any, site: Site, expression: str, error: str
) -> None:
    site.write("mod.py", handler_returning(0))
    before = list(sys.path)
    for _ in range(2):
        req = Request(config(PythonPath=expression))
        assert phase_of(dispatcher, req, "PythonHandler", items(site, "mod"), False) == 500
        assert texts(req.lines)[-1] == f"PythonHandler mod: {error}"
    assert sys.path == before


def test_sections_with_another_configuration_get_their_own_python_path(
    dispatcher: Any, site: Site, tmp_path: Path
) -> None:
    site.write("mod.py", "def handler(req):\n    import late\n    return late.CODE\n")
    late = Site(tmp_path / "late")
    late.write("late.py", "CODE = 201\n")
    first = Request(config(PythonPath=f"[{str(site)!r}] + sys.path"), 1)
    assert phase_of(dispatcher, first, "PythonHandler", items(None, "mod"), False) == 500
    second = Request(config(PythonPath=f"[{str(late)!r}] + sys.path"), 2)
    assert run(dispatcher, None, "mod", second) == 201


def test_a_dropped_directory_is_put_back(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", handler_returning(0))
    run(dispatcher, site)
    sys.path.remove(str(site))
    clock.pass_(1.5)
    run(dispatcher, site)
    assert sys.path[0] == str(site)


# --- names -----------------------------------------------------------------------------------------------------------


def test_modules_of_two_directories_are_two_modules(dispatcher: Any, tmp_path: Path) -> None:
    one, two, three = (Site(tmp_path / name) for name in ("one", "two", "three"))
    for code, site in ((201, one), (202, two), (203, three)):
        site.write("handler.py", handler_returning(code))
    for _ in range(2):
        assert [run(dispatcher, site, "handler") for site in (one, two, three)] == [201, 202, 203]
    import handler  # type: ignore[import-not-found]

    assert handler.handler(None) == 201
    assert sys.modules["handler"] is handler


def test_the_second_modules_own_name_works(dispatcher: Any, tmp_path: Path) -> None:
    one, two = Site(tmp_path / "one"), Site(tmp_path / "two")
    one.write("handler.py", handler_returning(0))
    two.write(
        "handler.py",
        "import dataclasses, pickle, sys\n@dataclasses.dataclass\nclass Point:\n    x: 'int' = 0\n"
        "def handler(req):\n    assert pickle.loads(pickle.dumps(Point(3))) == Point(3)\n"
        "    assert vars(sys.modules[__name__]) is globals()\n    req.ran.append(__name__)\n    return 0\n",
    )
    run(dispatcher, one, "handler")
    req = Request()
    run(dispatcher, two, "handler", req)
    assert req.ran[0].startswith("_mp_")
    assert req.ran[0].endswith("_handler")


def test_packages_of_two_directories(dispatcher: Any, tmp_path: Path) -> None:
    for name, code in (("one", 201), ("two", 202)):
        site = Site(tmp_path / name)
        site.write("app/__init__.py", "from . import views\n")
        site.write("app/views.py", f"CODE = {code}\n")
        site.write("app/main.py", "from .views import CODE\nfrom . import views\ndef handler(req):\n    return CODE\n")
        assert run(dispatcher, site, "app.main") == code
    assert sys.modules["app.main"].CODE == 201


def test_a_directorys_module_wins_over_one_that_is_loaded(dispatcher: Any, site: Site) -> None:
    import json

    site.write("json.py", handler_returning(201))
    assert run(dispatcher, site, "json") == 201
    assert sys.modules["json"] is json


def test_a_module_that_is_loaded_already_is_not_run_again(dispatcher: Any, site: Site) -> None:
    site.write("mod.py", "ran = []\nran.append(1)\n" + handler_returning(201))
    sys.path.insert(0, str(site))
    import mod  # type: ignore[import-not-found]

    mod.mark = 1
    assert run(dispatcher, site) == 201
    assert sys.modules["mod"] is mod


def test_what_is_not_in_the_directory_is_found_on_the_path(dispatcher: Any, site: Site, tmp_path: Path) -> None:
    lib = Site(tmp_path / "lib")
    lib.write("shared.py", handler_returning(201))
    sys.path.append(str(lib))
    assert run(dispatcher, site, "shared") == 201
    assert sys.modules["shared"].handler(None) == 201


def test_a_directory_without_init_does_not_hide_a_package(dispatcher: Any, site: Site, tmp_path: Path) -> None:
    lib = Site(tmp_path / "lib")
    lib.write("app/__init__.py", handler_returning(201))
    sys.path.append(str(lib))
    (site.path / "app").mkdir()
    assert run(dispatcher, site, "app") == 201


def test_a_module_that_replaces_itself(dispatcher: Any, site: Site, clock: Any) -> None:
    source = (
        "import sys\nclass Replacement:\n    __file__ = __file__\n    def handler(self, req):\n        return {}\n"
        "sys.modules[__name__] = Replacement()\n"
    )
    site.write("mod.py", source.format(201))
    assert run(dispatcher, site) == 201
    assert run(dispatcher, site) == 201
    site.write("mod.py", source.format(202))
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202


def test_circular_imports(dispatcher: Any, site: Site) -> None:
    site.write("mod.py", "from mod_python import apache\nother = apache.import_module('other')\n" + handler_returning(201))
    site.write("other.py", "from mod_python import apache\nback = apache.import_module('mod')\n")
    assert run(dispatcher, site) == 201
    assert sys.modules["other"].back is sys.modules["mod"]


@pytest.mark.parametrize("name", ["{}/lib/mod.py", "{}/lib/mod", "./lib/mod", "~/lib/mod.py", "../site/lib/mod", "{}/lib/pkg", "./lib/pkg"])
def test_modules_by_path(dispatcher: Any, site: Site, name: str) -> None:
    site.write("lib/mod.py", handler_returning(201))
    site.write("lib/pkg/__init__.py", "from .inner import CODE\n" + handler_returning(201))
    site.write("lib/pkg/inner.py", "CODE = 201\n")
    assert run(dispatcher, site, name.format(site.path)) == 201


def test_paths_that_lead_nowhere(dispatcher: Any, site: Site) -> None:
    assert last_line(dispatcher, site, "./nope") == f"ModuleNotFoundError: No module at '{site.path}/nope.py'"
    assert "is a relative path" in last_line(dispatcher, None, "./nope")


# --- reloading -------------------------------------------------------------------------------------------------------


def test_a_changed_file_is_loaded_anew_after_a_second(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", handler_returning(201))
    assert run(dispatcher, site) == 201
    old = sys.modules["mod"]
    site.write("mod.py", handler_returning(202))
    clock.pass_(0.9)
    assert run(dispatcher, site) == 201
    clock.pass_(0.2)
    assert run(dispatcher, site) == 202
    assert sys.modules["mod"] is not old
    assert old.handler(None) == 201


def test_an_older_file_is_a_change_too(dispatcher: Any, site: Site, clock: Any) -> None:
    file = site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    file.write_text(handler_returning(202))
    os.utime(file, (1000, 1000))
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202


def test_an_unchanged_file_is_not(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    old = sys.modules["mod"]
    for _ in range(3):
        clock.pass_(1.5)
        run(dispatcher, site)
    assert sys.modules["mod"] is old


def test_byte_code_of_the_same_second_is_not_trusted(
    dispatcher: Any, site: Site, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = site.write("mod.py", handler_returning(201))
    stamp = os.stat(file).st_mtime
    assert run(dispatcher, site) == 201
    file.write_text(handler_returning(202))
    os.utime(file, (stamp, stamp + 0.25))
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202


def test_a_deleted_file_goes_on_serving(dispatcher: Any, site: Site, clock: Any) -> None:
    file = site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    file.unlink()
    clock.pass_(1.5)
    assert run(dispatcher, site) == 201
    site.write("mod.py", handler_returning(202))
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202


def test_files_are_looked_at_once_a_second(
    dispatcher: Any, site: Site, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("mod.py", handler_returning(0) + "def loghandler(req):\n    return 0\n")
    run(dispatcher, site)
    looked: List[str] = []
    real = _importer.stamp_of
    monkeypatch.setattr(_importer, "stamp_of", lambda file: (looked.append(file), real(file))[1])
    for _ in range(40):
        clock.pass_(0.1)
        run(dispatcher, site)
        assert phase_of(dispatcher, Request(), "PythonLogHandler", items(site, "mod"), False) == 0
    assert 3 <= len(looked) <= 4


def test_python_auto_reload_off(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", handler_returning(201))
    req = Request(config(PythonAutoReload="0"))
    assert run(dispatcher, site, "mod", req) == 201
    site.write("mod.py", handler_returning(202))
    clock.pass_(1.5)
    assert run(dispatcher, site, "mod", req) == 201
    req.config["PythonAutoReload"] = "1"
    clock.pass_(1.5)
    assert run(dispatcher, site, "mod", req) == 202


def test_a_reload_serves_all_phases_at_once(dispatcher: Any, site: Site, clock: Any) -> None:
    source = "def handler(req):\n    return {0}\ndef fixuphandler(req):\n    return {0}\n"
    site.write("mod.py", source.format(201))
    run(dispatcher, site)
    clock.pass_(0.5)
    fixup = lambda: phase_of(dispatcher, Request(), "PythonFixupHandler", items(site, "mod"), False)  # noqa: E731
    assert fixup() == 201
    site.write("mod.py", source.format(202))
    clock.pass_(0.6)
    assert run(dispatcher, site) == 202
    assert fixup() == 202


def test_a_failed_reload_is_reported_until_it_works(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    old = sys.modules["mod"]
    site.write("mod.py", "import sys\nsys.tries = getattr(sys, 'tries', 0) + 1\nraise ValueError('broken')\n")
    clock.pass_(1.5)
    try:
        for expected in (1, 1, 2, 2):
            assert last_line(dispatcher, site) == "ValueError: broken"
            assert sys.tries == expected  # type: ignore[attr-defined]
            clock.pass_(0.6)
    finally:
        del sys.tries  # type: ignore[attr-defined]
    assert sys.modules["mod"] is old
    site.write("mod.py", "def handler(req:\n")
    clock.pass_(1.5)
    assert last_line(dispatcher, site).startswith("SyntaxError: ")
    site.write("mod.py", handler_returning(203))
    clock.pass_(1.5)
    assert run(dispatcher, site) == 203


def test_a_failed_reload_that_lacked_another_file_is_tried_again(
    dispatcher: Any, site: Site, clock: Any
) -> None:
    site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    site.write("mod.py", "import needed\n" + handler_returning(202))
    clock.pass_(1.5)
    assert last_line(dispatcher, site) == "ModuleNotFoundError: No module named 'needed'"
    site.write("needed.py", "")
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202


def test_a_failed_first_import_is_tried_at_every_request(dispatcher: Any, site: Site) -> None:
    site.write("mod.py", "raise ValueError('broken')\n")
    for _ in range(2):
        assert last_line(dispatcher, site) == "ValueError: broken"
    assert "mod" not in sys.modules
    site.write("mod.py", handler_returning(201))
    assert run(dispatcher, site) == 201
    assert last_line(dispatcher, site, "new") == "ModuleNotFoundError: No module named 'new'"
    site.write("new.py", handler_returning(202))
    assert run(dispatcher, site, "new") == 202


def test_reloading_leaves_sys_modules_name_usable(dispatcher: Any, site: Site, clock: Any) -> None:
    source = "import sys\nsetattr(sys.modules[__name__], 'CODE', {})\ndef handler(req):\n    return CODE\n"
    site.write("mod.py", source.format(201))
    assert run(dispatcher, site) == 201
    site.write("mod.py", source.format(202))
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202


IMPORTING = "from mod_python import apache\ndep = apache.import_module({!r})\ndef handler(req):\n    return dep.CODE\n"


def test_a_changed_dependency(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", IMPORTING.format("dep"))
    site.write("dep.py", "from mod_python import apache\nCODE = apache.import_module('deeper').CODE\n")
    site.write("deeper.py", "CODE = 201\n")
    assert run(dispatcher, site) == 201
    site.write("deeper.py", "CODE = 202\n")
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202
    site.write("dep.py", "CODE = 203\n")
    clock.pass_(1.5)
    assert run(dispatcher, site) == 203
    site.write("deeper.py", "CODE = 204\n")
    old = sys.modules["mod"]
    clock.pass_(1.5)
    assert run(dispatcher, site) == 203
    assert sys.modules["mod"] is old


def test_a_dependency_that_breaks_and_is_mended(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", IMPORTING.format("dep"))
    site.write("dep.py", "CODE = 201\n")
    assert run(dispatcher, site) == 201
    site.write("dep.py", "CODE = 1 / 0\n")
    for _ in range(3):
        clock.pass_(1.5)
        assert last_line(dispatcher, site) == "ZeroDivisionError: division by zero"
    site.write("dep.py", "CODE = 202\n")
    clock.pass_(1.5)
    assert run(dispatcher, site) == 202


def test_circular_dependencies_that_break_and_are_mended(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", IMPORTING.format("dep"))
    dep = "from mod_python import apache\nback = apache.import_module('mod')\nCODE = {}\n"
    site.write("dep.py", dep.format("201"))
    assert run(dispatcher, site) == 201
    site.write("dep.py", dep.format("1 / 0"))
    clock.pass_(1.5)
    assert last_line(dispatcher, site) == "ZeroDivisionError: division by zero"
    site.write("dep.py", dep.format("202"))
    for _ in range(3):
        clock.pass_(1.5)
        req = Request()
        phase_of(dispatcher, req, "PythonHandler", items(site, "mod"), False)
    assert run(dispatcher, site) == 202


def test_a_plain_import_is_no_dependency(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("mod.py", "import dep\ndef handler(req):\n    return dep.CODE\n")
    site.write("dep.py", "CODE = 201\n")
    assert run(dispatcher, site) == 201
    site.write("dep.py", "CODE = 202\n")
    clock.pass_(1.5)
    assert run(dispatcher, site) == 201


def test_packages(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("pkg/__init__.py", "CODE = 201\n")
    site.write("pkg/sub/__init__.py", "")
    site.write("pkg/other.py", "ran = 1\n")
    site.write("pkg/sub/mod.py", "import pkg\nimport pkg.other\ndef handler(req):\n    return pkg.CODE\n")
    assert run(dispatcher, site, "pkg.sub.mod") == 201
    package = sys.modules["pkg"]
    site.write("pkg/__init__.py", "CODE = 202\n")
    clock.pass_(1.5)
    assert run(dispatcher, site, "pkg.sub.mod") == 202
    new = sys.modules["pkg"]
    assert new is not package
    assert new.other is sys.modules["pkg.other"]
    assert new.sub is sys.modules["pkg.sub"]
    assert new.sub.mod is sys.modules["pkg.sub.mod"]
    site.write("pkg/sub/mod.py", handler_returning(203))
    clock.pass_(1.5)
    assert run(dispatcher, site, "pkg.sub.mod") == 203
    assert sys.modules["pkg"] is new


def test_own_modules_are_never_reloaded(dispatcher: Any, clock: Any, importer: Any) -> None:
    entry = importer.load("mod_python.version")
    assert entry.file is None
    assert entry.module is sys.modules["mod_python.version"]


def test_a_module_dropped_from_sys_modules_is_imported_again(dispatcher: Any, site: Site) -> None:
    site.write("mod.py", handler_returning(201))
    old = apache.import_module("mod", path=[str(site)])
    del sys.modules["mod"]
    assert apache.import_module("mod", path=[str(site)]) is not old
    assert sys.modules["mod"] is not old


# --- import_module ---------------------------------------------------------------------------------------------------


def test_import_module_looks_beside_the_handler_first(dispatcher: Any, tmp_path: Path) -> None:
    for name, code in (("one", 201), ("two", 202)):
        site = Site(tmp_path / name)
        site.write("mod.py", IMPORTING.format("dep"))
        site.write("dep.py", f"CODE = {code}\n")
        assert run(dispatcher, site) == code


def test_import_module_by_path(dispatcher: Any, site: Site) -> None:
    site.write("sub/mod.py", IMPORTING.format("./dep"))
    site.write("sub/dep.py", "CODE = 201\n")
    assert run(dispatcher, site, "./sub/mod") == 201
    site.write("home.py", IMPORTING.format("~/top"))
    site.write("top.py", "CODE = 202\n")
    assert run(dispatcher, site, "home") == 202


def test_import_module_gives_the_latest(importer: Any, site: Site, clock: Any) -> None:
    site.write("dep.py", "CODE = 201\n")
    sys.path.insert(0, str(site))
    assert apache.import_module("dep").CODE == 201
    site.write("dep.py", "CODE = 202\n")
    clock.pass_(1.5)
    assert apache.import_module("dep", autoreload=0).CODE == 201
    assert apache.import_module("dep").CODE == 202
    assert fake_vivarium.logged == []


def test_import_module_logs(importer: Any, site: Site, clock: Any) -> None:
    site.write("dep.py", "CODE = 201\n")
    for _ in range(2):
        apache.import_module("dep", log=1, path=[str(site)])
    line = (apache.APLOG_NOTICE, "mod_python: (Re)importing module 'dep'")
    assert fake_vivarium.logged == [line]
    site.touch("dep.py")
    clock.pass_(1.5)
    apache.import_module("dep", log=1, path=[str(site)])
    assert fake_vivarium.logged == [line] * 2


def test_a_debugging_handler_logs_its_import(dispatcher: Any, site: Site, tmp_path: Path) -> None:
    for name in ("one", "two"):
        other = Site(tmp_path / name)
        other.write("mod.py", handler_returning(0))
        phase_of(dispatcher, Request(), "PythonHandler", items(other, "mod"), True)
    assert fake_vivarium.logged == [(apache.APLOG_NOTICE, "mod_python: (Re)importing module 'mod'")] * 2


def test_import_module_path_comes_before_sys_path(importer: Any, tmp_path: Path) -> None:
    one, two = Site(tmp_path / "one"), Site(tmp_path / "two")
    one.write("dep.py", "CODE = 201\n")
    two.write("dep.py", "CODE = 202\n")
    sys.path.insert(0, str(one))
    assert apache.import_module("dep").CODE == 201
    assert apache.import_module("dep", path=[str(two)]).CODE == 202
    assert apache.import_module("dep").CODE == 201
    assert apache.import_module("json.decoder", path=["/nowhere"]) is sys.modules["json.decoder"]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("nosuchmodule", ModuleNotFoundError, "No module named 'nosuchmodule'"),
        ("", ValueError, "Empty module name"),
        (".relative", TypeError, "relative import"),
        ("json.decoder.nope", ModuleNotFoundError, "'json.decoder' is not a package"),
    ],
)
def test_import_module_errors(importer: Any, name: str, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        apache.import_module(name)


# --- threads ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("error", ["ValueError('broken')", "Odd(1, 2)"])
def test_a_kept_error_keeps_its_text_and_no_request(
    dispatcher: Any, site: Site, clock: Any, error: str
) -> None:
    site.write("mod.py", handler_returning(201))
    run(dispatcher, site)
    file = site.write(
        "mod.py",
        "class Odd(Exception):\n    def __init__(self, one, two):\n        super().__init__('broken')\n"
        f"try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise {error}\n",
    )
    clock.pass_(1.5)
    reports = []
    for _ in range(3):
        req = Request()
        assert phase_of(dispatcher, req, "PythonHandler", items(site, "mod"), False) == 500
        reports.append(texts(req.lines))
        kept = weakref.ref(req)
        del req
        gc.collect()
        assert kept() is None
    assert reports[0] == reports[1] == reports[2]
    assert sum(f'File "{file}", line' in line for line in reports[0]) == 2
    assert "ZeroDivisionError" in "".join(reports[0])
    assert reports[0][-1].endswith("broken")
