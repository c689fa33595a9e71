"""mod_python.Cookie."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import marshal
from datetime import date
from typing import Any

import pytest
from form_requests import FormRequest

from mod_python import Cookie
from mod_python.Cookie import CookieError, MarshalCookie, SignedCookie

EVERYTHING = {
    "httponly": 1, "port": "80,81", "discard": 1, "samesite": "lax", "max_age": 60, "expires": 86400, "comment": "c m",
    "secure": True, "domain": "example.org", "path": "/p", "version": 1,
}


def test_the_order_of_attributes() -> None:
    assert str(Cookie.Cookie("n", "v", **EVERYTHING)) == (
        "n=v; version=1; path=/p; domain=example.org; secure; comment=c m; expires=Fri, 02-Jan-1970 00:00:00 GMT; "
        "max-age=60; samesite=Lax; discard; port=80,81; httponly"
    )
    assert str(Cookie.Cookie("n", "v", commentURL="http://x/")) == "n=v; commentURL=http://x/"
    assert repr(Cookie.Cookie("n", 5)) == "<Cookie: n=5>"


def test_flags_that_are_off_and_attributes_that_are_none() -> None:
    cookie = Cookie.Cookie("n", "v", secure=0, httponly=False, path=None)
    assert str(cookie) == "n=v"
    cookie.path = "/x"
    assert str(cookie) == "n=v; path=/x"
    cookie.path = None
    assert str(cookie) == "n=v"
    assert not hasattr(cookie, "domain")


def test_unknown_attributes() -> None:
    with pytest.raises(AttributeError):
        Cookie.Cookie("n", "v", colour="red")
    cookie = Cookie.Cookie("n", "v")
    with pytest.raises(AttributeError):
        cookie.colour = "red"


@pytest.mark.parametrize("value", ["x", "Sat, 14 Jun 2003 02:42:36 GMT", [], 1e30])
def test_wrong_expiry(value: Any) -> None:
    with pytest.raises(ValueError):
        Cookie.Cookie("n", "v", expires=value)


def test_expiry_as_text() -> None:
    assert str(Cookie.Cookie("n", "v", expires="Sat, 14-Jun-2003 02:42:36 GMT")).endswith("=Sat, 14-Jun-2003 02:42:36 GMT")


@pytest.mark.parametrize(
    ("name", "value", "more"),
    [
        ("a\r\nSet-Cookie: b", "v", {}), ("a b", "v", {}), ("a=b", "v", {}), ("a;b", "v", {}), ("", "v", {}), ("é", "v", {}),
        ("a", "v\r\nX: y", {}), ("a", "v\nx", {}), ("a", "v\0", {}), ("a", "\ud800", {}),
        ("a", "v", {"path": "/\r\nX: y"}), ("a", "v", {"path": "/; domain=evil"}), ("a", "v", {"domain": "x\0"}),
        ("a", "v", {"comment": "ü"}), ("a", "v", {"samesite": "sometimes"}), ("a", "v", {"max_age": "soon"}),
        ("a", "v", {"max_age": "1; domain=evil"}),
    ],
)
def test_what_cannot_be_a_cookie(name: str, value: str, more: Any) -> None:
    with pytest.raises(CookieError):
        Cookie.Cookie(name, value, **more)


def test_attributes_are_checked_when_they_are_set_later() -> None:
    cookie = Cookie.Cookie("a", "v")
    for name, value in (("value", "x\r\ny"), ("name", "x\r\ny"), ("path", "x\r\ny")):
        with pytest.raises(CookieError):
            setattr(cookie, name, value)
    assert str(cookie) == "a=v"


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ("v", "v"), ("", ""), ("v w", "v w"), ("a,b", "a,b"), ("a=b%20/[]{}", "a=b%20/[]{}"),
        ("v;w", '"v\\073w"'), ('v"w', '"v\\"w"'), ("v\\w", '"v\\\\w"'), (" v", '" v"'), ("é", '"\\303\\251"'), ("\t", '"\\011"'),
        ('"q"', '"\\"q\\""'), ("€" * 3, '"' + "\\342\\202\\254" * 3 + '"'),
    ],
)
def test_quoting_and_back(value: str, wire: str) -> None:
    assert str(Cookie.Cookie("n", value)) == f"n={wire}"
    found = Cookie.Cookie.parse(f"a=b; n={wire}; c=d")
    assert found["n"].value == value
    assert {name: cookie.value for name, cookie in found.items() if name != "n"} == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=b; c=d", {"a": "b", "c": "d"}), ("a=b;c=d", {"a": "b", "c": "d"}), (" a = b ; c=d", {"a": "b", "c": "d"}),
        ("a=b=c", {"a": "b=c"}), ("a", {"a": ""}), ("a=", {"a": ""}), ("a=b;a=c", {"a": "c"}), ("=b", {}), (";;;", {}),
        ("$Version=1; a=b; $Path=/p", {"a": "b"}), ('a="b c"; d=e', {"a": "b c", "d": "e"}), ("a=b,c=d", {"a": "b,c=d"}),
        ("a=b\r\nx=y", {}), ("a b=c; d=e", {"d": "e"}), ('a="b', {"a": '"b'}), ('a="\\777"', {"a": "777"}), ("", {}),
        ('a="\\377"', {"a": "ÿ"}),
    ],
)
def test_parse(header: str, expected: Any) -> None:
    assert {name: cookie.value for name, cookie in Cookie.Cookie.parse(header).items()} == expected


def test_parse_some_names() -> None:
    assert list(Cookie.Cookie.parse("a=b; c=d; e=f", names=["a", "e"])) == ["a", "e"]


# --- signatures

def test_signed() -> None:
    cookie = SignedCookie("n", "v w;", "secret", path="/")
    wire = str(cookie).partition("; ")[0]
    assert wire.startswith(f'n="{hmac.new(b"secret", b"n=v w;", hashlib.sha256).hexdigest()}')
    found = SignedCookie.parse(wire, "secret")["n"]
    assert (type(found), found.value) == (SignedCookie, "v w;")
    assert type(SignedCookie.parse(wire, b"secret")["n"]) is SignedCookie


@pytest.mark.parametrize("change", [
    lambda wire: wire[:-1] + "w", lambda wire: "m" + wire[1:], lambda wire: "n=v",
    lambda wire: "n=" + "0" * 64 + "v", lambda wire: "n=é" + wire[3:], lambda wire: "n=" + wire[2:].upper(),
])
def test_a_wrong_signature(change: Any) -> None:
    wire = change(str(SignedCookie("n", "v", "secret")))
    assert wire != str(SignedCookie("n", "v", "secret"))
    for found in SignedCookie.parse(wire, "secret").values():
        assert type(found) is Cookie.Cookie
    assert SignedCookie.parse(wire, "secret", Cookie.Cookie.IGNORE) == {}
    with pytest.raises(CookieError):
        SignedCookie.parse(wire, "secret", mismatch=SignedCookie.EXCEPTION)


def test_a_name_cannot_take_a_part_of_the_value() -> None:
    wire = str(SignedCookie("ab", "c", "secret"))
    assert type(SignedCookie.parse("a=" + wire[3:-1] + "bc", "secret")["a"]) is Cookie.Cookie


def test_without_a_secret() -> None:
    for secret in (None, "", b""):
        with pytest.raises(CookieError, match="without a secret"):
            SignedCookie("n", "v", secret)
        with pytest.raises(CookieError):
            SignedCookie.parse("n=v", secret)


def old(value: str) -> str:
    """What mod_python on Python 2 sent."""
    return "n=" + hmac.new(b"secret", b"n" + value.encode(), hashlib.md5).hexdigest() + value


def test_old_signatures_by_option_only() -> None:
    assert type(SignedCookie.parse(old("v"), "secret")["n"]) is Cookie.Cookie
    found = SignedCookie.parse(old("v"), "secret", legacy_md5=True)["n"]
    assert (type(found), found.value) == (SignedCookie, "v")
    assert len(str(found)) == len("n=") + 64 + 1, "what is sent again has the new signature"
    req = FormRequest(cookie=old("v"), mod_python__cookie__legacy_md5="On")
    assert type(Cookie.get_cookie(req, "n", SignedCookie, secret="secret")) is SignedCookie
    assert type(Cookie.get_cookie(FormRequest(cookie=old("v")), "n", SignedCookie, secret="secret")) is Cookie.Cookie


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True], "b": "é"}, [1], "text", 5, (1, 2), {1: b"x"}, {""}, date(2020, 1, 2)])
def test_values_of_marshal_cookies(value: Any) -> None:
    wire = str(MarshalCookie("n", value, "secret"))
    found = MarshalCookie.parse(wire, "secret")["n"]
    assert (type(found), found.value, type(found.value)) == (MarshalCookie, value, type(value))
    json.loads(base64.urlsafe_b64decode(wire[2 + 64 :]))


def test_a_value_that_json_does_not_know() -> None:
    with pytest.raises(CookieError, match=r"the cookie's value\['x'\]\[1\] is a builtins.object"):
        MarshalCookie("n", {"x": [1, object()]}, "secret")


def test_marshal_is_not_read_unless_it_is_asked_for() -> None:
    wire = old(base64.encodebytes(marshal.dumps({"a": 1})).decode().strip())
    assert type(MarshalCookie.parse(wire, "secret")["n"]) is Cookie.Cookie
    assert type(MarshalCookie.parse(wire, "secret", legacy_md5=True)["n"]) is Cookie.Cookie
    assert MarshalCookie.parse(wire, "secret", legacy_marshal=True)["n"].value == {"a": 1}
    assert type(MarshalCookie.parse(wire[:-1] + "x", "secret", legacy_marshal=True)["n"]) is Cookie.Cookie


def test_signed_rubbish_is_no_marshal_cookie() -> None:
    for text in ("x", "!!!", base64.urlsafe_b64encode(b"{").decode(), base64.urlsafe_b64encode(b'{"":["nope",1]}').decode()):
        wire = str(SignedCookie("n", text, "secret"))
        assert type(MarshalCookie.parse(wire, "secret")["n"]) is Cookie.Cookie


# --- requests

def test_add_cookie() -> None:
    req = FormRequest()
    Cookie.add_cookie(req, "x", "y", path="/", expires=0)
    Cookie.add_cookie(req, Cookie.Cookie("z", "w"))
    assert req.headers_out.items() == [
        ("Cache-Control", 'no-cache="set-cookie"'),
        ("Set-Cookie", "x=y; path=/; expires=Thu, 01-Jan-1970 00:00:00 GMT"), ("Set-Cookie", "z=w"),
    ]
    with pytest.raises(CookieError):
        Cookie.add_cookie(req, "x", "y\r\nX: y")
    assert len(req.headers_out.items()) == 3


def test_get_cookies() -> None:
    req = FormRequest(cookie="a=b; c=d")
    assert {n: c.value for n, c in Cookie.get_cookies(req).items()} == {"a": "b", "c": "d"}
    assert Cookie.get_cookie(req, "a").value == "b"
    assert Cookie.get_cookie(req, "x") is None
    assert Cookie.get_cookies(FormRequest()) == {}
    req.headers_in.add("Cookie", "e=f")
    assert sorted(Cookie.get_cookies(req)) == ["a", "c", "e"]
    with pytest.raises(CookieError):
        Cookie.get_cookies(req, SignedCookie)


def test_a_kind_of_ones_own() -> None:
    class Mine(Cookie.Cookie):
        extra = None

    cookie = Mine("n", "v")
    cookie.extra = 5
    assert (cookie.extra, str(cookie)) == (5, "n=v")
    assert type(Mine.parse("a=b")["a"]) is Mine
