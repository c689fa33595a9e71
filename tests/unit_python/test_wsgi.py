"""``req.build_wsgi_env()`` and ``req.wsgi_start_response()``."""

from __future__ import annotations

import sys
from typing import Any, Optional

import pytest
from fake_vivarium import Request, mp_hlist, table

from mod_python import _wsgi


def request(uri: str, place: Optional[str] = None, base: Optional[str] = None, https: int = 0) -> Any:
    req: Any = Request()
    req.uri = uri
    req.hlist = mp_hlist([("m", place, False, place is not None)])
    req.get_options = lambda: table({} if base is None else {"mod_python.wsgi.base_uri": base})
    req.is_https = lambda: https
    req.sent_bodyct = 0
    return req


@pytest.mark.parametrize(
    ("uri", "place", "base", "wanted"),
    [
        ("/x/more", None, None, ("", "/x/more")),
        ("/app/a b/y", "/app", None, ("/app", "/a b/y")),
        ("/app", "/app", None, ("/app", "")),
        ("/app/", "/app/", None, ("/app", "/")),
        ("/abc", "/", None, ("", "/abc")),
        ("/re/a", "^/re/(a|b)", None, None),
        ("/app/base/x", "/app", "/app/base", ("/app/base", "/x")),
        ("/app/based", "/app", "/app/base", None),
        ("/app/other", "/app", "/app/base", None),
    ],
)
def test_where_the_application_is(uri: str, place: Any, base: Any, wanted: Any) -> None:
    env = _wsgi.build_env(request(uri, place, base))
    assert (env and (env["SCRIPT_NAME"], env["PATH_INFO"])) == wanted


def test_directory_is_no_location() -> None:
    req = request("/app/x")
    req.hlist = mp_hlist([("m", "/app", False, False)])
    assert _wsgi.build_env(req)["SCRIPT_NAME"] == ""
    req.hlist = None
    assert _wsgi.build_env(req)["SCRIPT_NAME"] == ""


def test_base_with_a_slash() -> None:
    with pytest.raises(ValueError, match="must not end with '/'"):
        _wsgi.build_env(request("/app/x", "/app", "/app/"))


def test_environment() -> None:
    req = request("/app/x", "/app", https=1)
    env = _wsgi.build_env(req)
    assert type(env) is dict
    assert env["GATEWAY_INTERFACE"] == "CGI/1.1"
    assert "HTTP_AUTHORIZATION" not in env
    assert (env["wsgi.version"], env["wsgi.url_scheme"]) == ((1, 0), "https")
    assert env["wsgi.input"] is req
    assert env["wsgi.errors"] is sys.stderr
    assert (env["wsgi.multithread"], env["wsgi.multiprocess"]) == (True, True)
    req.headers_in["Authorization"] = "Basic YTpi"
    assert _wsgi.build_env(req)["HTTP_AUTHORIZATION"] == "Basic YTpi"


def test_start_response() -> None:
    req = request("/")
    headers = [("Content-Type", "text/x-y"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-A", "1")]
    req.headers_out["X-A"] = "old"
    assert _wsgi.start_response(req, "404 Not here", headers) == req.write
    assert (req.status, req.status_line, req.content_type) == (404, "404 Not here", "text/x-y")
    assert req.headers_out.items() == [("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-A", "1")]
    assert _wsgi.start_response(req, "204", [("X-A", "2")]) == req.write
    assert (req.status, req.headers_out["X-A"]) == (204, "2")


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (404, [], TypeError),
        (b"404 x", [], TypeError),
        ("abc", [], ValueError),
        ("4040 x", [], ValueError),
        ("099 x", [], ValueError),
        ("404 x", (("a", "b"),), TypeError),
        ("404 x", [("a", 1)], TypeError),
        ("404 x", [(b"a", "b")], TypeError),
        ("404 x", [("a", "b\r\nSet-Cookie: c")], ValueError),
    ],
)
def test_mistakes_change_nothing(status: Any, headers: Any, error: Any) -> None:
    req = request("/")
    with pytest.raises(error):
        _wsgi.start_response(req, status, headers)
    assert (req.status, req.status_line, req.headers_out.items()) == (200, None, [])


def test_error_after_the_beginning() -> None:
    req = request("/")
    try:
        raise KeyError("late")
    except KeyError:
        problem = sys.exc_info()
    assert _wsgi.start_response(req, "500 Oops", [("X-A", "1")], problem) == req.write
    assert req.status == 500
    req.sent_bodyct = 1
    with pytest.raises(KeyError, match="late"):
        _wsgi.start_response(req, "501 Again", [], problem)
    assert req.status == 500
