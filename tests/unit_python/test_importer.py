"""Finding modules, ``sys.path``, ``import_module`` (mod_python-api.md, sections 2 and 4)."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import fake_vivarium
import pytest
from fake_vivarium import Request
from fake_vivarium import run as phase_of
from sites import IMPORTING, Site, config, handler_returning, items, last_line, run, texts

from mod_python import apache


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


def test_import_module_looks_beside_a_plainly_imported_module_of_a_section(dispatcher: Any, tmp_path: Path) -> None:
    for name, code in (("one", 201), ("two", 202)):
        site = Site(tmp_path / name)
        site.write("mod.py", handler_returning(0))
        site.write("dep.py", f"CODE = {code}\n")
        run(dispatcher, site)
    Site(tmp_path / "one").write("helper.py", "from mod_python import apache\nCODE = apache.import_module('dep').CODE\n")
    import helper  # type: ignore[import-not-found]

    assert helper.CODE == 201
    assert sys.path[0] == f"{tmp_path}/two/"
