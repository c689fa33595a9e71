"""The handler ``mod_python.wsgi``: PEP 3333, with the test client in httpd's place."""

from __future__ import annotations

import gzip
import io
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List
from wsgiref.validate import validator

import pytest
from sites import Site

from mod_python import _wsgifile, apache, wsgi
from mod_python.testing import Client, Response

PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture(autouse=True)
def apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that applications are put into."""
    module = type(sys)("wsgi_apps")
    monkeypatch.setitem(sys.modules, "wsgi_apps", module)
    wsgi._plans.clear()
    yield module


def client(application: Callable[..., Any], options: Any = None, **more: Any) -> Client:
    sys.modules["wsgi_apps"].application = application  # type: ignore[attr-defined]
    options = {"mod_python.wsgi.application": "wsgi_apps", **(options or {})}
    return Client("mod_python.wsgi", PythonOption=options, **more)


def answer(*pieces: Any, status: str = "200 OK", headers: Any = PLAIN) -> Callable[..., Any]:
    def application(env: Any, start: Any) -> Any:
        start(status, list(headers))
        return list(pieces)

    return application


def get(application: Callable[..., Any], method: str = "GET", **more: Any) -> Response:
    return client(application, raise_errors=True).open(method, "/", **more)


# --- which application -----------------------------------------------------------------------------------------------


def test_no_application_is_named() -> None:
    response = Client("mod_python.wsgi").get("/")
    assert response.status == 500
    assert "PythonOption mod_python.wsgi.application is not set" in response.log[-1].text


def test_module_object_and_dots(apps: Any) -> None:
    apps.other = answer(b"other")
    apps.holder = type("Holder", (), {"app": staticmethod(answer(b"dotted"))})
    for name, body in (("wsgi_apps::other", b"other"), ("wsgi_apps::holder.app", b"dotted")):
        assert Client("mod_python.wsgi", PythonOption={"mod_python.wsgi.application": name}).get("/").body == body
    missing = Client("mod_python.wsgi", PythonOption={"mod_python.wsgi.application": "wsgi_apps::none"}).get("/")
    assert (missing.status, "AttributeError" in missing.log[-1].text) == (500, True)


def test_found_in_the_directory_and_reloaded(site: Site, clock: Any, importer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(wsgi.time, "monotonic", clock)
    text = "def application(env, start):\n    start('200 OK', [])\n    return [{!r}]\n"
    site.write("found.py", text.format(b"first"))
    served = Client("mod_python.wsgi", directory=site.path, PythonOption={"mod_python.wsgi.application": "found"})
    assert served.get("/").body == b"first"
    site.write("found.py", text.format(b"second"))
    assert served.get("/").body == b"first"
    clock.pass_(2)
    assert served.get("/").body == b"second"


@pytest.mark.parametrize(
    ("uri", "more", "wanted"),
    [
        ("/x/y", {}, ("", "/x/y")),
        ("/app/y", {"location": "/app"}, ("/app", "/y")),
        ("/app", {"location": "/app/"}, ("/app", "")),
        ("/base/y", {"options": {"mod_python.wsgi.base_uri": "/base"}}, ("/base", "/y")),
        ("/based", {"options": {"mod_python.wsgi.base_uri": "/base"}}, None),
    ],
)
def test_where_it_is(uri: str, more: Any, wanted: Any) -> None:
    def application(env: Any, start: Any) -> Any:
        start("200 OK", PLAIN)
        return [repr((env["SCRIPT_NAME"], env["PATH_INFO"])).encode()]

    response = client(application, **more).get(uri)
    assert (response.status, response.text) == ((200, repr(wanted)) if wanted else (404, response.text))


# --- the environment -------------------------------------------------------------------------------------------------


def test_environment() -> None:
    seen = {}

    def application(env: Any, start: Any) -> Any:
        seen.update(env)
        return answer(b"")(env, start)

    client(application, https=True).post(
        "/a%20b?q=%20", b"12", headers={"X-Own": "1"}, auth=("ada", "pw"), query={"r": "s"}
    )
    for name, value in {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/a b", "QUERY_STRING": "q=%20&r=s", "REQUEST_URI": "/a%20b?q=%20&r=s",
        "CONTENT_LENGTH": "2", "HTTP_X_OWN": "1", "SERVER_NAME": "localhost", "SERVER_PORT": "443",
        "HTTP_AUTHORIZATION": "Basic YWRhOnB3", "wsgi.url_scheme": "https", "wsgi.version": (1, 0),
        "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input_terminated": True,
    }.items():  # fmt: skip
        assert (name, seen[name]) == (name, value)
    assert type(seen["mod_python.request"]).__name__ == "mp_request"


@pytest.mark.parametrize(
    ("uri", "octets"), [("/caf%C3%A9", b"/caf\xc3\xa9"), ("/caf%E9", b"/caf\xe9"), ("/%E2%82%AC", b"/\xe2\x82\xac")]
)
def test_texts_have_a_character_for_each_byte(uri: str, octets: bytes) -> None:
    def application(env: Any, start: Any) -> Any:
        start("200 OK", PLAIN)
        assert env["HTTP_X"].encode("latin-1").decode() == "\u20ac"
        return [env["PATH_INFO"].encode("latin-1")]

    assert client(application, raise_errors=True).get(uri, headers={"X": "\u20ac"}).body == octets


@pytest.mark.parametrize("name", ["on", "1", "ON"])
def test_scheme_from_a_proxy(name: str) -> None:
    def application(env: Any, start: Any) -> Any:
        return answer(env["wsgi.url_scheme"].encode())(env, start)

    assert client(application, environ={"HTTPS": name}).get("/").body == b"https"


def test_input() -> None:
    def application(env: Any, start: Any) -> Any:
        start("200 OK", PLAIN)
        body = env["wsgi.input"]
        seen = [
            body.read(2),
            body.readline(),
            body.readline(2),
            body.readlines(3),
            list(body),
            body.read(),
            body.read(None),
        ]
        return [repr(seen).encode()]

    assert client(application).post("/", b"one\ntwo\nthree\nfour\nfive").text == str(
        [b"on", b"e\n", b"tw", [b"o\n", b"three\n"], [b"four\n", b"five"], b"", b""]
    )


# --- the protocol ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("pieces", [[b""], [b"one"], [b"one", b"", b"two"]])
def test_validator_passes(method: str, pieces: List[bytes]) -> None:
    @validator
    def application(env: Any, start: Any) -> Any:
        env["wsgi.errors"].flush()
        assert env["wsgi.input"].read(5) == (b"body" if method == "POST" else b"")
        write = start("200 OK", PLAIN)
        write(b"written ")
        return pieces

    response = client(application, raise_errors=True).open(method, "/?q=1", data=b"body" if method == "POST" else None)
    assert response.body == (b"" if method == "HEAD" else b"written " + b"".join(pieces))


@pytest.mark.parametrize("status", ["404 Nowhere", "201 Created", "299 Odd", "500 Internal Server Error"])
def test_status(status: str) -> None:
    response = get(answer(b"own body", status=status))
    assert (f"{response.status} {response.reason}", response.body) == (status, b"own body")


def test_headers() -> None:
    def fixup(req: Any) -> int:
        req.headers_out["X-A"] = "old"
        req.headers_out["X-Kept"] = "1"
        return apache.OK

    headers = [("Content-Type", "text/x-y"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-A", "new")]
    response = client(answer(b"", headers=headers), PythonFixupHandler=fixup).get("/")
    assert (response.headers["Content-Type"], response.headers["X-Kept"]) == ("text/x-y", "1")
    assert (response.headers["Set-Cookie"], response.headers["X-A"]) == (["a=1", "b=2"], "new")


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (200, [], TypeError), (b"200 OK", [], TypeError), ("200\r\nX: y", [], ValueError), ("x", [], ValueError),
        ("200 OK", (), TypeError), ("200 OK", [("a", 1)], TypeError), ("200 OK", [("a", b"b")], TypeError),
        ("200 OK", [("a", "b\nc")], ValueError), ("200 OK", [("a b", "c")], ValueError),
        ("200 OK", [("a", "\u20ac")], ValueError), ("200 OK", [("Connection", "close")], ValueError),
        ("200 OK", [("transfer-encoding", "chunked")], ValueError), ("200 OK", [("Content-Length", "x")], ValueError),
    ],
)  # fmt: skip
def test_mistakes_are_errors(status: Any, headers: Any, error: Any) -> None:
    def application(env: Any, start: Any) -> Any:
        start(status, headers)
        return [b"x"]

    with pytest.raises(error):
        get(application)
    response = client(application).get("/")
    assert (response.status, "X" in response.headers) == (500, False)


def test_start_response_twice() -> None:
    def twice(env: Any, start: Any) -> Any:
        start("200 OK", PLAIN)
        start("200 OK", PLAIN)

    def with_error(env: Any, start: Any) -> Any:
        start("200 OK", [("X-First", "1")])
        try:
            raise KeyError
        except KeyError:
            start("503 Later", [("X-Second", "2")], sys.exc_info())
        return [b"sorry"]

    with pytest.raises(AssertionError, match="only once"):
        get(twice)
    response = get(with_error)
    assert (response.status, response.headers.get("X-First"), response.headers["X-Second"]) == (503, None, "2")


def test_an_error_after_the_beginning_is_raised_again() -> None:
    def application(env: Any, start: Any) -> Any:
        start("200 OK", PLAIN)
        yield b"begun"
        try:
            raise KeyError("late")
        except KeyError:
            start("500 Oops", PLAIN, sys.exc_info())

    response = client(application).get("/")
    assert (response.status, response.body[:5]) == (200, b"begun")
    assert "KeyError: 'late'" in response.log[-1].text


def test_nobody_calls_start_response() -> None:
    for application in (lambda env, start: [b"x"], lambda env, start: [], lambda env, start: iter([b"x"])):
        with pytest.raises(AssertionError, match="has not called start_response"):
            get(application)


def test_an_error_is_500() -> None:
    def application(env: Any, start: Any) -> Any:
        start("200 OK", [("X-App", "1")])
        raise RuntimeError("broken application")

    response = client(application).get("/")
    assert (response.status, "X-App" in response.headers) == (500, False)
    assert "RuntimeError: broken application" in response.log[-1].text


def test_iterables() -> None:
    def generator(env: Any, start: Any) -> Any:
        yield b""
        start("201 Created", PLAIN)
        yield b"a"
        yield b""
        yield b"b"

    assert (get(generator).status, get(generator).body) == (201, b"ab")
    assert get(answer("täxt")).body == "täxt".encode()
    assert get(answer()).body == b""
    assert get(lambda env, start: start("200 OK", PLAIN) and (b"a", b"b")).body == b"ab"
    with pytest.raises(TypeError, match="gives bytes, not int"):
        get(lambda env, start: start("200 OK", PLAIN) and iter([b"a", 5]))


def test_pieces_go_out_one_by_one() -> None:
    seen = []

    def application(env: Any, start: Any) -> Any:
        start("200 OK", PLAIN)
        for n in range(3):
            yield b"x"
            seen.append(env["mod_python.request"].bytes_sent)

    get(application)
    assert seen == [1, 2, 3]


def test_write() -> None:
    def application(env: Any, start: Any) -> Any:
        write = start("200 OK", PLAIN)
        write(b"a")
        assert env["mod_python.request"].bytes_sent == 1
        return [b"b"]

    assert get(application).body == b"ab"


class Closing:
    """An iterable that knows whether it was closed."""

    def __init__(self, pieces: Any, error: Any = None) -> None:
        self.closed = 0
        self.pieces = pieces
        self.error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("error", [None, ValueError("x")])
def test_close_is_called_once(error: Any) -> None:
    result = Closing([b"a"], error)
    client(lambda env, start: start("200 OK", PLAIN) and result).get("/")
    assert result.closed == 1


def test_an_error_of_close_is_only_logged() -> None:
    result = Closing([b"a"])
    result.close = lambda: 1 / 0  # type: ignore[method-assign,assignment]
    response = client(lambda env, start: start("200 OK", PLAIN) and result).get("/")
    assert (response.status, response.body, "ZeroDivisionError" in response.log[-1].text) == (200, b"a", True)


def test_the_client_goes_away() -> None:
    result = Closing(b"x" * 10 for _ in range(1000))
    response = client(lambda env, start: start("200 OK", PLAIN) and result).get("/", disconnect_after=15)
    assert (result.closed, len(response.body), response.log) == (1, 20, [])

    def writing(env: Any, start: Any) -> Any:
        write = start("200 OK", PLAIN)
        while True:
            write(b"x" * 10)

    response = client(writing).get("/", disconnect_after=15)
    assert (len(response.body), response.log) == (20, [])


# --- lengths ---------------------------------------------------------------------------------------------------------


def test_content_length_of_a_list() -> None:
    assert get(answer(b"x" * 5000, b"y" * 5000)).headers["Content-Length"] == "10000"
    assert get(answer(b"abc"), "HEAD").headers["Content-Length"] == "3"
    assert "Content-Length" not in get(answer(status="204 No Content", headers=[])).headers


def test_more_than_announced_is_not_sent() -> None:
    response = get(answer(b"abcdef", headers=[("Content-Length", "3")]))
    assert (response.body, "more body than" in response.log[0].text) == (b"abc", True)
    generator = client(lambda env, start: start("200 OK", [("Content-Length", "3")]) and iter([b"ab", b"cd", b"e"]))
    assert generator.get("/").body == b"abc"

    def writing(env: Any, start: Any) -> Any:
        start("200 OK", [("Content-Length", "3")])(b"abcd")

    assert "more was written" in client(writing).get("/").log[-1].text


@pytest.mark.parametrize("error", [None, ValueError("in the midst")])
def test_less_than_announced_closes_the_connection(error: Any) -> None:
    result = Closing([b"ab"], error)
    response = client(lambda env, start: start("200 OK", [("Content-Length", "3")]) and result).get("/")
    assert (response.status, response.body) == (200, b"ab")
    assert response.request.connection.keepalive == apache.AP_CONN_CLOSE
    assert ("in the midst" if error else "less body than") in response.log[-1].text


def test_head_and_304_have_no_body() -> None:
    result = Closing(b"x" for _ in iter(int, 1))
    head = client(lambda env, start: start("200 OK", [("Content-Length", "5")]) and result).head("/")
    assert (head.body, head.headers["Content-Length"], head.log, result.closed) == (b"", "5", [], 1)
    assert get(answer(b"body", status="304 Not Modified", headers=[("ETag", '"x"')])).body == b""


# --- files -----------------------------------------------------------------------------------------------------------


def sent_file(make: Callable[[], Any], headers: Any = PLAIN) -> Response:
    sent = []

    def application(env: Any, start: Any) -> Any:
        req = env["mod_python.request"]
        real = req.sendfile
        req.sendfile = lambda *args: sent.append(args[1:]) or real(*args)
        start("200 OK", list(headers))
        return env["wsgi.file_wrapper"](make(), 4)

    response = get(application)
    response.sent = sent  # type: ignore[attr-defined]
    return response


def test_plain_files_are_sent_by_httpd(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    def opened() -> Any:
        file = open(path, "rb")
        file.read(2)
        return file

    def temporary() -> Any:
        file = tempfile.NamedTemporaryFile()
        file.write(b"temporary")
        file.seek(0)
        return file

    response: Any = sent_file(opened)
    assert (response.body, response.headers["Content-Length"], response.sent) == (b"23456789", "8", [(2, 8)])
    response = sent_file(opened, [("Content-Length", "3")])
    assert (response.body, response.sent) == (b"234", [(2, 3)])
    response = sent_file(temporary)
    assert (response.body, response.sent) == (b"temporary", [(0, 9)])
    response = sent_file(lambda: open(path, "rb", buffering=0))
    assert (response.body, response.sent) == (b"0123456789", [(0, 10)])


def test_other_files_are_read(tmp_path: Path) -> None:
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(b"not the file's own bytes"))
    response: Any = sent_file(lambda: gzip.open(packed))
    assert (response.body, response.sent) == (b"not the file's own bytes", [])
    response = sent_file(lambda: io.BytesIO(b"in memory"))
    assert (response.body, response.sent) == (b"in memory", [])
    assert _wsgifile.place_of(sys.stdin) is None


def test_a_file_that_cannot_be_opened_again_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    monkeypatch.setattr("mod_python._wsgi.place_of", lambda file: ("/no/such/place", 0, 10))
    assert sent_file(lambda: open(path, "rb")).body == b"0123456789"


def test_a_middleware_may_iterate_over_a_wrapped_file() -> None:
    def application(env: Any, start: Any) -> Any:
        start("200 OK", PLAIN)
        return [piece + b"|" for piece in env["wsgi.file_wrapper"](io.BytesIO(b"abcdef"), 4)]

    assert get(application).body == b"abcd|ef|"
