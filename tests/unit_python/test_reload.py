"""Reloading: what changes, when, and what happens when it fails."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from typing import Any, List

import pytest
from fake_vivarium import Request
from fake_vivarium import run as phase_of
from sites import IMPORTING, Site, config, handler_returning, items, last_line, run, texts

from mod_python import _importer, apache


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
