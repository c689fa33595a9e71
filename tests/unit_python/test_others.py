"""Filters, connection handlers, clean-ups and ``PythonImport``."""

from __future__ import annotations

from typing import Any, List

import fake_vivarium
import pytest
from fake_vivarium import Connection, Filter, Request, Server
from sites import Site, config, items, texts

FILTERS = """
from mod_python import apache
def outputfilter(f): f.write("out")
def inputfilter(f): f.write("in")
def closes(f):
    f.write("w")
    f.close()
def returns(f): return 404
def disables(f): f.disable()
def fails(f): raise ValueError("<boom>")
def fails_after(f):
    f.write("pre")
    raise ValueError("boom")
def fails_closed(f):
    f.close()
    f.write("x")
def leaves(f): raise SystemExit(1)
def gone(f): raise OSError("Write failed, client closed connection.")
def forbids(f):
    f.write("pre")
    raise apache.SERVER_RETURN(403)
def forbids_by_status(f): raise apache.SERVER_RETURN(apache.DONE, 404)
def ends(f): raise apache.SERVER_RETURN
def ends_closed(f):
    f.close()
    raise apache.SERVER_RETURN(apache.OK)
class Upper:
    def __init__(self, f): f.done.append("made")
    def method(self, f): f.write("method")
"""


def run(dispatcher: Any, site: Site, name: str, debug: bool = False, is_input: int = 0) -> Filter:
    site.write("filters.py", FILTERS)
    made = Filter(Request(), "upper", is_input)
    dispatcher.filter(made, items(site, name), debug)
    return made


@pytest.mark.parametrize(
    ("name", "is_input", "done"),
    [
        ("filters", 0, [b"out", "flush"]),
        ("filters", 1, [b"in", "flush"]),
        ("filters::closes", 0, [b"w", "close"]),
        ("filters::returns", 0, ["flush"]),
        ("filters::disables", 0, ["disable", "flush"]),
        ("filters::Upper.method", 0, ["made", b"method", "flush"]),
    ],
)
def test_filters_are_flushed_unless_closed(
    dispatcher: Any, site: Site, name: str, is_input: int, done: List[Any]
) -> None:
    made = run(dispatcher, site, name, is_input=is_input)
    assert made.done == done
    assert made.req.lines == []
    dispatcher.filter(made, items(site, "filters::returns"), False)


@pytest.mark.parametrize("name", ["filters::fails", "filters::fails_after", "filters::leaves", "filters::nope", "nosuchmodule"])
@pytest.mark.parametrize("is_input", [0, 1])
def test_a_failing_filter_is_disabled(dispatcher: Any, site: Site, name: str, is_input: int) -> None:
    made = run(dispatcher, site, name, is_input=is_input)
    assert made.done[-2:] == ["flush", "disable"]
    lines = texts(made.req.lines)
    assert lines[0] == f"upper {name}: Traceback (most recent call last):"
    assert made.req.status == 200
    assert not any(isinstance(part, bytes) and b"Mod_python error" in part for part in made.done)


def test_a_failing_output_filter_writes_the_page_through_itself(dispatcher: Any, site: Site) -> None:
    made = run(dispatcher, site, "filters::fails_after", debug=True)
    assert made.done[0] == b"pre"
    assert made.done[1].startswith(b'\n<pre>\nMod_python error: "upper filters::fails_after"\n\n')
    assert made.done[2:] == ["flush", "disable"]
    assert (made.req.status, made.req.content_type, made.req.body) == (500, "text/html", b"")


def test_a_failing_input_filter_puts_no_page_into_the_request_body(dispatcher: Any, site: Site) -> None:
    made = run(dispatcher, site, "filters::fails", debug=True, is_input=1)
    assert made.done == ["flush", "disable"]
    assert made.req.status == 200


def test_a_filter_that_fails_closed_or_without_client_gets_no_page(dispatcher: Any, site: Site) -> None:
    made = run(dispatcher, site, "filters::fails_closed", debug=True)
    assert made.done == ["close", "disable"]
    assert texts(made.req.lines)[-1].endswith("ValueError: I/O operation on closed filter")
    assert run(dispatcher, site, "filters::gone", debug=True).done == ["flush", "disable"]


def test_a_filter_whose_flush_fails_is_disabled(dispatcher: Any, site: Site) -> None:
    site.write("filters.py", FILTERS)
    made = Filter(Request())
    made.flush_error = OSError("Write failed, client closed connection.")
    dispatcher.filter(made, items(site, "filters"), False)
    assert made.done == [b"out", "disable"]


@pytest.mark.parametrize(
    ("name", "done", "status"),
    [
        ("forbids", [b"pre", "close"], 403),
        ("forbids_by_status", ["close"], 404),
        ("ends", ["close"], 200),
        ("ends_closed", ["close"], 200),
    ],
)
def test_server_return_ends_a_filter(
    dispatcher: Any, site: Site, name: str, done: List[Any], status: int
) -> None:
    made = run(dispatcher, site, f"filters::{name}")
    assert (made.done, made.req.status, made.req.lines) == (done, status, [])


CONNECTIONS = """
from mod_python import apache
def connectionhandler(conn):
    conn.log_error("first")
    return apache.OK
def second(conn): conn.log_error("second")
def declined(conn): return apache.DECLINED
def none(conn): return None
def suspended(conn): return -3
def fails(conn): raise ValueError("conn")
def forbids(conn): raise apache.SERVER_RETURN(403)
class Made:
    def __init__(self, conn): self.conn = conn
    def method(self, conn):
        conn.log_error("%s" % (self.conn is conn))
        return apache.OK
"""


def test_only_the_first_connection_handler_runs(dispatcher: Any, site: Site) -> None:
    site.write("conns.py", CONNECTIONS)
    conn = Connection()
    assert dispatcher.connection(conn, items(None, "conns"), False) == 500
    assert texts(conn.lines)[-1] == "ConnectionHandler conns: ModuleNotFoundError: No module named 'conns'"
    conn = Connection(config(PythonPath=f"sys.path + [{str(site)!r}]"))
    assert dispatcher.connection(conn, items(None, "conns", "conns::second"), False) == 0
    assert texts(conn.lines) == ["first"]
    assert dispatcher.connection(conn, (), False) == -1


@pytest.mark.parametrize(
    ("name", "result", "last"),
    [
        ("declined", -1, None),
        ("Made.method", 0, "True"),
        ("none", 500, "AssertionError: ConnectionHandler 'conns::none' returned invalid return code."),
        ("suspended", 500, "invalid result code -3"),
        ("fails", 500, "ValueError: conn"),
        ("forbids", 500, "_apache.SERVER_RETURN: 403"),
        ("nope", 500, None),
    ],
)
def test_connection_handlers(dispatcher: Any, site: Site, name: str, result: int, last: Any) -> None:
    site.write("conns.py", CONNECTIONS)
    conn = Connection()
    handlers = items(site, f"conns::{name}")
    for _ in range(2):
        assert dispatcher.connection(conn, handlers, True) == result
    if last is not None:
        lines = texts(conn.lines)
        assert lines[-1] == (last if result == 0 else f"ConnectionHandler conns::{name}: {last}")


def test_cleanups_get_their_data_and_log_their_errors(dispatcher: Any) -> None:
    req = Request()
    seen: List[Any] = []
    dispatcher.cleanup(req, seen.append, {"a": 1})
    dispatcher.cleanup(req, seen.append, None)
    # A tuple is the arguments, a list is one.
    dispatcher.cleanup(req, lambda *args: seen.append(args), ("a", 1))
    dispatcher.cleanup(req, lambda *args: seen.append(args), ())
    dispatcher.cleanup(req, lambda *args: seen.append(args), ["a", 1])
    assert (seen, req.lines) == ([{"a": 1}, None, ("a", 1), (), (["a", 1],)], [])

    class Clean:
        def __call__(self, data: Any) -> None:
            raise KeyError("ck\nl2")

        def __repr__(self) -> str:
            return "<Clean>"

    dispatcher.cleanup(req, Clean(), None)
    assert texts(req.lines) == [
        "python_cleanup: Error calling cleanup object <Clean>",
        "    <class 'KeyError'>: 'ck\\nl2'",
    ]


def test_a_cleanup_that_exits_or_cannot_be_shown_is_logged(dispatcher: Any) -> None:
    class Odd:
        def __call__(self, data: Any) -> None:
            raise SystemExit(5)

        def __repr__(self) -> str:
            raise RuntimeError

    dispatcher.cleanup(None, Odd(), None)
    assert texts(fake_vivarium.logged) == [
        "python_cleanup: Error calling cleanup object <Odd: str() failed with RuntimeError>",
        "    <class 'SystemExit'>: 5",
    ]


def test_cleanups_of_the_worker_go_to_the_extension() -> None:
    from mod_python import _apache, apache

    apache.register_cleanup(print, 1)
    _apache.register_cleanup("main_interpreter", None, print)
    assert fake_vivarium.at_end == [(print, 1), (print, None)]
    with pytest.raises(ValueError, match="third argument must be a callable object"):
        apache.register_cleanup(5)  # type: ignore[arg-type]


def test_python_import(dispatcher: Any, site: Site) -> None:
    site.write(
        "boot.py",
        "from mod_python import apache\ndone = []\ndef start(): done.append(1)\ndef bad(): raise ValueError('bad')\n",
    )
    server = Server(config(PythonPath=f"[{str(site)!r}] + sys.path"))
    assert dispatcher.python_import("boot::start", server) is True
    assert dispatcher.python_import("boot", server) is True
    import boot  # type: ignore[import-not-found]

    assert boot.done == [1]
    assert fake_vivarium.logged == []
    for spec, error in (
        ("boot::bad", "ValueError: bad"),
        ("boot::nope", "AttributeError: module 'boot' has no attribute 'nope'"),
        ("nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
    ):
        fake_vivarium.logged.clear()
        assert dispatcher.python_import(spec, server) is False
        lines = texts(fake_vivarium.logged)
        assert lines[-2:] == [f"PythonImport {spec}: {error}", f"directive_PythonImport: error importing {spec}"]


def test_install_hands_the_dispatcher_over() -> None:
    from mod_python import _dispatch, apache

    made = _dispatch.install()
    assert fake_vivarium.dispatcher is made is _dispatch.dispatcher()
    assert isinstance(made, apache.CallBack)
