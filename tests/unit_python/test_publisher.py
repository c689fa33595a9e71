"""From URLs to answers: the publisher."""

from __future__ import annotations

import base64
from typing import Any, Dict, Optional

import pytest
from psp_pages import PageRequest
from sites import Site

from mod_python import apache, publisher


class PageFor(PageRequest):
    """A request that httpd has mapped."""

    def __init__(self, site: Site, path: str, options: Optional[Dict[str, str]] = None, **config: str) -> None:
        super().__init__(None, options, **config)
        path, _, args = path.partition("?")
        self.args = args or None
        # As httpd maps it: the file name ends with the first step that is no directory.
        at, rest = site.path, path.strip("/").split("/") if path.strip("/") else []
        while rest and (at / rest[0]).is_dir():
            at = at / rest.pop(0)
        self.filename = f"{at}/{rest[0] if rest else ''}"
        self.path_info = "/" + "/".join(rest[1:]) if len(rest) > 1 or path.endswith("/") else ""
        self.user: Optional[str] = None
        self.ap_auth_type = None
        self.extension: Optional[str] = None
        self.exts = ""
        self.writes: list[Any] = []

    @property
    def _content_type_set(self) -> int:
        return int(self.content_type is not None)

    def get_addhandler_exts(self) -> str:
        return self.exts

    def allow_methods(self, methods: Any, reset: int = 0) -> None:
        self.allowed += methods

    def write(self, data: Any, flush: int = 1) -> None:
        self.writes.append(data)
        super().write(data, flush)


@pytest.fixture
def index(site: Site, importer: Any) -> Site:
    site.write("index.py", '''
import os
from os import path, getcwd
def index(req): return "index"
def hello(req, name="x"): return "hello " + str(name)
def two(req, a, *, b): return a + b
def kw(req, **kw): return sorted(kw.items())
def no_request(): return "none"
def _private(req): return "secret"
text, number, nothing, data = "ü", 5, None, b"\\xff"
class Thing:
    value = "v"
    def __init__(self): self.inner = None
    def method(self, req, a="d"): return "m " + a
    def _private(self): return "secret"
    def __str__(self): return "a Thing"
class Called(Thing):
    def __call__(self, a="d"): return "called " + a
thing, called = Thing(), Called()
thing.inner = called
def nothing_at_all(req): req.write("own")
def again(req): return hello
def forever(req): return forever
def page(req): return "<html></html>\\n"
def typed(req):
    req.content_type = "text/x-own"
    return "<html></html>"
def binary(req): return bytearray(b"\\xfe")
def html_bytes(req): return b"<html></html>"
def fails(req): return 1 / 0
''')
    return site


def publish(site: Site, path: str, **config: str) -> PageFor:
    req = PageFor(site, path, **config)
    assert publisher.handler(req) == apache.OK
    return req


def shown(site: Site, path: str) -> str:
    return publish(site, path).text


def status(site: Site, path: str) -> Any:
    with pytest.raises(apache.SERVER_RETURN) as caught:
        publisher.handler(PageFor(site, path))
    return caught.value.args[0]


@pytest.mark.parametrize(("path", "answer"), [
    ("/", "index"), ("/index", "index"), ("/index.py", "index"), ("/index/", "index"), ("/index/index", "index"),
    ("/hello", "hello x"), ("/hello.py", "hello x"), ("/index/hello", "hello x"), ("/index.py/hello", "hello x"),
    ("/hello/", "hello x"), ("//hello//", "hello x"), ("/hello?name=%C3%BC", "hello ü"), ("/hello?zz=1", "hello x"),
    ("/hello?name=1&name=2", "hello ['1', '2']"), ("/hello?name=", "hello "), ("/hello?req=1", "hello x"),
    ("/two?a=1&b=2", "12"), ("/kw?a=1&b=2", "[('a', '1'), ('b', '2')]"), ("/no_request?req=1", "none"), ("/text", "ü"),
    ("/number", "5"), ("/nothing", ""), ("/thing", "a Thing"), ("/thing/value", "v"), ("/thing/method", "m d"),
    ("/thing/method?a=1", "m 1"), ("/thing/inner", "called d"), ("/thing/inner/method", "m d"), ("/called?a=1", "called 1"),
    ("/nothing_at_all", "own"), ("/again?name=1", "hello 1"),
])
def test_what_is_found(index: Site, path: str, answer: str) -> None:
    assert shown(index, path) == answer


@pytest.mark.parametrize(("path", "code"), [
    ("/none", 404), ("/index/none", 404), ("/hello/func_name", 403), ("/hello/__doc__", 403), ("/_private", 403),
    ("/index/_private", 403), ("/thing/_private", 403), ("/thing/__class__", 403), ("/__builtins__", 403), ("/os", 403),
    ("/os/environ", 403), ("/path/join", 403), ("/getcwd", 403), ("/Thing", 403), ("/Thing/value", 403),
    ("/text/upper", 403), ("/thing/method/__func__", 403), ("/number/real", 403), ("/thing/none", 404), ("/two?a=1", 400),
    ("/two", 400),
])
def test_what_is_refused(index: Site, path: str, code: int) -> None:
    assert status(index, path) == code


def test_modules_and_folders(index: Site) -> None:
    index.write("other.py", "def index(req): return 'other'\ndef more(req): return 'more'")
    index.write("hello.py", "def index(req): return 'the module'")
    index.write("sub/index.py", "def index(req): return 'sub'\ndef more(req): return 'sub more'")
    index.write("odd-name.py", "def index(req): return 'odd'")
    index.write("empty/file.txt", "")
    for path, answer in {
        "/other": "other", "/other/more": "more", "/hello": "the module", "/index/hello": "hello x", "/sub/": "sub",
        "/sub/more": "sub more", "/sub/index/more": "sub more", "/odd-name": "odd", "/odd-name.py": "odd",
    }.items():
        assert shown(index, path) == answer, path
    index.write("_own.py", "def index(req): return 'own'")
    index.write("__init__.py", "")
    for path in ("/_own", "/_own.py/index", "/__init__"):
        assert status(index, path) == 403, path
    for path in ("/empty/", "/empty/file", "/sub/other", "/other/none", "/index.pyc", "/file.txt"):
        assert status(index, path) == 404, path


def test_names_of_the_standard_library_stay_its_own(index: Site) -> None:
    import json

    index.write("json.py", "from math import pi\ndef index(req): return 'ours'")
    index.write("antigravity.py", "def index(req): return 'ours too'")
    assert shown(index, "/json") == "ours"
    assert shown(index, "/antigravity") == "ours too"
    import sys

    assert sys.modules["json"] is json
    assert "antigravity" not in sys.modules


def test_suffixes(index: Site) -> None:
    for configured, path, answer in (("one two ", "/hello.two", "hello x"), ("", "/hello.py", "hello x")):
        req = PageFor(index, path)
        req.exts = configured
        publisher.handler(req)
        assert req.text == answer
    req = PageFor(index, "/hello.tar.gz")
    req.extension = ".tar.gz"
    publisher.handler(req)
    assert req.text == "hello x"
    assert status(index, "/hello.two") == 404


def test_methods(index: Site) -> None:
    req = PageFor(index, "/")
    req.method = "PUT"
    with pytest.raises(apache.SERVER_RETURN) as caught:
        publisher.handler(req)
    assert caught.value.args == (apache.HTTP_METHOD_NOT_ALLOWED,)
    assert req.allowed == ["GET", "POST", "HEAD"]


@pytest.mark.parametrize(("path", "kind", "body"), [
    ("/text", "text/plain; charset=utf-8", "ü".encode()),
    ("/page", "text/html; charset=utf-8", b"<html></html>\n"),
    ("/typed", "text/x-own", b"<html></html>"),
    ("/data", "text/plain", b"\xff"),
    ("/binary", "text/plain", b"\xfe"),
    ("/html_bytes", "text/html", b"<html></html>"),
    ("/nothing", None, b""),
    ("/nothing_at_all", None, b"own"),
])
def test_types(index: Site, path: str, kind: Optional[str], body: bytes) -> None:
    req = publish(index, path)
    assert (req.content_type, req.body) == (kind, body)


def test_functions_that_return_functions_for_ever(index: Site) -> None:
    with pytest.raises(RuntimeError, match="functions that return a function"):
        publish(index, "/forever")


def test_errors_are_the_programs(index: Site) -> None:
    with pytest.raises(ZeroDivisionError):
        publish(index, "/fails")


# --- streams and coroutines -------------------------------------------------------------------------------------------

STREAMS = '''
import asyncio
closed = []
def generator(req):
    try:
        yield "a"
        yield None
        yield b"\\xff"
        yield 3
        yield bytearray(b"b")
    finally:
        closed.append(1)
def html(req):
    yield "\\n<!-- c --><!DOCTYPE html>"
    yield "<p>"
def data(req): return iter([b"<html>", b"x"])
def lines(req): return open(__file__, "rb")
def empty(req): return iter(())
def fails(req):
    try:
        yield "a"
        1 / 0
    finally:
        closed.append(1)
def unfinished(req):
    try:
        yield "a"
        yield "b"
    finally:
        closed.append(1)
async def coroutine(req, a="d"):
    await asyncio.sleep(0)
    return "c " + a
async def returns_generator(req): return generator(req)
async def agen(req):
    try:
        yield "a"
        await asyncio.sleep(0)
        yield "b"
    finally:
        await asyncio.sleep(0)
        closed.append(1)
async def agen_fails(req):
    try:
        yield "a"
        1 / 0
    finally:
        closed.append(1)
async def leaves_a_task(req):
    async def other():
        try:
            await asyncio.sleep(3600)
        finally:
            closed.append(1)
    asyncio.ensure_future(other())
    await asyncio.sleep(0)
    return "left"
class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"
def awaitable(req): return Awaitable()
async def __auth__(req, user, password): return user == "eve"
'''


@pytest.fixture
def streams(site: Site, importer: Any) -> Site:
    site.write("index.py", STREAMS)
    return site


def stream(site: Site, path: str) -> PageFor:
    req = PageFor(site, path)
    req.headers_in.add("Authorization", "Basic " + base64.b64encode(b"eve:x").decode())
    publisher.handler(req)
    return req


@pytest.mark.parametrize(("path", "kind", "writes"), [
    ("/generator", "text/plain; charset=utf-8", ["a", b"\xff", "3", b"b"]),
    ("/html", "text/html; charset=utf-8", ["\n<!-- c --><!DOCTYPE html>", "<p>"]),
    ("/data", "text/html", [b"<html>", b"x"]),
    ("/lines", "text/plain", STREAMS.encode().splitlines(keepends=True)),
    ("/empty", None, []),
    ("/coroutine?a=1", "text/plain; charset=utf-8", ["c 1"]),
    ("/returns_generator", "text/plain; charset=utf-8", ["a", b"\xff", "3", b"b"]),
    ("/agen", "text/plain; charset=utf-8", ["a", "b"]),
    ("/awaitable", "text/plain; charset=utf-8", ["awaited"]),
    ("/leaves_a_task", "text/plain; charset=utf-8", ["left"]),
])
def test_streams(streams: Site, path: str, kind: Optional[str], writes: Any) -> None:
    req = stream(streams, path)
    assert (req.content_type, req.writes) == (kind, writes)


def closed(site: Site) -> int:
    return len(apache._importer.load_page(f"{site.path}/index.py").names["closed"])


@pytest.mark.parametrize("path", ["/fails", "/agen_fails"])
def test_streams_that_fail_are_closed(streams: Site, path: str) -> None:
    with pytest.raises(ZeroDivisionError):
        stream(streams, path)
    assert closed(streams) == 1


@pytest.mark.parametrize("path", ["/unfinished", "/agen"])
def test_streams_to_clients_that_left_are_closed(streams: Site, path: str) -> None:
    req = PageFor(streams, path)
    req.headers_in.add("Authorization", "Basic " + base64.b64encode(b"eve:x").decode())
    req.write_error = OSError("Write failed, client closed connection.")
    with pytest.raises(OSError, match="Write failed"):
        publisher.handler(req)
    assert closed(streams) == 1


def test_tasks_that_are_left_end_with_the_request(streams: Site) -> None:
    stream(streams, "/leaves_a_task")
    assert closed(streams) == 1


def test_rules_may_be_coroutines(streams: Site) -> None:
    assert status(streams, "/coroutine") == 401


# --- modules ----------------------------------------------------------------------------------------------------------


def test_a_changed_module_is_loaded_again(index: Site, clock: Any) -> None:
    assert shown(index, "/") == "index"
    index.write("index.py", "def index(req): return 'new'")
    assert shown(index, "/") == "index"
    clock.pass_(1.1)
    assert publish(index, "/", PythonAutoReload="0").text == "index"
    assert shown(index, "/") == "new"


def test_a_module_that_is_gone(index: Site) -> None:
    assert shown(index, "/") == "index"
    (index.path / "index.py").unlink()
    assert status(index, "/") == 404


def test_modules_import_what_is_beside_them(index: Site) -> None:
    index.write("helper.py", "NAME = 'helped'")
    index.write("page.py", "from mod_python import apache\nhelper = apache.import_module('helper')\n"
                "def index(req): return helper.NAME")
    assert shown(index, "/page") == "helped"
    assert status(index, "/page/helper") == 403


def test_rules_on_the_way(index: Site) -> None:
    index.write("page.py", "class A:\n  __auth__ = 0\n  def m(self, req): return 'm'\na = A()\n"
                "class B:\n  def m(self, req):\n    __access__ = 0\n    return 'm'\nb = B()")
    assert status(index, "/page/a/m") == 401
    assert status(index, "/page/a/none") == 401
    assert status(index, "/page/b/m") == 403
