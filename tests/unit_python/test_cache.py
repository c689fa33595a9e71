"""``mod_python.cache``."""

from __future__ import annotations

import gc
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Dict, Iterator, List

import pytest
from sites import Site

from mod_python import cache


class Counting(cache.Cache):
    """Builds a value that counts."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.built: List[Any] = []

    def build(self, name: Any, key: Any, opened: Any, entry: Any) -> Any:
        self.built.append(name)
        return f"{name}{len(self.built)}"


def test_builds_once() -> None:
    made = Counting()
    assert (made["a"], made["a"], made.get("b"), made["a"]) == ("a1", "a1", "b2", "a1")
    assert (len(made), "a" in made, "c" in made) == (2, True, False)
    made["a"] = "set"
    assert made["a"] == "set"
    del made["a"]
    assert made["a"] == "a3"
    with pytest.raises(KeyError):
        del made["none"]
    made.clear()
    assert (len(made), made["a"]) == (0, "a4")


def test_the_one_used_longest_ago_goes() -> None:
    made = Counting(2)
    for name in "abac":
        made.get(name)
    assert (made.keys(), made.mru(), made.lru()) == (["c", "a"], ["c3", "a1"], ["a1", "c3"])
    assert (list(made), made.values(), made.items()) == (["c", "a"], ["c3", "a1"], [("c", "c3"), ("a", "a1")])
    assert made["b"] == "b4"


def test_names_of_one_key_share_a_value() -> None:
    class Lower(Counting):
        def key(self, name: Any) -> Any:
            return name.lower()

    made = Lower()
    assert (made["A"], made["a"], len(made)) == ("A1", "A1", 1)


def test_a_failed_build_leaves_nothing() -> None:
    class Fails(cache.Cache):
        def build(self, name: Any, key: Any, opened: Any, entry: Any) -> Any:
            raise OSError(name)

    made = Fails()
    with pytest.raises(OSError, match="x"):
        made["x"]
    assert len(made) == 0
    with pytest.raises(NotImplementedError):
        cache.Cache()["x"]


def test_threads_build_a_value_once_and_others_do_not_wait() -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Counting):
        def build(self, name: Any, key: Any, opened: Any, entry: Any) -> Any:
            if name == "slow":
                inside.set()
                assert go_on.wait(60)
            return super().build(name, key, opened, entry)

    made = Slow()
    found: List[str] = []
    threads = [threading.Thread(target=lambda: found.append(made["slow"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    assert made["quick"] == "quick1"
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == ["slow2"] * 3


def test_weak() -> None:
    class Value:
        pass

    class Weak(cache.WeakCache):
        def build(self, name: Any, key: Any, opened: Any, entry: Any) -> Any:
            return Value()

    made = Weak()
    held = made["a"]
    assert made["a"] is held
    number = id(held)
    other = Value()
    del held
    gc.collect()
    assert made["a"] is not other
    assert number


def test_files(site: Site) -> None:
    path = site.write("f.txt", "one")
    made = cache.FileCache()
    assert (made[path], made[path]) == (b"one", b"one")
    site.write("f.txt", "two")
    assert (made[path], cache.FileCache(mode="r")[str(path)]) == (b"two", "two")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        made[path]


def test_modules(site: Site) -> None:
    path = str(site.write("m.py", "VALUE = [1]\n"))
    made = cache.ModuleCache()
    assert made[path] is made[path]
    assert (made[path].VALUE, made[path].__file__) == ([1], path)
    site.write("m.py", "VALUE = 2\n")
    assert made[path].VALUE == 2


def test_functions() -> None:
    calls = []

    def area(width: int, height: int = 1) -> int:
        calls.append((width, height))
        return width * height

    made = cache.FunctionCache(area)
    assert (made(2, height=3), made(2, height=3), made(2), len(calls)) == (6, 6, 2, 2)


class Web(BaseHTTPRequestHandler):
    """Documents that count how often they were asked for."""

    asked: List[Any] = []
    headers_of: Dict[str, str] = {}

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("If-None-Match"))
        fresh = self.headers.get("If-None-Match") == '"v1"'
        body = b"" if fresh else b"VALUE = 1"
        self.send_response(304 if fresh else 200 if self.path != "/none" else 404)
        for name, value in self.headers_of.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Web.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"Cache-Control": "max-age=1000"}, [None]),
        ({"Expires": "Fri, 01 Jan 2100 00:00:00 GMT"}, [None]),
        ({"ETag": '"v1"', "Expires": "0"}, [None, '"v1"', '"v1"']),
        ({"Cache-Control": "no-cache, max-age=1000"}, [None, None, None]),
        ({}, [None, None, None]),
    ],
)
def test_documents(web: str, headers: Dict[str, str], asked: List[Any]) -> None:
    Web.headers_of = headers
    made = cache.HTTPCache()
    assert [made[web] for _ in range(3)] == [b"VALUE = 1"] * 3
    assert Web.asked == asked


def test_modules_from_the_web(web: str) -> None:
    Web.headers_of = {"Cache-Control": "max-age=1000"}
    assert cache.HttpModuleCache()[web].VALUE == 1
    with pytest.raises(OSError, match="404"):
        cache.HTTPCache()[web + "none"]
