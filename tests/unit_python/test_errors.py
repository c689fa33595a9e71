"""Results and errors of handlers (mod_python-api.md, section 3)."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from fake_vivarium import Request
from fake_vivarium import run as phase_of
from sites import Site, items, texts

from mod_python import apache

RESULTS = """
from mod_python import apache
from mod_python.apache import SERVER_RETURN
class Int(int): pass
def none(req): return None
def text(req): return "hello"
def true(req): return True
def real(req): return 1.5
def generator(req): yield 1
def subclass(req): return Int(404)
def ok(req): return apache.OK
def declined(req): return apache.DECLINED
def done(req): return apache.DONE
def not_found(req): return apache.HTTP_NOT_FOUND
def one(req): return 1
def big(req): return 999
def twohundred(req): return 200
def negative(req): return -5
def suspended(req): return -3
def huge(req): return 2 ** 40
def status(req):
    req.status = 404
    return apache.OK
def sr(req): raise SERVER_RETURN(404)
def sr_ok(req): raise SERVER_RETURN(apache.OK)
def sr_declined(req): raise SERVER_RETURN(apache.DECLINED)
def sr_done(req): raise SERVER_RETURN(apache.DONE)
def sr_status(req): raise SERVER_RETURN(apache.DONE, 418)
def sr_code_and_status(req): raise SERVER_RETURN(404, 405)
def sr_no_status(req): raise SERVER_RETURN(404, 0)
def sr_three(req): raise SERVER_RETURN(404, 405, 406)
def sr_deep(req):
    def inner(): raise SERVER_RETURN(403)
    try:
        inner()
    finally:
        req.ran.append("finally")
def sr_text(req): raise SERVER_RETURN("x")
def sr_none(req): raise SERVER_RETURN(None)
def sr_true(req): raise SERVER_RETURN(True)
def sr_class(req): raise SERVER_RETURN
def sr_empty(req): raise SERVER_RETURN()
def sr_text_status(req): raise SERVER_RETURN(404, "x")
class Made:
    def __init__(self, req): raise SERVER_RETURN(apache.OK)
    def method(self, req): return 0
"""


def run(dispatcher: Any, site: Site, req: Request, name: str, debug: bool = False) -> int:
    site.write("results.py", RESULTS)
    return phase_of(dispatcher, req, "PythonHandler", items(site, f"results::{name}"), debug)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("name", "result", "status"),
    [
        ("ok", 0, 200),
        ("declined", -1, 200),
        ("done", -2, 200),
        ("not_found", 404, 200),
        ("twohundred", 200, 200),
        ("status", 0, 404),
        ("sr", 404, 200),
        ("sr_ok", 0, 200),
        ("sr_declined", -1, 200),
        ("sr_done", -2, 200),
        ("sr_status", -2, 418),
        ("sr_code_and_status", 404, 405),
        ("sr_no_status", 404, 200),
        ("sr_three", 404, 200),
        ("sr_deep", 403, 200),
    ],
)
def test_results_go_to_httpd_as_they_are(
    dispatcher: Any, site: Site, req: Request, name: str, result: int, status: int, debug: bool
) -> None:
    assert run(dispatcher, site, req, name, debug) == result
    assert req.status == status
    assert (req.lines, req.body) == ([], b"")


@pytest.mark.parametrize(("name", "code"), [("one", 1), ("big", 999), ("negative", -5), ("suspended", -3), ("huge", 2**40)])
def test_impossible_results_are_500(
    dispatcher: Any, site: Site, req: Request, name: str, code: int
) -> None:
    assert run(dispatcher, site, req, name) == 500
    assert texts(req.lines) == [f"PythonHandler results::{name}: invalid result code {code}"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", "NoneType"),
        ("text", "str"),
        ("true", "bool"),
        ("real", "float"),
        ("generator", "generator"),
        ("subclass", "results.Int"),
        ("sr_text", "str"),
        ("sr_none", "NoneType"),
        ("sr_true", "bool"),
    ],
)
def test_non_integers_are_500(
    dispatcher: Any, site: Site, req: Request, name: str, kind: str
) -> None:
    assert run(dispatcher, site, req, name) == 500
    title = f"PythonHandler results::{name}: "
    assert texts(req.lines)[-4:] == [
        title + "Traceback (most recent call last):",
        title + "AssertionError: Handler has returned result or raised SERVER_RETURN",
        title + "exception with argument having non integer type. Type of value returned",
        title + f"was <class '{kind}'>, whereas expected <class 'int'>.",
    ]


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("sr_class", "IndexError: tuple index out of range"),
        ("sr_empty", "IndexError: tuple index out of range"),
        ("Made.method", "_apache.SERVER_RETURN: 0"),
    ],
)
def test_malformed_server_return_is_500(
    dispatcher: Any, site: Site, req: Request, name: str, last: str
) -> None:
    assert run(dispatcher, site, req, name) == 500
    lines = texts(req.lines)
    assert lines[-1] == f"PythonHandler results::{name}: {last}"
    if last.startswith("IndexError"):
        assert lines[-2] == f"PythonHandler results::{name}: Traceback (most recent call last):"


def test_server_return_with_a_bad_status_is_500(dispatcher: Any, site: Site) -> None:
    class Strict(Request):
        @property
        def status(self) -> int:
            return 200

        @status.setter
        def status(self, value: Any) -> None:
            if not isinstance(value, int):
                raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")

    req = Strict()
    assert run(dispatcher, site, req, "sr_text_status") == 500
    lines = texts(req.lines)
    assert lines[-1].endswith("TypeError: 'str' object cannot be interpreted as an integer")
    assert any(line.endswith("_apache.SERVER_RETURN: (404, 'x')") for line in lines)


ERRORS = """
import sys
def plain(req): raise ValueError("boom <b>&\\"'")
def after(req):
    req.write("partial")
    raise ValueError("boom")
def leaves(req): sys.exit(3)
def interrupt(req): raise KeyboardInterrupt
def base(req):
    class Base(BaseException): pass
    raise Base("b")
def chained(req):
    try: 1 / 0
    except ZeroDivisionError as e: raise KeyError("k") from e
def lines(req): raise ValueError("line 1\\nline 2\\n\\nline 4")
def odd(req): raise ValueError("caf\\u00e9 \\0 \\udc80")
def unprintable(req):
    class Unprintable(Exception):
        def __str__(self): raise RuntimeError("no")
    raise Unprintable
def gone(req): raise OSError("Write failed, client closed connection.")
def recursive(req): return recursive(req)
"""


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("plain", "ValueError: boom <b>&\"'"),
        ("leaves", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("base", "errors.base.<locals>.Base: b"),
        ("chained", "KeyError: 'k'"),
        ("lines", "line 4"),
        ("odd", "ValueError: café \\x00 \\udc80"),
        ("unprintable", "errors.unprintable.<locals>.Unprintable: <exception str() failed>"),
        ("gone", "OSError: Write failed, client closed connection."),
        ("recursive", "RecursionError: maximum recursion depth exceeded"),
    ],
)
@pytest.mark.parametrize("phase", ["PythonHandler", "PythonAccessHandler", "PythonLogHandler"])
def test_errors_are_logged_and_500(
    dispatcher: Any, site: Site, req: Request, name: str, last: str, phase: str
) -> None:
    file = site.write("errors.py", ERRORS)
    assert phase_of(dispatcher, req, phase, items(site, f"errors::{name}"), False) == 500
    title = f"{phase} errors::{name}: "
    lines = texts(req.lines)
    assert lines[0] == title + "Traceback (most recent call last):"
    assert lines[1].startswith(f'{title}  File "{file}", line ')
    assert lines[-1] == title + last
    assert all(line.startswith(title) and "\n" not in line for line in lines)
    assert req.body == b""


def test_an_error_ends_the_list(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("errors.py", ERRORS + "def more(req):\n    req.ran.append('more')\n    return 0\n")
    handlers = items(site, "errors::plain", "errors::more")
    assert phase_of(dispatcher, req, "PythonFixupHandler", handlers, False) == 500
    assert req.ran == []
    assert req.hlist is None


def test_the_page_of_python_debug(dispatcher: Any, site: Site, req: Request) -> None:
    file = site.write("page.py", "def handler(req):\n    raise ValueError('<b>')\n")
    result = phase_of(dispatcher, req, "PythonHandler", items(site, "page"), True)
    assert (result, req.status, req.content_type) == (apache.DONE, 500, "text/html")
    head = b'\n<pre>\nMod_python error: "PythonHandler page"\n\nTraceback (most recent call last):\n\n'
    assert req.body.startswith(head)
    frame = f"  File &quot;{file}&quot;, line 2, in handler\n    raise ValueError(&#x27;&lt;b&gt;&#x27;)\n"
    assert req.body[len(head) :].decode().startswith(frame)
    assert req.body.endswith(b"\nValueError: &lt;b&gt;\n\n</pre>\n")
    assert texts(req.lines)[-1] == "PythonHandler page: ValueError: <b>"


def test_the_page_after_output_has_begun(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("errors.py", ERRORS)
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "errors::after"), True) == apache.DONE
    assert req.body.startswith(b'partial\n<pre>\nMod_python error: "PythonHandler errors::after"')


@pytest.mark.parametrize("name", ["plain", "leaves", "odd", "unprintable", "lines", "chained", "recursive"])
@pytest.mark.parametrize("phase", ["PythonHandler", "PythonAccessHandler", "PythonAuthenHandler"])
def test_the_page_in_every_phase_before_the_answer(
    dispatcher: Any, site: Site, req: Request, name: str, phase: str
) -> None:
    site.write("errors.py", ERRORS)
    assert phase_of(dispatcher, req, phase, items(site, f"errors::{name}"), True) == apache.DONE
    assert f'"{phase} errors::{name}"'.encode() in req.body
    assert req.status == 500


@pytest.mark.parametrize("phase", ["PythonLogHandler", "PythonCleanupHandler"])
def test_no_page_after_the_answer(dispatcher: Any, site: Site, req: Request, phase: str) -> None:
    site.write("errors.py", ERRORS)
    assert phase_of(dispatcher, req, phase, items(site, "errors::plain"), True) == 500
    assert (req.body, req.status) == (b"", 200)
    assert texts(req.lines)[-1].startswith(f"{phase} errors::plain: ValueError")


def test_no_page_for_a_client_that_has_gone(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("errors.py", ERRORS)
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "errors::gone"), True) == 500
    assert req.body == b""


def test_a_page_that_cannot_be_written_is_500(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("errors.py", ERRORS)
    req.write_error = OSError("Write failed, client closed connection.")
    assert phase_of(dispatcher, req, "PythonAccessHandler", items(site, "errors::plain"), True) == 500
    assert texts(req.lines)[-1].endswith("ValueError: boom <b>&\"'")
    req.write_error = RuntimeError("no writing now")
    assert phase_of(dispatcher, req, "PythonAccessHandler", items(site, "errors::plain"), True) == 500
    assert texts(req.lines)[-1].endswith("RuntimeError: no writing now")


def test_an_error_that_cannot_be_logged_is_500_all_the_same(
    dispatcher: Any, site: Site, req: Request, monkeypatch: Any
) -> None:
    site.write("errors.py", ERRORS)
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())

    def fail(text: str, level: int = 3) -> None:
        raise OSError("httpd is gone")

    req.log_error = fail  # type: ignore[method-assign]
    assert phase_of(dispatcher, req, "PythonAccessHandler", items(site, "errors::plain"), False) == 500
    assert "ValueError: boom" in sys.__stderr__.getvalue()


SYNTAX = [
    ("def handler(req):\n    retrun 5 x\n", ["    retrun 5 x", "SyntaxError: invalid syntax"]),
    ("def handler(req):\n\tif 1:\n        return 0\n", ["TabError: inconsistent use of tabs and spaces in indentation"]),
]


@pytest.mark.parametrize(("source", "expected"), SYNTAX)
def test_syntax_errors_name_file_and_line(
    dispatcher: Any, site: Site, req: Request, source: str, expected: Any
) -> None:
    file = site.write("wrong.py", source)
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "wrong"), True) == apache.DONE
    lines = [line.removeprefix("PythonHandler wrong: ") for line in texts(req.lines)]
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{file}", line ')
    assert set(expected) <= set(lines)
    assert b"File &quot;" in req.body


def test_an_error_while_importing_shows_the_modules_lines_only(
    dispatcher: Any, site: Site, req: Request
) -> None:
    file = site.write("fails.py", "x = 1\n1 / 0\n")
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "fails"), False) == 500
    lines = [line.removeprefix("PythonHandler fails: ") for line in texts(req.lines)]
    assert lines[:3] == ["Traceback (most recent call last):", f'  File "{file}", line 2, in <module>', "    1 / 0"]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert sum(line.startswith("  File ") for line in lines) == 1


def test_a_module_that_exits_does_not_end_the_worker(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("leaves.py", "import sys\nsys.exit(4)\n")
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "leaves"), False) == 500
    assert texts(req.lines)[-1] == "PythonHandler leaves: SystemExit: 4"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 has them first")
def test_exception_groups(dispatcher: Any, site: Site, req: Request) -> None:
    site.write("group.py", "def handler(req):\n    raise ExceptionGroup('two', [ValueError(1), TypeError(2)])\n")
    assert phase_of(dispatcher, req, "PythonHandler", items(site, "group"), False) == 500
    lines = texts(req.lines)
    assert lines[0] == "PythonHandler group:   + Exception Group Traceback (most recent call last):"
    assert any(line.endswith("| TypeError: 2") for line in lines)
