"""The test client ``mod_python.testing``: phases, filters, bodies, redirects, and what the doubles refuse."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
from sites import Site

from mod_python import apache
from mod_python.testing import Client, LogLine
from mod_python.testing._fields import FIELDS
from mod_python.testing._request import Request

REPO = Path(__file__).resolve().parents[2]


def text(req: Any, value: Any) -> int:
    req.content_type = "text/plain"
    req.write(str(value))
    return apache.OK


def hello(req: Any) -> int:
    return text(req, f"Hello {req.args}")


def fails(req: Any) -> int:
    raise KeyError("a reason")


# --- handlers and what names them ------------------------------------------------------------------------------------


def test_a_function() -> None:
    response = Client(hello).get("/x?name=Ada")
    assert (response.status, response.reason, response.text) == (200, "OK", "Hello name=Ada")
    assert (response.content_type, response.headers["content-length"]) == ("text/plain", "14")
    assert (response.phases, response.log) == ([("PythonHandler", 0)], [])


def test_names_modules_and_lambdas(site: Site) -> None:
    site.write(
        "named.py",
        "def handler(req): req.write('handler')\ndef other(req): req.write('other')\n".replace("\n", "; return 0\n"),
    )
    assert Client("named", directory=site.path).get("/").body == b"handler"
    assert Client("named::other", directory=str(site)).get("/").body == b"other"
    sys.path.insert(0, str(site.path))
    import named  # type: ignore[import-not-found]

    assert Client(named).get("/").body == b"handler"
    assert Client(named.other).get("/").body == b"other"
    named.other = lambda req: 404
    assert Client("named::other").get("/").status == 404
    assert Client(lambda req: text(req, "lambda")).get("/").text == "lambda"


def test_a_list_of_handlers_runs_while_ok() -> None:
    ran = []
    client = Client([lambda req: ran.append(1) or 0, lambda req: ran.append(2) or 403, lambda req: ran.append(3) or 0])
    assert (client.get("/").status, ran) == (403, [1, 2])


def test_by_extension(site: Site) -> None:
    site.write("x.txt", "a file")
    client = Client(PythonHandler=["test_testing::hello", "test_testing::fails | .txt"], document_root=site.path)
    assert client.get("/other").status == 200
    assert client.get("/x.txt").status == 500


def test_unknown_directives_are_refused() -> None:
    with pytest.raises(TypeError, match="PythonHandlr is no directive"):
        Client(PythonHandlr="x")
    with pytest.raises(TypeError, match="no handler: 5"):
        Client(5)  # type: ignore[arg-type]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_exception_is_500_with_a_log() -> None:
    response = Client(fails).get("/")
    assert response.status == 500
    assert "KeyError" not in response.text
    assert response.log[-1] == LogLine(apache.APLOG_ERR, "PythonHandler test_testing::fails: KeyError: 'a reason'")


def test_python_debug_shows_it() -> None:
    response = Client(fails, PythonDebug=True).get("/")
    assert response.status == 500
    assert "Mod_python error" in response.text
    assert "KeyError" in response.text


def test_errors_can_be_raised() -> None:
    with pytest.raises(KeyError, match="a reason"):
        Client(fails, raise_errors=True).get("/")
    with pytest.raises(KeyError, match="a reason"):
        Client(hello, PythonOutputFilter={"F": fails}, SetOutputFilter="F", raise_errors=True).get("/")


@pytest.mark.parametrize(
    ("code", "headers"), [(403, {"X-Err": "1"}), (302, {"X-Err": "1", "Location": "/new"}), (404, {"X-Err": "1"})]
)
def test_error_codes(code: int, headers: Any) -> None:
    def handler(req: Any) -> int:
        req.headers_out["X-Out"] = "1"
        req.headers_out["Location"] = "/new"
        req.err_headers_out["X-Err"] = "1"
        return code

    response = Client(handler).get("/")
    found = {k: v for k, v in response.headers.items() if not k.startswith("Content")}
    assert (response.status, found) == (code, headers)


def test_server_return() -> None:
    def handler(req: Any) -> int:
        raise apache.SERVER_RETURN(apache.DONE, 418)

    response = Client(handler).get("/")
    assert response.status == 418


def test_a_page_after_the_beginning() -> None:
    response = Client(lambda req: req.write("begun ") or 500).get("/")
    assert response.status == 200
    assert response.text.startswith("begun <html>")


def test_declined_is_the_file_or_404(site: Site) -> None:
    site.write("a.txt", "a file")
    client = Client(lambda req: apache.DECLINED, document_root=site.path)
    assert client.get("/a.txt").text == "a file"
    assert client.get("/a.txt").content_type == "text/plain"
    assert client.get("/none").status == 404
    assert client.post("/a.txt").status == 405
    assert client.get("/../a.txt").status == 400


# --- phases ----------------------------------------------------------------------------------------------------------

ALL = [
    "PythonPostReadRequestHandler", "PythonTransHandler", "PythonInitHandler", "PythonHeaderParserHandler",
    "PythonAccessHandler", "PythonAuthenHandler", "PythonAuthzHandler", "PythonTypeHandler", "PythonFixupHandler",
    "PythonHandler", "PythonLogHandler", "PythonCleanupHandler",
]  # fmt: skip


def test_phases_in_order_share_the_request() -> None:
    def any_phase(req: Any) -> int:
        req.seen = [*getattr(req, "seen", []), req.phase]
        if req.phase == "PythonAuthenHandler":
            req.user = "ada"
        if req.phase == "PythonHandler":
            return text(req, "content")
        return apache.DECLINED if req.phase in ("PythonTransHandler", "PythonTypeHandler") else apache.OK

    response = Client(**dict.fromkeys(ALL, any_phase)).get("/")
    assert response.request.seen == ALL
    assert [name for name, _ in response.phases] == ALL
    assert response.text == "content"


def test_access_denied_ends_it_but_is_logged() -> None:
    response = Client(hello, PythonAccessHandler=lambda req: 403, PythonLogHandler=lambda req: 0).get("/")
    assert (response.status, response.phases) == (403, [("PythonAccessHandler", 403), ("PythonLogHandler", 0)])


def authenhandler(req: Any) -> int:
    password = req.get_basic_auth_pw()
    return apache.OK if (req.user, password) == ("ada", "l0ve") else apache.HTTP_UNAUTHORIZED


def test_basic_authentication() -> None:
    client = Client(lambda req: text(req, req.user), PythonAuthenHandler=authenhandler, AuthName="A place")
    refused = client.get("/")
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="A place"')
    assert client.get("/", auth=("ada", "wrong")).status == 401
    assert client.get("/", auth=("ada", "l0ve")).text == "ada"


def test_authentication_must_set_the_user() -> None:
    response = Client(hello, PythonAuthenHandler=lambda req: apache.OK).get("/")
    assert (response.status, "req.user" in response.log[-1].text) == (500, True)


def test_nobody_to_authenticate() -> None:
    assert Client(hello, Require="valid-user").get("/").status == 500
    assert Client(hello, Require="all denied").get("/").status == 403
    assert Client(hello, Require="all granted", PythonAuthenHandler=fails).get("/").status == 200


def test_providers(site: Site) -> None:
    site.write(
        "accounts.py",
        "def checkpassword(req, user, password):\n    return password == 'right'\n"
        "def groups(req, user):\n    return ['staff'] if user == 'ada' else []\n",
    )
    client = Client(
        hello, directory=site.path, PythonAuthnProvider="accounts", PythonAuthzProvider="accounts",
        Require="python-group staff",
    )  # fmt: skip
    assert client.get("/").status == 401
    assert client.get("/", auth=("ada", "wrong")).status == 401
    assert client.get("/", auth=("ada", "right")).status == 200
    assert client.get("/", auth=("bob", "right")).status == 401


def test_handlers_may_be_added() -> None:
    def fixup(req: Any) -> int:
        req.add_handler("PythonHandler", "test_testing::hello")
        with pytest.raises(IndexError):
            req.add_handler("PythonCleanupHandler", "x")
        return apache.OK

    assert Client(PythonFixupHandler=fixup).get("/?a").text == "Hello a"


def test_silent_handlers() -> None:
    module = type(sys)("silent_module")
    module.fixuphandler = lambda req: setattr(req, "fixed", 1) or 0  # type: ignore[attr-defined]
    module.handler = lambda req: text(req, req.fixed)  # type: ignore[attr-defined]
    assert Client(PythonHandlerModule=module).get("/").text == "1"


def test_cleanups_run_last_and_are_logged() -> None:
    ran = []

    def handler(req: Any) -> int:
        req.register_cleanup(ran.append, "request")
        req.register_cleanup(lambda data: data / 0, 1)
        req.server.register_cleanup(req, ran.append, "server")
        apache.register_cleanup(ran.append, "worker")
        return text(req, ran)

    client = Client(handler)
    response = client.get("/")
    assert (response.text, ran) == ("[]", ["request"])
    assert "ZeroDivisionError" in response.log[-1].text
    client.close()
    assert ran == ["request", "worker", "server"]


# --- configuration ---------------------------------------------------------------------------------------------------


def test_options_and_config() -> None:
    def handler(req: Any) -> int:
        assert req.server.get_options()["a"] == "1"
        return text(req, [req.get_options().items(), req.get_config().items()])

    response = Client(handler, PythonOption={"a": 1, "gone": ""}, PythonDebug="On").get("/")
    assert response.text == "[[('a', '1')], [('PythonDebug', '1')]]"


def test_sections() -> None:
    client = Client(lambda req: text(req, dict(req.get_options().items())), PythonOption={"a": "outer", "b": "kept"})
    client.location("/admin", PythonOption={"a": "inner"}, PythonAccessHandler=lambda req: int(req.args == "no") * 403)
    assert client.get("/").text == "{'a': 'outer', 'b': 'kept'}"
    assert client.get("/admin/x").text == "{'a': 'inner', 'b': 'kept'}"
    assert client.get("/administrator").text == "{'a': 'outer', 'b': 'kept'}"
    assert client.get("/admin?no").status == 403


def test_location_maps_no_file() -> None:
    client = Client(lambda req: text(req, [req.filename, req.hlist.directory, req.hlist.is_location]), location="/app")
    assert client.get("/app/x").text == "[None, '/app', 1]"


def test_files_are_mapped(site: Site) -> None:
    site.write("sub/page.html", "x")
    client = Client(lambda req: text(req, [req.filename, req.path_info, req.finfo.size]), document_root=site.path)
    assert client.get("/sub/page.html/a/b").text == f"['{site.path}/sub/page.html', '/a/b', 1]"
    assert client.get("/none/a").text == f"['{site.path}/none', '/a', None]"


def test_what_apache_offers(site: Site) -> None:
    def handler(req: Any) -> int:
        apache.log_error("line", apache.APLOG_NOTICE)
        assert apache.main_server is req.server
        assert isinstance(apache.table(), type(req.headers_in))
        tree = apache.config_tree()
        facts = [apache.server_root(), apache.exists_config_define("X"), apache.exists_config_define("Y")]
        return text(req, [*facts, apache.stat(str(site.path), 0).filetype == apache.APR_DIR, tree[1:]])

    client = Client(handler, defines=["X"], PythonOption={"k": "v"})
    response = client.get("/")
    assert response.text == "['/etc/apache2', True, False, True, [('PythonOption', 'k v')]]"
    assert response.log == [(apache.APLOG_NOTICE, "line")]


def test_imports(site: Site) -> None:
    site.write("started.py", "STARTED = []\ndef start():\n    STARTED.append(1)\n")
    sys.path.insert(0, str(site.path))
    assert not [line for line in Client(hello, PythonImport=["started::start"]).log]
    assert sys.modules["started"].STARTED == [1]
    assert "ModuleNotFoundError" in str(Client(hello, PythonImport="no_such_module_here").log)


# --- the doubles -----------------------------------------------------------------------------------------------------


def test_type_names_are_the_real_ones() -> None:
    def handler(req: Any) -> int:
        return text(req, [type(x) for x in (req, req.connection, req.server, req.headers_in, req.finfo, req.hlist)])

    names = ("mp_request", "mp_conn", "mp_server", "mp_table", "mp_finfo", "mp_hlist")
    assert Client(handler).get("/").text == "[" + ", ".join(f"<class '{name}'>" for name in names) + "]"


def test_the_attributes_are_those_of_the_protocol() -> None:
    source = (REPO / "protocol/src/fields.rs").read_text()
    rows = re.findall(r'^    \w+ "(\w+)" (\w+) (ro|rw) \w+;', source, re.M)
    assert {(name, kind, access == "rw") for name, kind, access in rows} == set(FIELDS)


@pytest.mark.parametrize(("source", "double"), [("request", Request)])
def test_the_methods_are_those_of_the_extension(source: str, double: type) -> None:
    text_ = (REPO / f"interp-daemon/worker/src/types/{source}.rs").read_text()
    inside = text_[text_.index("#[pymethods]") :]
    names = set(re.findall(r"^    fn ([a-z]\w*)", inside, re.M))
    assert names
    assert not names - set(dir(double))


def test_attributes_refuse_what_the_real_ones_refuse() -> None:
    def handler(req: Any) -> int:
        for name, value, error in [
            ("method", "x", AttributeError), ("status", "x", TypeError), ("uri", None, TypeError),
            ("uri", "\u20ac", TypeError), ("finfo", 1, TypeError), ("headers_out", 1, AttributeError),
        ]:  # fmt: skip
            with pytest.raises(error):
                setattr(req, name, value)
        with pytest.raises(TypeError):
            del req.status
        req.args = req.handler = None
        req.uri = b"/caf\xc3\xa9"
        req.own = 1
        with pytest.raises(AttributeError):
            req.connection.own = 1
        return text(req, req.uri)

    assert Client(handler, raise_errors=True).get("/").text == "/café"


def test_httpd_is_there_only_for_requests() -> None:
    Client(hello).get("/")
    assert apache.main_server if hasattr(sys.modules["_vivarium"], "main_server") else True
    assert sys.modules["mod_python._apache"]._vivarium is sys.modules["_vivarium"]  # type: ignore[attr-defined]


def test_not_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["_vivarium"], "serve", lambda: None, raising=False)
    with pytest.raises(RuntimeError, match="nothing in a worker"):
        Client(hello).get("/")


@pytest.fixture(autouse=True)
def modules_by_name() -> Iterator[None]:
    """Handlers here are named by this module, wherever pytest has put it."""
    sys.modules.setdefault("test_testing", sys.modules[__name__])
    fake = sys.modules["_vivarium"]
    fake.answers["main_server"] = object()  # type: ignore[attr-defined]
    yield
