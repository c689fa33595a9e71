"""Handler strings, the phases' rules, added handlers, ``hlist`` (mod_python-api.md, section 2)."""

from __future__ import annotations

import sys
from typing import Any, List

import pytest
from fake_vivarium import Request
from fake_vivarium import run as phase_of
from sites import Site, items, texts

from mod_python import apache

STACK = """
def _make(name, result):
    def function(req):
        req.ran.append(name)
        return result
    return function
ok, declined, done, forbidden = (_make(*x) for x in (("ok", 0), ("declined", -1), ("done", -2), ("forbidden", 403)))
last = _make("last", 0)
last_declined = _make("last_declined", -1)
"""

ALL_RUN = ["PostReadRequest", "HeaderParser", "Init", "Access", "Fixup", "Log"]
FIRST_DECIDES = ["Trans", "Authen", "Authz", "Type"]
WHILE_OK = ["", "Cleanup"]


def stacking() -> List[Any]:
    rows = []
    for phases, go_on in ((ALL_RUN, {"ok", "declined"}), (FIRST_DECIDES, {"declined"}), (WHILE_OK, {"ok"})):
        for phase in phases:
            for first, code in (("ok", 0), ("declined", -1), ("done", -2), ("forbidden", 403)):
                rows.append((f"Python{phase}Handler", first, code, first in go_on))
    return rows


@pytest.mark.parametrize(("phase", "first", "code", "goes_on"), stacking())
def test_which_results_let_a_phase_go_on(
    dispatcher: Any, site: Site, req: Request, phase: str, first: str, code: int, goes_on: bool
) -> None:
    site.write("stack.py", STACK)
    result = phase_of(dispatcher, req, phase, items(site, f"stack::{first}", "stack::last_declined"), False)
    assert req.ran == [first, "last_declined"] if goes_on else [first]
    assert result == (-1 if goes_on else code)
    assert req.lines == []


@pytest.mark.parametrize(
    ("phase", "function"),
    [
        ("PythonPostReadRequestHandler", "postreadrequesthandler"),
        ("PythonTransHandler", "transhandler"),
        ("PythonHeaderParserHandler", "headerparserhandler"),
        ("PythonInitHandler", "inithandler"),
        ("PythonAccessHandler", "accesshandler"),
        ("PythonAuthenHandler", "authenhandler"),
        ("PythonAuthzHandler", "authzhandler"),
        ("PythonTypeHandler", "typehandler"),
        ("PythonFixupHandler", "fixuphandler"),
        ("PythonHandler", "handler"),
        ("PythonLogHandler", "loghandler"),
        ("PythonCleanupHandler", "cleanuphandler"),
    ],
)
def test_default_function_of_a_phase(
    dispatcher: Any, site: Site, req: Request, phase: str, function: str
) -> None:
    site.write("default.py", f"def {function}(req):\n    req.ran.append(__name__)\n    return 0\n")
    assert phase_of(dispatcher, req, phase, items(site, "default"), False) == 0
    assert req.ran == ["default"]


OBJECTS = """
import os
class Instance:
    def method(self, req):
        req.ran.append("method")
        return 0
    def __call__(self, req):
        req.ran.append("call")
        return 0
instance = Instance()
class Made:
    value = 5
    def __init__(self, req):
        req.ran.append("made")
        self.req = req
    def method(self, req):
        req.ran.append(("method", self.req is req))
        return 0
    @staticmethod
    def static(req):
        req.ran.append("static")
        return 0
    @classmethod
    def of_class(cls, req):
        req.ran.append("of_class")
        return 0
    @property
    def found(self):
        return lambda req: (req.ran.append("property"), 0)[1]
    class Inner:
        def __init__(self, req):
            req.ran.append("inner")
        def method(self, req):
            req.ran.append("method")
            return 0
class NoArgument:
    def method(self, req):
        return 0
empty = None
number = 5
"""


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("objects::instance", ["call"]),
        ("objects::instance.method", ["method"]),
        ("objects::Made.method", ["made", ("method", True)]),
        ("objects::Made.static", ["made", "static"]),
        ("objects::Made.of_class", ["made", "of_class"]),
        ("objects::Made.found", ["made", "property"]),
        ("objects::Made.Inner.method", ["made", "inner", "method"]),
    ],
)
def test_objects_with_dots(dispatcher: Any, site: Site, req: Request, name: str, ran: List[Any]) -> None:
    site.write("objects.py", OBJECTS)
    for times in (1, 2):
        assert phase_of(dispatcher, req, "PythonHandler", items(site, name), False) == 0
        assert req.ran == ran * times


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("objects::nope", "AttributeError: module '{}' contains no 'nope'"),
        ("objects", "AttributeError: module '{}' contains no 'handler'"),
        ("objects::", "AttributeError: module '{}' contains no ''"),
        ("objects::Made::method", "AttributeError: module '{}' contains no 'Made::method'"),
        ("objects::Made.nope", "AttributeError: type object 'Made' has no attribute 'nope'"),
        ("objects::Made..method", "AttributeError: type object 'Made' has no attribute ''"),
        ("objects::instance.nope", "AttributeError: 'Instance' object has no attribute 'nope'"),
        ("objects::NoArgument.method", "TypeError: NoArgument() takes no arguments"),
        ("objects::Made.value", "TypeError: 'int' object is not callable"),
        ("objects::number", "TypeError: 'int' object is not callable"),
        ("objects::empty", "TypeError: 'NoneType' object is not callable"),
        ("objects::os.getpid", "TypeError: posix.getpid() takes no arguments (1 given)"),
        ("nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("nosuchpackage.module", "ModuleNotFoundError: No module named 'nosuchpackage'"),
        ("json.nosuchmodule", "ModuleNotFoundError: No module named 'json.nosuchmodule'"),
    ],
)
def test_what_cannot_be_resolved_is_500(
    dispatcher: Any, site: Site, req: Request, name: str, error: str
) -> None:
    file = site.write("objects.py", OBJECTS)
    for _ in range(2):
        req.lines.clear()
        assert phase_of(dispatcher, req, "PythonHandler", items(site, name), False) == 500
        lines = texts(req.lines)
        assert lines[0] == f"PythonHandler {name}: Traceback (most recent call last):"
        assert lines[-1] == f"PythonHandler {name}: " + error.format(file)
        assert not any("_dispatch.py" in line or "importlib" in line for line in lines)


def test_a_class_called_itself_gives_no_integer(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("objects.py", OBJECTS)
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "objects::Made"), False) == 500
    assert texts(req.lines)[-1].endswith("was <class 'objects.Made'>, whereas expected <class 'int'>.")


def test_a_name_assigned_anew_is_seen_at_once(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("anew.py", "def handler(req):\n    return 0\n")
    handlers = items(site, "anew")
    assert phase_of(dispatcher, req, "PythonHandler", handlers, False) == 0
    sys.modules["anew"].handler = lambda req: 403
    assert phase_of(dispatcher, req, "PythonHandler", handlers, False) == 403


def test_silent_handlers_are_skipped_where_a_function_is_missing(
    dispatcher: Any, site: Site, req: Request
) -> None:
    site.write("quiet.py", "def handler(req):\n    req.ran.append('handler')\n    return 0\nloghandler = None\n")
    site.write("other.py", "def fixuphandler(req):\n    req.ran.append('fixup')\n    return 403\n")
    handlers = items(site, "quiet", "other", silent=True)
    assert phase_of(dispatcher, req, "PythonHandler", handlers, False) == 0
    assert phase_of(dispatcher, req, "PythonFixupHandler", handlers, False) == 403
    assert phase_of(dispatcher, req, "PythonAuthenHandler", handlers, False) == apache.DECLINED
    assert phase_of(dispatcher, req, "PythonLogHandler", handlers, False) == apache.DECLINED
    assert phase_of(dispatcher, req, "PythonFixupHandler", items(site, "quiet::a.b", silent=True), False) == -1
    assert req.ran == ["handler", "fixup"]
    assert req.lines == []


def test_silent_does_not_hide_a_missing_module(dispatcher: Any, site: Site, req: Request) -> None:
    handlers = items(site, "nosuchmodule", silent=True)
    assert phase_of(dispatcher, req, "PythonAccessHandler", handlers, False) == 500


def test_no_handlers_at_all_decline(dispatcher: Any, req: Request) -> None:
    assert phase_of(dispatcher, req, "PythonHandler", (), False) == apache.DECLINED


ADDING = """
def first(req):
    req.add_handler("PythonHandler", "adding::added")
    req.add_handler("PythonLogHandler", "adding::logged")
    req.ran.append("first")
    return req.result
def second(req):
    req.ran.append("second")
    return 0
def added(req):
    req.ran.append("added")
    if len(req.ran) < 5:
        req.add_handler("PythonHandler", "adding::second")
    return 0
def logged(req):
    req.ran.append("logged")
    return 0
"""


def test_add_handler_to_the_running_phase_and_to_a_later_one(
    dispatcher: Any, site: Site, req: Request
) -> None:
    site.write("adding.py", ADDING)
    req.result = 0
    handlers = items(site, "adding::first", "adding::second")
    assert phase_of(dispatcher, req, "PythonHandler", handlers, False) == 0
    assert req.ran == ["first", "second", "added", "second"]
    assert phase_of(dispatcher, req, "PythonLogHandler", (), False) == 0
    assert req.ran[4:] == ["logged"]


def test_added_handlers_do_not_run_when_the_list_has_ended(
    dispatcher: Any, site: Site, req: Request
) -> None:
    site.write("adding.py", ADDING)
    req.result = 403
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "adding::first"), False) == 403
    assert req.ran == ["first"]


def test_added_directory_is_searched(dispatcher: Any, site: Site, req: Request, tmp_path: Any) -> None:
    site.write("adding.py", "def handler(req):\n    req.add_handler('PythonHandler', 'elsewhere', req.dir)\n    return 0\n")
    other = Site(tmp_path / "other")
    other.write("elsewhere.py", "def handler(req):\n    req.ran.append(req.hlist.directory)\n    return 0\n")
    req.dir = str(other)
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "adding"), False) == 0
    assert req.ran == [str(other)]


HLIST = """
def show(req):
    h = req.hlist
    req.ran.append((h.handler, h.directory, h.silent, h.is_location))
    return 0
def skip(req):
    show(req)
    req.hlist.next()
    show(req)
    return 0
def to_the_end(req):
    for _ in range(5):
        req.hlist.next()
    return show(req)
"""


def test_hlist_shows_the_running_handler(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("hlist.py", HLIST)
    handlers = items(site, "hlist::show") + (("hlist::show", None, True, False), ("hlist::show", "/loc", False, True))
    assert phase_of(dispatcher, req, "PythonHandler", handlers, False) == 0
    assert req.ran == [
        ("hlist::show", str(site), 0, 0),
        ("hlist::show", None, 1, 0),
        ("hlist::show", "/loc", 0, 1),
    ]
    assert req.hlist is None


def test_hlist_next_skips_a_handler(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("hlist.py", HLIST)
    handlers = items(site, "hlist::skip", "hlist::nope", "hlist::show")
    assert phase_of(dispatcher, req, "PythonHandler", handlers, False) == 0
    assert [item[0] for item in req.ran] == ["hlist::skip", "hlist::nope", "hlist::show"]


def test_hlist_is_all_none_at_its_end(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("hlist.py", HLIST)
    handlers = items(site, "hlist::to_the_end", "hlist::nope", "hlist::nope")
    assert phase_of(dispatcher, req, "PythonHandler", handlers, False) == 0
    assert req.ran == [(None, None, None, None)]


def test_configuration_is_read_only_when_it_is_time(
    dispatcher: Any, site: Site, req: Request, clock: Any
) -> None:
    site.write("hot.py", "def handler(req):\n    return 0\n")
    handlers = items(site, "hot")
    for _ in range(5):
        phase_of(dispatcher, req, "PythonHandler", handlers, False)
    assert req.config_reads == 1
    clock.pass_(0.99)
    phase_of(dispatcher, req, "PythonHandler", handlers, False)
    assert req.config_reads == 1
    clock.pass_(0.02)
    for _ in range(5):
        phase_of(dispatcher, req, "PythonHandler", handlers, False)
    assert req.config_reads == 2


def test_remembered_handlers_are_bounded(dispatcher: Any, site: Site, req: Request, monkeypatch: Any) -> None:
    monkeypatch.setattr("mod_python._dispatch._MOST_PLANS", 8)
    site.write("many.py", "def handler(req):\n    return 0\n")
    for number in range(50):
        req._config_id = number
        assert phase_of(dispatcher, req, "PythonHandler", items(site, "many"), False) == 0
    assert len(dispatcher._plans) <= 8
