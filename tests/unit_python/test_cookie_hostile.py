"""Cookies from attackers: any header can be read, and whatever is sent is one header."""

from __future__ import annotations

import re

from form_requests import FormRequest
from generated import common as some
from hypothesis import given, settings, strategies as st

from mod_python import Cookie, _safejson
from mod_python._sessions import base

common = settings(some, max_examples=400)
soup = st.lists(
    st.one_of(st.sampled_from([*'a=;"\\ ,$\t\r\n\0é\udcff', "pysid=", "../" * 9, "0" * 32, "\\3", "\\377", "%00"]), st.text(max_size=4)), max_size=20
).map("".join)


@settings(common)
@given(header=soup)
def test_any_header_can_be_read(header: str) -> None:
    for kind, more in ((Cookie.Cookie, {}), (Cookie.SignedCookie, {"secret": "s", "legacy_md5": True}),
                       (Cookie.MarshalCookie, {"secret": "s", "legacy_marshal": True})):
        for name, cookie in kind.parse(header, **more).items():
            assert type(cookie) is Cookie.Cookie, "nobody signed this"
            assert cookie.name == name
            line = str(cookie)
            assert line.isascii()
            assert not re.search(r"[\x00-\x1f\x7f]", line)


@settings(common)
@given(value=soup)
def test_values_come_back(value: str) -> None:
    try:
        cookie = Cookie.Cookie("n", value)
    except Cookie.CookieError:
        return
    assert Cookie.Cookie.parse(f"x=1; {cookie}; y=2")["n"].value == value


@settings(common)
@given(header=soup)
def test_no_header_names_a_session_that_is_no_id(header: str) -> None:
    session = base.BaseSession.__new__(base.BaseSession)
    session._req, session._secret = FormRequest(cookie=header), None
    found = session._sid_of_cookie()
    assert found is None or re.fullmatch("[0-9a-f]{32}", found)


@settings(common)
@given(text=st.one_of(st.text(max_size=40), st.binary(max_size=40), soup))
def test_any_text_is_json_or_none(text: object) -> None:
    try:
        _safejson.loads(text)
    except ValueError:
        return


things = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.dates(), st.datetimes(), st.timedeltas(),
              st.decimals(allow_nan=False), st.uuids(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text(max_size=3), inner),
                            st.dictionaries(st.integers(), inner), st.sets(st.integers())),
    max_leaves=10,
)


@settings(common, max_examples=200)
@given(thing=things)
def test_what_is_written_comes_back(thing: object) -> None:
    found = _safejson.loads(_safejson.dumps(thing))
    assert found == thing
    assert type(found) is type(thing)
