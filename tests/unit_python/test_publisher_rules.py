"""Who may see what the publisher publishes, and what it never shows."""

from __future__ import annotations

import base64
import collections
import datetime
import functools
import operator
import os
import re
import sys
import types
from typing import Any, Dict, Optional

import pytest
from fake_vivarium import Request, table

from mod_python import _publish, apache

CONSTANT = "c"


class Thing:
    """An object of a program's own."""

    def method(self) -> str:
        return "m"


class Called(Thing):
    """One that can be called."""

    def __call__(self) -> str:
        return "called"


def function() -> None:
    """A function."""


def generator() -> Any:
    yield 1


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024

SECRETS = [
    os, sys, os.path, dict, Thing, type, len, open, os.getcwd, "".join, [].append, print, generator, function,
    Thing().method, functools.partial(os.system), functools.lru_cache(function), property(function), staticmethod(function),
    classmethod(function), generator(), types.SimpleNamespace, (lambda: 0).__code__, sys._getframe(), (1).__add__,
    object.__init__, Thing.__dict__, re.match("a", "a").group, datetime.date.today, "text", b"", 1, 1.5, None, [1], {}, (1,),
    {1}, range(3), iter([]), slice(1), super(Called, Called()), apache, memoryview(b""), {}.keys(),
]


@pytest.mark.parametrize("thing", SECRETS, ids=lambda thing: type(thing).__name__)
def test_no_way_through(thing: Any) -> None:
    assert not _publish.may_pass(thing)


@pytest.mark.parametrize("thing", [
    Thing(), Called(), Pair(1, 2), datetime.date(2026, 1, 2), ValueError("x"), types.SimpleNamespace(a=1),
])
def test_ways_through(thing: Any) -> None:
    assert _publish.may_pass(thing)


@pytest.mark.parametrize("thing", [
    os, dict, Thing, len, os.getcwd, "".join, functools.partial(os.system), functools.lru_cache(len), (1).__add__,
    operator.attrgetter("x"), staticmethod(function), classmethod(function), type, functools.partial(function), object.__init__,
], ids=repr)
def test_never_shown(thing: Any) -> None:
    assert not _publish.may_show(thing)


@pytest.mark.parametrize("thing", [
    function, Thing().method, Called(), lambda: 0, functools.lru_cache(function), Thing(), "text", 1, None, [1], {}, generator(),
], ids=repr)
def test_shown(thing: Any) -> None:
    assert _publish.may_show(thing)


# --- credentials ----------------------------------------------------------------------------------------------------


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


class Asked(Request):
    """A request with credentials."""

    def __init__(self, credentials: Optional[str] = None, user: Optional[str] = None) -> None:
        super().__init__()
        self.user = user
        self.ap_auth_type: Optional[str] = None
        self.err_headers_out = table()
        if credentials is not None:
            self.headers_in.add("Authorization", credentials)


def awaited(awaitable: Any) -> Any:
    """Runs a coroutine that waits for nothing."""
    try:
        awaitable.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def status(thing: Any, credentials: Optional[str] = None, user: Optional[str] = None, req: Any = None) -> Any:
    """The status that a client gets for the object; 200 if it may see it."""
    req = req or Asked(credentials, user)
    try:
        _publish.Guard(req, awaited).check(thing)
    except apache.SERVER_RETURN as end:
        return end.args[0]
    return 200


def module(**names: Any) -> types.ModuleType:
    made = types.ModuleType("page")
    vars(made).update(names)
    return made


def rule_of(auth: Any = None, access: Any = None) -> types.ModuleType:
    return module(**{k: v for k, v in (("__auth__", auth), ("__access__", access)) if v is not None})


async def waits(req: Any, user: str, password: str) -> bool:
    return user == "eve"


@pytest.mark.parametrize(("auth", "good", "bad"), [
    ({"eve": "pw"}, "eve:pw", "eve:no"),
    ({"eve": "pw"}, "eve:pw", "other:pw"),
    ({"eve": "pw"}, "eve:pw", "eve:"),
    ({"eve": "pw", "": ""}, "eve:pw", "eve:pw "),
    ({"ève": "pü:x"}, "ève:pü:x", "ève:pü"),
    ({"eve": b"pw"}, "eve:pw", "eve:pW"),
    ({"eve": None, "b": "c"}, "b:c", "eve:"),
    ({"eve": None, "b": "c"}, "b:c", "eve:None"),
    (lambda req, user, password: (user, password) == ("eve", "pw"), "eve:pw", "eve:x"),
    (waits, "eve:any", "adam:any"),
])
def test_auth(auth: Any, good: str, bad: str) -> None:
    assert status(rule_of(auth)) == 401
    assert status(rule_of(auth), basic(bad)) == 401
    req = Asked(basic(good))
    assert status(rule_of(auth), req=req) == 200
    assert (req.user, req.ap_auth_type) == (good.split(":")[0], "Basic")


@pytest.mark.parametrize(("constant", "code"), [(1, 200), (True, 200), (0, 401), ("", 401), ({}, 401)])
def test_constant_auth(constant: Any, code: int) -> None:
    assert status(module(__auth__=constant)) == 401
    assert status(module(__auth__=constant), basic("any:one")) == code
    assert status(module(__auth__=None), basic("any:one")) == 401


@pytest.mark.parametrize("header", [
    "Basic", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Digest x=1", "", "Bearer abc", "Basic YTpi!",
    basic("a\0:b"),
])
def test_bad_headers(header: str) -> None:
    assert status(rule_of({"a": "b"}), header) == 400
    assert status(rule_of(access=["a"]), header) == 400
    assert status(module(), header) == 200


def test_two_headers() -> None:
    req = Asked(basic("a:b"))
    req.headers_in.add("Authorization", basic("c:d"))
    assert status(rule_of({"a": "b"}), req=req) == 400


@pytest.mark.parametrize("access", [["eve"], ("eve",), {"eve"}, lambda req, user: user == "eve"])
def test_access(access: Any) -> None:
    assert status(rule_of(access=access)) == 403
    assert status(rule_of(access=access), user="adam") == 403
    assert status(rule_of(access=access), user="eve") == 200
    assert status(rule_of({"eve": "pw", "adam": "pw"}, access), basic("eve:pw")) == 200
    assert status(rule_of({"eve": "pw", "adam": "pw"}, access), basic("adam:pw")) == 403


def test_a_name_without_a_checked_password_is_no_user() -> None:
    assert status(rule_of(access=["eve"]), basic("eve:guess")) == 403


@pytest.mark.parametrize(("constant", "code"), [(1, 200), (0, 403), ([], 403), ("", 403)])
def test_constant_access(constant: Any, code: int) -> None:
    assert status(module(__access__=constant)) == code


def test_a_realm() -> None:
    for realm, challenge in (
        ("Members", 'Basic realm="Members"'), ('a"b\\', 'Basic realm="a\\"b\\\\"'), ("a\r\nb", 'Basic realm="a  b"'),
        (5, 'Basic realm="5"'), (None, 'Basic realm="unknown"'),
    ):
        req = Asked()
        assert status(module(__auth__=0, **({} if realm is None else {"__auth_realm__": realm})), req=req) == 401
        assert req.err_headers_out["WWW-Authenticate"] == challenge


def test_a_realm_holds_for_what_comes_after() -> None:
    req = Asked()
    guard = _publish.Guard(req, awaited)
    guard.check(module(__auth_realm__="outer"))
    with pytest.raises(apache.SERVER_RETURN):
        guard.check(rule_of({"a": "b"}))
    assert req.err_headers_out["WWW-Authenticate"] == 'Basic realm="outer"'


def broken(*_: Any) -> bool:
    raise KeyError("broken")


def yields(*_: Any) -> Any:
    yield 1


def test_rules_that_fail_let_nobody_in() -> None:
    for kind, error in ((broken, KeyError), (yields, _publish.Refused)):
        with pytest.raises(error):
            status(rule_of(kind), basic("a:b"))
        with pytest.raises(error):
            status(rule_of(access=kind), user="a")


# --- rules in functions ---------------------------------------------------------------------------------------------


def nested(req: Any) -> None:
    __auth_realm__ = "Nested"  # noqa: F841

    def __auth__(req: Any, user: str, password: str = "x") -> bool:
        return user == "eve" and CONSTANT == "c"

    def __access__(req: Any, user: str) -> bool:
        return user == "eve"


def nested_lambda(req: Any) -> None:
    __auth__ = lambda req, user, password: user == "eve"  # noqa: E731, F841


def nested_dict(req: Any) -> str:
    """With a docstring and code around it."""
    before = [1, 2]
    __auth__ = {"eve": "pw"}  # noqa: F841
    return str(before)


def nested_large_dict(req: Any) -> None:
    __auth__ = {"eve": "pw", "a": "1", "b": "2", "c": "3", "d": "4"}  # noqa: F841


def nested_lists(req: Any) -> None:
    __auth__ = {"eve": "pw", "adam": "pw"}  # noqa: F841
    __access__ = ["eve", "fay", "gil"]  # noqa: F841


def nested_list(req: Any) -> None:
    __auth__ = 1  # noqa: F841
    __access__ = ["nobody"]  # noqa: F841


def nested_async(req: Any) -> None:
    async def __auth__(req: Any, user: str, password: str) -> bool:
        return user == "eve"


async def nested_in_async(req: Any) -> None:
    def __auth__(req: Any, user: str, password: str) -> bool:
        return user == "eve"


def nested_in_generator(req: Any) -> Any:
    def __auth__(req: Any, user: str, password: str) -> bool:
        return user == "eve"

    yield 1


def captured(req: Any) -> Any:
    __auth__ = {"eve": "pw"}
    return lambda: __auth__


def decorator(inner: Any) -> Any:
    @functools.wraps(inner)
    def outer(*args: Any, **kw: Any) -> Any:
        return inner(*args, **kw)

    return outer


class Publisher:
    def method(self, req: Any) -> None:
        def __auth__(req: Any, user: str, password: str) -> bool:
            return user == "eve"


class Caller:
    def __call__(self, req: Any) -> None:
        __auth__ = {"eve": "pw"}  # noqa: F841


@pytest.mark.parametrize("thing", [
    nested, nested_lambda, nested_dict, nested_large_dict, nested_lists, nested_async, nested_in_async, nested_in_generator,
    captured, decorator(nested_dict), decorator(decorator(nested)), functools.lru_cache(nested_dict), Publisher().method,
    Caller(),
], ids=lambda thing: getattr(thing, "__name__", type(thing).__name__))
def test_rules_in_functions(thing: Any) -> None:
    assert status(thing) == 401
    assert status(thing, basic("eve:pw")) == 200
    assert status(thing, basic("adam:x")) == 401


def test_more_rules_in_functions() -> None:
    assert status(nested_lists, basic("adam:pw")) == 403
    assert status(nested_list, basic("eve:any")) == 403
    req = Asked()
    status(nested, req=req)
    assert req.err_headers_out["WWW-Authenticate"] == 'Basic realm="Nested"'


def attributed(req: Any) -> None:
    """A function with attributes."""


attributed.__auth__ = {"eve": "pw"}  # type: ignore[attr-defined]


def test_attributes_of_functions() -> None:
    assert status(attributed) == 401
    assert status(decorator(attributed), basic("eve:pw")) == 200


SETTINGS: Dict[str, str] = {"eve": "pw"}


def from_a_variable(req: Any) -> None:
    __auth__ = SETTINGS  # noqa: F841


def from_a_call(req: Any) -> None:
    __auth__ = dict(eve="pw")  # noqa: C408, F841


def one_of_two(req: Any) -> None:
    __auth__ = req or {"eve": "pw"}  # noqa: F841


def conditional(req: Any) -> None:
    __auth__ = {"a": "b"} if req else 1  # noqa: F841


def assigned_twice(req: Any) -> None:
    __auth__ = 0
    __auth__ = 1  # noqa: F841


def a_parameter(req: Any, __auth__: Any = 0) -> None:
    """A form could set it, if it counted."""


def with_variables(req: Any) -> None:
    name = "eve"

    def __auth__(req: Any, user: str, password: str) -> bool:
        return user == name


def decorated_rule(req: Any) -> None:
    @decorator
    def __auth__(req: Any, user: str, password: str) -> bool:
        return False


def a_part(req: Any) -> None:
    __auth__, other = {"a": "b"}, len(req)  # noqa: F841


@pytest.mark.parametrize("thing", [
    from_a_variable, from_a_call, one_of_two, conditional, assigned_twice, a_parameter, with_variables, decorated_rule,
    a_part,
], ids=lambda thing: thing.__name__)
def test_rules_that_cannot_be_read_let_nobody_in(thing: Any) -> None:
    with pytest.raises(_publish.Refused, match="__auth__ in .* must be"):
        status(thing, basic("eve:pw"))


def test_a_rule_for_classes_objects() -> None:
    class Owner:
        __auth__ = {"eve": "pw"}

        def method(self) -> None:
            """Reached by the object, whose rule is checked on the way."""

    assert status(Owner()) == 401
    assert status(Owner(), basic("eve:pw")) == 200
