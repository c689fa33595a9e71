"""The test client ``mod_python.testing``: requests, their bodies, what comes back, filters."""

from __future__ import annotations

import re
import sys
from typing import Any, Iterator

import pytest
from sites import Site

from mod_python import apache
from mod_python.testing import Client


def text(req: Any, value: Any) -> int:
    req.content_type = "text/plain"
    req.write(str(value))
    return apache.OK


@pytest.fixture(autouse=True)
def modules_by_name() -> Iterator[None]:
    """Handlers here are named by this module, wherever pytest has put it."""
    sys.modules.setdefault("test_testing_bodies", sys.modules[__name__])
    yield


# --- requests --------------------------------------------------------------------------------------------------------


def test_request_line() -> None:
    def handler(req: Any) -> int:
        return text(
            req, [req.method, req.uri, req.unparsed_uri, req.args, req.the_request, req.hostname, req.header_only]
        )

    seen = Client(handler, server_name="example.org").get("/a%20b/ü", query={"x": [1, "y z"]}).text
    line = "/a%20b/%C3%BC?x=1&x=y+z"
    assert (
        seen == str(["GET", "/a b/ü", line, "x=1&x=y+z", f"GET {line} HTTP/1.1", "example.org", 0]) or "%2520" in seen
    )
    assert Client(handler).get("/ü x").text.startswith("['GET', '/ü x', '/%C3%BC%20x', None")


def test_headers_and_cookies() -> None:
    def handler(req: Any) -> int:
        if req.args:
            req.headers_out.add("Set-Cookie", req.args.replace("%20", " "))
        return text(req, [req.headers_in.get("Cookie"), req.headers_in.get("x-one"), req.headers_in["host"]])

    client = Client(handler, headers={"X-One": "1"}, port=8080)
    assert client.get("/?a=1;%20Path=/;%20HttpOnly").text == "[None, '1', 'localhost:8080']"
    assert client.get("/", headers=[("x-one", "2")]).text == "['a=1', '2', 'localhost:8080']"
    client.get("/sub/x?b=2")
    client.get("/?c=3;%20Path=/;%20Secure")
    assert client.get("/sub/y").text.startswith("['b=2; a=1'")
    assert client.get("/other").text.startswith("['a=1'")
    assert (client.cookies["a"], "b" in client.cookies, client.cookies.get("none")) == ("1", True, None)
    client.get("/?a=;%20Path=/;%20Max-Age=0")
    assert "a" not in client.cookies
    client.cookies["own"] = "x"
    assert client.get("/other").text.startswith("['own=x'")


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"data": b"raw"}, (None, b"raw")),
        ({"data": "täxt"}, ("text/plain; charset=utf-8", "täxt".encode())),
        ({"data": {"a": ["1", "ü"], "b": 2}}, ("application/x-www-form-urlencoded", b"a=1&a=%C3%BC&b=2")),
        ({"json": {"a": 1}}, ("application/json", b'{"a": 1}')),
        ({}, (None, b"")),
    ],
)
def test_bodies(more: Any, wanted: Any) -> None:
    seen = []

    def handler(req: Any) -> int:
        seen.append((req.headers_in.get("Content-Type"), req.read()))
        return text(req, [req.headers_in.get("Content-Length"), req.read(), req.remaining])

    assert Client(handler).post("/", **more).text == f"['{len(wanted[1])}', b'', 0]"
    assert seen == [wanted]


def test_uploads() -> None:
    def handler(req: Any) -> int:
        req.content_type = "text/plain"
        req.write(req.read())
        return apache.OK

    files = {"f": [("a.txt", b"content", "text/plain"), ('b".bin', "x")]}
    response = Client(handler).post("/", {"field": "value"}, files=files)
    body = re.sub(r"test-\w+", "BOUNDARY", response.text.replace("\r\n", "\n"))
    assert body == (
        '--BOUNDARY\nContent-Disposition: form-data; name="field"\n\nvalue\n'
        '--BOUNDARY\nContent-Disposition: form-data; name="f"; filename="a.txt"\nContent-Type: text/plain\n\ncontent\n'
        '--BOUNDARY\nContent-Disposition: form-data; name="f"; filename="b%22.bin"\n'
        "Content-Type: application/octet-stream\n\nx\n--BOUNDARY--\n"
    )


def test_reading_in_parts() -> None:
    def handler(req: Any) -> int:
        return text(req, [req.read(2), req.readline(), req.readline(1), req.readlines(), req.read(5)])

    assert Client(handler).post("/", b"one\ntwo\nthree").text == "[b'on', b'e\\n', b't', [b'wo\\n', b'three'], b'']"
    long = b"x" * 30000 + b"\ny"
    assert Client(lambda req: text(req, [len(req.readline()), req.read()])).post("/", long).text == "[30001, b'y']"


def test_a_chunked_body_has_no_length() -> None:
    def handler(req: Any) -> int:
        return text(req, [req.read_chunked, req.headers_in.get("Content-Length"), req.read()])

    assert Client(handler).post("/", b"abc", chunked=True).text == "[1, None, b'abc']"


def test_head_and_bare_answers() -> None:
    client = Client(lambda req: setattr(req, "status", int(req.args or 200)) or text(req, "body"))
    assert (client.head("/").body, client.get("/?204").body, client.get("/?304").body) == (b"", b"", b"")
    assert "Content-Length" not in client.get("/?304").headers


def test_flush_fixes_the_head() -> None:
    def handler(req: Any) -> int:
        req.headers_out["X"] = "before"
        req.write("a", 0)
        assert (req.sent_bodyct, req._bytes_queued) == (0, 1)
        req.flush()
        req.headers_out["X"] = "after"
        req.status = 500
        return text(req, [req.sent_bodyct, req.bytes_sent])

    response = Client(handler).get("/")
    assert (response.status, response.headers["X"], response.text) == (200, "before", "a[1, 1]")


def test_sendfile(site: Site) -> None:
    file = str(site.write("f.bin", "0123456789"))

    def handler(req: Any) -> int:
        assert (req.sendfile(file, 2, 3), req.sendfile(file, 8)) == (3, 2)
        with pytest.raises(OSError, match="Could not stat"):
            req.sendfile("/no/such/file")
        return apache.OK

    assert Client(handler, raise_errors=True).get("/").body == b"23489"


def test_the_client_may_go_away() -> None:
    def handler(req: Any) -> int:
        while True:
            req.write("x" * 10)

    response = Client(handler).get("/", disconnect_after=25)
    assert (len(response.body), response.request.connection.aborted) == (30, 1)
    assert "Write failed, client closed connection." in response.log[-1].text


def test_conditions() -> None:
    def handler(req: Any) -> int:
        req.headers_out["ETag"] = '"v1"'
        req.update_mtime(1_000_000_000)
        req.set_last_modified()
        found = req.meets_conditions()
        return found or text(req, "whole")

    client = Client(handler)
    assert client.get("/").text == "whole"
    assert client.get("/", headers={"If-None-Match": '"x", W/"v1"'}).status == 304
    assert client.put("/", headers={"If-None-Match": "*"}).status == 412
    assert client.get("/", headers={"If-Match": '"x"'}).status == 412
    assert client.get("/", headers={"If-Modified-Since": "Sun, 09 Sep 2001 01:46:40 GMT"}).status == 304
    assert client.get("/", headers={"If-Modified-Since": "Sun, 09 Sep 2000 01:46:40 GMT"}).status == 200


def test_allow_methods() -> None:
    client = Client(lambda req: req.allow_methods(["PUT", "BREW"]) or 405)
    response = client.get("/")
    assert (response.status, response.headers["Allow"]) == (405, "PUT,BREW")


def test_redirects() -> None:
    def handler(req: Any) -> int:
        if req.uri == "/old":
            req.headers_out["Location"] = "new?x=1"
            return apache.HTTP_SEE_OTHER
        return text(req, [req.method, req.uri, req.args])

    client = Client(handler)
    assert client.post("/old", b"x").status == 303
    assert client.post("/old", b"x", follow=True).text == "['GET', '/new', 'x=1']"


def test_internal_redirect() -> None:
    def handler(req: Any) -> int:
        if req.prev is None:
            req.mine = ["first"]
            req.subprocess_env["E"] = "1"
            req.err_headers_out["X-Err"] = "1"
            req.internal_redirect("/other?x=y")
            assert req.mine == ["first", "second"]
            return apache.OK
        req.prev.mine.append("second")
        return text(req, [req.uri, req.args, req.prev.uri, req.prev.next is req, req.subprocess_env["REDIRECT_E"]])

    response = Client(handler, raise_errors=True).get("/here")
    assert response.text == "['/other', 'x=y', '/here', True, '1']"
    assert (response.headers["X-Err"], response.request.uri) == ("1", "/other")


def test_internal_redirects_end() -> None:
    assert Client(lambda req: req.internal_redirect("/again")).get("/").status == 500


def test_tls_and_environment() -> None:
    def handler(req: Any) -> int:
        req.add_cgi_vars()
        env = req.subprocess_env
        return text(req, [req.is_https(), req.ssl_var_lookup("SSL_PROTOCOL"), req.construct_url("/x"), env["SET"],
                          env["REQUEST_SCHEME"], env["HTTP_X_Y"], env["QUERY_STRING"]])  # fmt: skip

    client = Client(handler, https=True, ssl_vars={"SSL_PROTOCOL": "TLSv1.3"}, environ={"SET": "1"})
    seen = client.get("/p?q", headers={"X-Y": "z"}).text
    assert seen == "[1, 'TLSv1.3', 'https://localhost/x', '1', 'https', 'z', 'q']"


# --- filters ---------------------------------------------------------------------------------------------------------


def shout(flt: Any) -> None:
    data = flt.read()
    while data:
        flt.write(data.upper())
        data = flt.read()
    if data is None:
        flt.close()


def test_output_filters() -> None:
    def mark(flt: Any) -> None:
        data = flt.read()
        while data:
            flt.write(b"<" + data + b">")
            data = flt.read()

    client = Client(lambda req: req.write("ab", 0) or req.write("cd") or req.write("ef") or 0,
                    PythonOutputFilter={"SHOUT": shout, "MARK": mark}, SetOutputFilter="SHOUT;MARK")  # fmt: skip
    assert client.get("/").text == "<ABCD><EF>"


def test_input_filter() -> None:
    client = Client(
        lambda req: text(req, [req.readline(), req.read()]), PythonInputFilter={"S": shout}, SetInputFilter=["S"]
    )
    assert client.post("/", b"one\ntwo").text == "[b'ONE\\n', b'TWO']"


def test_filters_of_a_request() -> None:
    def handler(req: Any) -> int:
        req.register_output_filter("MINE", "test_testing_bodies::shout")
        req.add_output_filter("mine")
        req.add_output_filter("DEFLATE")
        return text(req, "text")

    response = Client(handler).get("/")
    assert (response.text, response.log) == ("TEXT", [(apache.APLOG_ERR, "an unknown filter was not added: DEFLATE")])


def test_a_failing_filter_is_transparent() -> None:
    def broken(flt: Any) -> None:
        flt.read()
        raise ValueError("broken filter")

    client = Client(lambda req: text(req, "text"), PythonOutputFilter={"B": broken}, SetOutputFilter="B")
    response = client.get("/")
    assert (response.status, response.text) == (200, "text")
    assert "broken filter" in response.log[-1].text


def test_filters_that_step_aside() -> None:
    def pass_on(flt: Any) -> None:
        flt.pass_on()

    def disable(flt: Any) -> None:
        flt.read(2)
        flt.disable()

    def once(flt: Any) -> None:
        flt.write("only this")
        flt.close()
        with pytest.raises(ValueError, match="closed filter"):
            flt.write("more")

    def answer(flt: Any) -> str:
        client = Client(lambda req: text(req, "some text") or text(req, " more"), raise_errors=True,
                        PythonOutputFilter={"F": flt}, SetOutputFilter="F")  # fmt: skip
        return client.get("/").text

    assert (answer(pass_on), answer(disable), answer(once)) == ("some text more", "me text more", "only this")


def test_connection_handler() -> None:
    def echo(conn: Any) -> int:
        assert conn.hlist.handler.endswith("::handler")
        while True:
            try:
                conn.write(conn.readline().upper())
            except OSError:
                return apache.OK

    assert Client(PythonConnectionHandler=echo).connect(b"one\ntwo") == b"ONE\nTWO"
