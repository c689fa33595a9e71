"""The functions of ``mod_python.apache`` and ``_apache`` (mod_python-api.md, section 4)."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, List

import fake_vivarium
import pytest
from fake_vivarium import Request, Server
from sites import PACKAGE, Site

from mod_python import _apache, apache


def test_apache_is_importable_by_its_old_name() -> None:
    import _apache as top  # type: ignore[import-not-found]

    assert top is _apache
    assert apache.SERVER_RETURN is top.SERVER_RETURN is fake_vivarium.SERVER_RETURN
    assert repr(apache.SERVER_RETURN) == "<class '_apache.SERVER_RETURN'>"
    assert apache.make_table is apache.table is fake_vivarium.table
    names = (
        "APR_BLK APR_CHR APR_DIR APR_LNK APR_NOFILE APR_PIPE APR_REG APR_SOCK APR_UNKFILE AP_CONN_CLOSE AP_CONN_KEEPALIVE "
        "AP_CONN_UNKNOWN MODULE_MAGIC_NUMBER_MAJOR MODULE_MAGIC_NUMBER_MINOR SERVER_RETURN _global_lock _global_trylock "
        "_global_unlock config_tree exists_config_define log_error mpm_query parse_qs parse_qsl register_cleanup "
        "server_root stat table"
    )
    assert [name for name in names.split() if not hasattr(top, name)] == []


def test_log_error() -> None:
    for args in (("a",), ("b", 3), ("c", 0), ("d", apache.APLOG_NOERRNO | apache.APLOG_WARNING), (None,), (None, 4), ("e", 12), ("",)):
        apache.log_error(*args)
    assert fake_vivarium.logged == [(3, "a"), (3, "b"), (3, "c"), (4, "d"), (7, "e"), (3, "")]
    server = Server()
    apache.log_error("f", apache.APLOG_INFO, server)
    apache.log_error("g", 0, server)
    assert server.lines == [(6, "f"), (3, "g")]
    apache.log_error("h", apache.APLOG_ERR, None)
    assert fake_vivarium.logged[-1] == (3, "h")


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((5,), TypeError, "argument 1 must be str or None, not int"),
        ((b"x",), TypeError, "argument 1 must be str or None, not bytes"),
        (("x", None), TypeError, "cannot be interpreted as an integer"),
        (("a\0b",), ValueError, "embedded null character"),
    ],
)
def test_log_error_arguments(args: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        apache.log_error(*args)
    assert fake_vivarium.logged == []


def test_questions_to_httpd(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_vivarium.answers.update(
        server_root="/etc/apache2",
        mpm_query=lambda number, text: number * 2,
        exists_config_define=lambda number, text: int(text == b"FOREGROUND"),
    )
    assert apache.server_root() == "/etc/apache2"
    fake_vivarium.answers["server_root"] = b"/etc/apache2"
    assert apache.server_root() == "/etc/apache2"
    assert apache.mpm_query(apache.AP_MPMQ_MAX_THREADS) == 12
    assert apache.exists_config_define("FOREGROUND") is True
    assert apache.exists_config_define("OTHER") is False
    with pytest.raises(TypeError):
        apache.exists_config_define(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        apache.mpm_query("1")  # type: ignore[arg-type]
    monkeypatch.setattr(fake_vivarium, "stat", lambda *args: args, raising=False)
    assert apache.stat("/tmp", apache.APR_FINFO_NORM) == ("/tmp", apache.APR_FINFO_NORM)


def test_where_a_server_is_wanted() -> None:
    server = Server()
    apache.log_error("to its log", apache.APLOG_NOTICE, server)
    assert server.lines == [(apache.APLOG_NOTICE, "to its log")]
    for wrong in (4, Request(), "server"):
        with pytest.raises(TypeError, match="argument 3 must be mp_server, not "):
            apache.log_error("x", 3, wrong)
        with pytest.raises(TypeError, match="First argument must be a server object"):
            _apache._global_trylock(wrong, "key")


def test_version() -> None:
    import mod_python

    assert mod_python.version.version == mod_python.mp_version == "3.5.0"


def test_what_the_extension_lacks_says_so() -> None:
    with pytest.raises(RuntimeError, match="config_tree is not available: this build of the extension"):
        apache.config_tree()


def test_interpreter_and_main_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert apache.interpreter == "main_interpreter"
    fake_vivarium.current = Request()
    assert apache.interpreter == "example.com"
    server = fake_vivarium.answers["main_server"] = Server()
    assert apache.main_server is server
    assert {"interpreter", "main_server", "CallBack"} <= set(dir(apache))
    with pytest.raises(AttributeError):
        apache.nope  # noqa: B018
    try:
        made = apache.init("www", server)
        assert (apache.interpreter, apache.main_server) == ("www", server)
        assert isinstance(made, apache.CallBack)
    finally:
        del apache.interpreter, apache.main_server


def test_allow_methods() -> None:
    with pytest.raises(RuntimeError, match="outside a request"):
        apache.allow_methods(apache.M_GET)
    fake_vivarium.current = req = Request()
    apache.allow_methods(apache.M_GET, apache.M_VERSION_CONTROL)
    assert req.allowed == ["GET", "VERSION-CONTROL"]
    with pytest.raises(ValueError, match="not a method number: 99"):
        apache.allow_methods(apache.M_PUT, 99)
    assert req.allowed == ["GET", "VERSION-CONTROL"]


class Holder:
    __file__ = "/srv/holder.py"

    class Made:
        value = 5

        def __init__(self, arg: Any) -> None:
            self.arg = arg

        def method(self) -> Any:
            return self.arg

    class plain:  # noqa: N801
        x = 1

    number = 5


def test_resolve_object() -> None:
    assert apache.resolve_object(Holder, "Made") is Holder.Made
    assert apache.resolve_object(Holder, "Made.method", "arg")() == "arg"
    assert apache.resolve_object(Holder, "number.real") == 5
    with pytest.raises(AttributeError, match="module '/srv/holder.py' contains no 'nope'"):
        apache.resolve_object(Holder, "nope")
    with pytest.raises(AttributeError, match="type object 'Made' has no attribute 'arg'"):
        apache.resolve_object(Holder, "Made.arg", "x")
    with pytest.raises(TypeError):
        apache.resolve_object(Holder, "plain.x", "x", 1)
    for name in ("nope", "nope.more", "Made.nope", "number.nope"):
        assert apache.resolve_object(Holder, name, None, 1) is None


def test_module_mtime(site: Site) -> None:
    file = site.write("timed.py", "")
    os.utime(file, (5, 5))

    class Timed:
        __file__ = str(file)

    class Compiled:
        __file__ = str(file) + "c"

    class Missing:
        __file__ = "/nonexistent.py"

    assert [apache.module_mtime(m) for m in (Timed, Compiled, Missing, sys)] == [5, 5, 0, 0]  # type: ignore[arg-type]


QUERIES = [
    ("a=1", [("a", "1")]),
    ("ab=12&c=345", [("ab", "12"), ("c", "345")]),
    ("a=1;b=2", [("a", "1"), ("b", "2")]),
    ("a=+%20x", [("a", "  x")]),
    ("a=%zz%4", [("a", "%zz%4")]),
    ("a=%e2%82%ac", [("a", "€")]),
    ("a%3d=b", [("a=", "b")]),
    ("a=b=c", [("a", "b=c")]),
    ("a=1&a=2", [("a", "1"), ("a", "2")]),
    ("", []),
    ("&&", []),
    ("=x", [("", "x")]),
    ("a=&b&c=x", [("c", "x")]),
    ("a=%00b", []),
    ("a=x%00b", [("a", "x")]),
    ("a=%e9", [("a", "\ufffd")]),
    ("caf\u00e9=\u20ac", [("café", "€")]),
]


@pytest.mark.parametrize(("query", "fields"), QUERIES)
def test_parse_qsl(query: str, fields: List[Any]) -> None:
    assert _apache.parse_qsl(query) == fields
    raw = _apache.parse_qsl(query.encode())
    assert [(n.decode("utf-8", "replace"), v.decode("utf-8", "replace")) for n, v in raw] == fields


def test_parse_qs() -> None:
    assert _apache.parse_qs("a=1&b=2&a=3") == {"a": ["1", "3"], "b": ["2"]}
    assert _apache.parse_qs(b"a=&b", 1) == {b"a": [b""], b"b": [b""]}
    assert _apache.parse_qsl("a=&b", 1, 1) == [("a", ""), ("b", "")]
    with pytest.raises(TypeError, match="not an ISO-8859-1 string"):
        _apache.parse_qs(None)  # type: ignore[arg-type]


# --- CGI -------------------------------------------------------------------------------------------------------------


def test_build_cgi_env() -> None:
    req = Request()
    req.headers_in["Authorization"] = "Basic dTpw"
    env = apache.build_cgi_env(req)
    assert dict(env.items()) == {"GATEWAY_INTERFACE": "Python-CGI/1.1", "HTTP_AUTHORIZATION": "Basic dTpw"}
    assert req.subprocess_env["GATEWAY_INTERFACE"] == "CGI/1.1"


def test_setup_cgi_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_INTERFACE", raising=False)
    before = (dict(os.environ), sys.stdin, sys.stdout)
    req = Request()
    req.input = b"line 1\nline 2\nrest"
    saved = apache.setup_cgi(req)
    try:
        assert os.environ["GATEWAY_INTERFACE"] == "Python-CGI/1.1"
        print("Status: 201 Created\nContent-Type: text/x-foo\nX-A: b\nX-A: c")
        print(sys.stdin.readline(), end="")
        print("\nbody", sys.stdin.readline(3), sys.stdin.read(4), sys.stdin.readlines(), sys.stdin.read())
        sys.stdout.flush()
        told = sys.stdout.tell()
    finally:
        apache.restore_nocgi(*saved)
    assert (dict(os.environ), sys.stdin, sys.stdout) == before
    assert (req.status, req.status_line, req.content_type) == (201, "201 Created", "text/x-foo")
    assert req.headers_out["X-A"] == ["b", "c"]
    assert req.body == b"body lin e 2\n ['rest'] \n"
    assert told == len(req.body)


@pytest.mark.parametrize(
    ("output", "status", "body"),
    [
        (["\nbody"], 200, b"body"),
        ([b"\r\nbody"], 200, b"body"),
        (["Location: /x\r\n", "\r\nbody"], 302, b"body"),
        (["Status: 303\nLocation: /x\n\n"], 303, b""),
        (["Content-Length: 4\n", "\n", "bo", b"dy"], 200, b"body"),
        (["X: y\n"], 200, b""),
        (["no header\n\nbody"], 200, b"body"),
    ],
)
def test_cgi_output(output: List[Any], status: int, body: bytes) -> None:
    req = Request()
    out = apache.CGIStdout(req)
    out.writelines(output)
    assert (req.status, req.body) == (status, body)


def test_null_io() -> None:
    null = apache.NullIO()
    null.write("x")
    null.flush()
    null.seek(0)
    null.close()
    assert (null.read(), null.readline(), null.readlines(), null.tell(), null.isatty()) == ("", "", [], 0, 0)


# --- outside a worker ------------------------------------------------------------------------------------------------

OUTSIDE = """
import sys
from mod_python import apache, _dispatch, version
import _apache, mod_python
assert apache.OK == 0 and apache.HTTP_NOT_FOUND == 404 and apache.interpreter == "main_interpreter"
class Mine(apache.table): pass
def fails(call, *args):
    try:
        call(*args)
    except RuntimeError as e:
        assert "is not a Vivarium worker" in str(e), e
    else:
        raise AssertionError(call)
assert Mine({"a": 1})["A"] == apache.table([("a", 1)])["A"] == "1"
for call in (apache.config_tree, apache.server_root):
    fails(call)
fails(apache.log_error, "x")
fails(apache.mpm_query, 1)
fails(apache.exists_config_define, "X")
fails(apache.register_cleanup, print)
fails(lambda: apache.main_server)
fails(_dispatch.install)
assert apache.import_module("json") is __import__("json")
assert repr(apache.SERVER_RETURN) == "<class '_apache.SERVER_RETURN'>"
assert _apache.parse_qs("a=1") == {"a": ["1"]}
assert version.version == mod_python.mp_version
print("fine")
"""


def test_outside_a_worker() -> None:
    env = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", OUTSIDE], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")
