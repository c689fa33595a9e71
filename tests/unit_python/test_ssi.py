"""Elements of SSI pages (mod_python-api.md, section 15)."""

from __future__ import annotations

from typing import Any

import pytest
from fake_vivarium import Filter, Request
from sites import texts

from mod_python import apache

PAGE = "/srv/www/page.shtml"


@pytest.fixture
def page() -> Filter:
    """The filter of an element of a page."""
    made = Filter(Request(), "includes")
    made.req.filename = PAGE
    made.req.uri = "/page.shtml"
    return made


def test_value_is_written_as_text(dispatcher: Any, page: Filter) -> None:
    for code in ("1 + 1", "'<b>'", "b'x'", "  3  ", "\n 4\n", "'\xe9'"):
        assert dispatcher.ssi(page, "eval", code, False) == apache.OK
    assert page.done == [b"2", b"<b>", b"b'x'", b"3", b"4", "\xe9".encode()]


def test_none_is_nothing(dispatcher: Any, page: Filter) -> None:
    assert dispatcher.ssi(page, "eval", "None", False) == apache.OK
    assert page.done == []


def test_elements_of_a_request_share_names(dispatcher: Any, page: Filter) -> None:
    assert dispatcher.ssi(page, "exec", "import os.path\ndef f():\n    return os.path.basename(__file__)", False) == 0
    assert dispatcher.ssi(page, "eval", "f() + filter.req.uri", False) == 0
    assert page.done == [b"page.shtml/page.shtml"]
    names = page.req.ssi_globals
    assert names["filter"] is None
    assert names["__file__"] == PAGE
    other = Filter(Request(), "includes")
    other.req.filename = PAGE
    assert dispatcher.ssi(other, "eval", "f()", False) == 500


def test_names_that_a_handler_has_prepared(dispatcher: Any, page: Filter) -> None:
    page.req.ssi_globals = {"prepared": 42}
    assert dispatcher.ssi(page, "eval", "prepared", False) == 0
    assert dispatcher.ssi(page, "exec", "filter.req.ssi_globals = {'new': 1}", False) == 0
    assert dispatcher.ssi(page, "eval", "new", False) == 0
    assert page.done == [b"42", b"1"]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("\nif 1:\n    filter.write('a')\n", b"a"),
        ("\r\nif 1:\r\n    filter.write('a')\r\n", b"a"),
        ("  z = 3\n  filter.write(str(z))", b"3"),
        ("\n    # first\n    def f():\n        return 7\n    filter.write(str(f()))\n", b"7"),
        ("\n\tt = 1\n\tfilter.write(str(t))\n", b"1"),
        # Code at the margin keeps the white space in its strings.
        ("s = '''\n   \n'''\nfilter.write(repr(s))", b"'\\n   \\n'"),
    ],
)
def test_indentation_of_code(dispatcher: Any, page: Filter, code: str, wanted: bytes) -> None:
    assert dispatcher.ssi(page, "exec", code, False) == apache.OK
    assert page.done == [wanted]


@pytest.mark.parametrize(
    ("what", "code", "last"),
    [
        ("eval", "1/0", "ZeroDivisionError: division by zero"),
        ("eval", "1 +", "SyntaxError: invalid syntax"),
        ("exec", "raise SystemExit(3)", "SystemExit: 3"),
        ("exec", "from mod_python import apache\nraise apache.SERVER_RETURN(403)", "_apache.SERVER_RETURN: 403"),
        ("echo", "1", "ValueError: an SSI python element has no attribute 'echo'"),
    ],
)
def test_error_is_logged_and_shown_by_the_page_s_own_text(
    dispatcher: Any, page: Filter, what: str, code: str, last: str
) -> None:
    assert dispatcher.ssi(page, what, code, False) == 500
    assert page.done == []
    lines = texts(page.req.lines)
    assert lines[0] == f"includes {PAGE}: Traceback (most recent call last):"
    assert lines[-1] == f"includes {PAGE}: {last}"
    # The road through the package says nothing to the page's author.
    assert not any("_ssi.py" in line or "_dispatch.py" in line for line in lines)
    assert page.req.ssi_globals["filter"] is None


def test_debugging_shows_the_error_in_its_place(dispatcher: Any, page: Filter) -> None:
    assert dispatcher.ssi(page, "exec", "filter.write('before'); 1/0", True) == apache.OK
    assert page.done[0] == b"before"
    shown = page.done[1].decode()
    assert shown.startswith(f'\n<pre>\nMod_python error: "includes {PAGE}"\n\nTraceback')
    assert "ZeroDivisionError: division by zero" in shown
    # The page around it goes on: neither its status nor its type changes.
    assert (page.req.status, page.req.content_type) == (200, None)


def test_python_path_holds_for_pages(dispatcher: Any, page: Filter) -> None:
    page.req.config["PythonPath"] = "['/srv/of/the/page'] + sys.path"
    assert dispatcher.ssi(page, "eval", "__import__('sys').path[0]", False) == apache.OK
    assert page.done == [b"/srv/of/the/page"]
