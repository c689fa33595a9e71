"""Running pages: names, files, errors with the pages' lines, the cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from psp_pages import PageRequest
from sites import Site

from mod_python import _errors, _psp_code, apache, psp


@pytest.fixture(autouse=True)
def empty_caches() -> Iterator[None]:
    psp._files.clear()
    psp._strings.clear()
    yield


class Session(dict):  # type: ignore[type-arg]
    """A session that notes what is done with it."""

    made: List[Session] = []

    def __init__(self, req: Any) -> None:
        super().__init__()
        self.done: List[str] = []
        self.made.append(self)

    def save(self) -> None:
        self.done.append("save")

    def unlock(self) -> None:
        self.done.append("unlock")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> List[Session]:
    monkeypatch.setattr(psp.Session, "Session", Session)
    monkeypatch.setattr(Session, "made", [])
    return Session.made


def run(site: Site, text: str, req: Any = None, **names: Any) -> PageRequest:
    site.write("page.psp", text)
    req = req or PageRequest(site.path / "page.psp")
    psp.PSP(req).run(names)
    return req  # type: ignore[no-any-return]


def traceback_of(site: Site, text: str) -> List[str]:
    """The lines of the traceback of a page that fails, from the page on."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever the page raises)
        run(site, text)
    lines = "".join(_errors.chunks(caught.value)).splitlines()
    first = next(number for number, line in enumerate(lines) if str(site.path) in line)
    return [line.replace(str(site.path), "") for line in lines[first:] if set(line) - set(" ~^")]


# --- what a page sees ---------------------------------------------------------------------------------------------


def test_names(site: Site) -> None:
    req = run(site, "<%= apache.OK %> <%= req is util %> <%= os.path.basename(__file__) %> <%= who %> "
                    "<%= escape('<') %> <%= type(psp).__name__ %>", who="me")
    assert req.text == "0 False page.psp me &lt; PSPInterface"


def test_variables_of_the_page_and_of_the_run(site: Site) -> None:
    site.write("page.psp", "<%= a %><%= b %>")
    req = PageRequest(site.path / "page.psp")
    page = psp.PSP(req, vars={"a": 1, "b": 1})
    page.run({"b": 2})
    page.run()
    assert req.text == "1211"
    page.run(flush=1)
    assert req.flushed == 1


def test_what_a_page_assigns_is_its_own(site: Site) -> None:
    site.write("page.psp", "<% os = x = 1 %><%= 'y' in globals() %><% y = 1 %>")
    req = PageRequest(site.path / "page.psp")
    for _ in range(2):
        psp.PSP(req).run()
    assert req.text == "FalseFalse"
    assert psp.os is os


def test_the_form_is_made_when_it_is_named_and_only_once(site: Site) -> None:
    req = run(site, "no form")
    assert not hasattr(req, "form")
    req = PageRequest(site.path / "page.psp")
    req.args = "a=%C3%BC&b="
    run(site, "<%= form['a'] %><%= form['b'] == '' %>", req)
    form = req.form  # type: ignore[attr-defined]
    run(site, "<%= form['a'] %>", req)
    assert req.text == "üTrueü"
    assert req.form is form  # type: ignore[attr-defined]


def test_a_form_that_a_function_names(site: Site) -> None:
    req = PageRequest(site.path / "page.psp")
    req.args = "a=1"
    assert run(site, "<%\ndef f():\n    return form['a']\n\n%><%= f() %>", req).text == "1"


def test_apply_data(site: Site) -> None:
    req = PageRequest(site.path / "page.psp")
    req.args = "a=1&c=3"
    assert run(site, "<%= psp.apply_data(lambda a, b: a + b, b='2') %>", req).text == "12"


def test_a_session_is_made_when_it_is_named_saved_and_unlocked(site: Site, sessions: List[Session]) -> None:
    run(site, "none")
    assert not sessions
    run(site, "<% session['n'] = 1 %>")
    assert [dict(s) for s in sessions] == [{"n": 1}]
    assert sessions[0].done == ["save", "unlock"]


def test_a_session_of_a_page_that_fails(site: Site, sessions: List[Session]) -> None:
    with pytest.raises(ZeroDivisionError):
        run(site, "<% session['n'] = 1 / 0 %>")
    assert sessions[0].done == ["save", "unlock"]


def test_a_session_that_is_there_already_stays_locked(site: Site, sessions: List[Session]) -> None:
    req = PageRequest(site.path / "page.psp")
    req.session = Session(req)  # type: ignore[attr-defined]
    run(site, "<% session['n'] = 1 %>", req)
    assert (len(sessions), sessions[0].done, sessions[0]["n"]) == (1, ["save"], 1)


def test_a_session_by_that_name_of_the_programs_own(site: Site, sessions: List[Session]) -> None:
    req = PageRequest(site.path / "page.psp")
    req.session = Session(req)  # type: ignore[attr-defined]
    assert run(site, "<%= session %>", req, session="own").text == "own"
    assert sessions[0].done == []


def test_what_a_page_assigns_to_the_name_is_not_saved(site: Site, sessions: List[Session]) -> None:
    run(site, "<% session['n'] = 1; session = psp = None %>")
    assert (dict(sessions[0]), sessions[0].done) == ({"n": 1}, ["save", "unlock"])


def test_a_page_in_a_page_has_the_same_session(site: Site, sessions: List[Session]) -> None:
    site.write("part.psp", "<%= session['n'] %>")
    req = run(site, "<% session['n'] = 1 %><%= PSP(req, 'part.psp') %>")
    assert (req.text, len(sessions), sessions[0].done) == ("1", 1, ["save", "save", "unlock"])


# --- sources ------------------------------------------------------------------------------------------------------


def test_a_name_is_beside_the_requested_file(site: Site) -> None:
    site.write("sub/part.html", "part <%= __file__ %>")
    req = PageRequest(site.path / "page.psp")
    psp.PSP(req, filename="sub/part.html").run()
    assert req.text == f"part {site.path}/sub/part.html"
    psp.PSP(req, filename=str(site.path / "sub/part.html")).run()


@pytest.mark.parametrize("source", ["ü <%= x %>", "ü <%= x %>".encode()])
def test_a_string(source: Any) -> None:
    req = PageRequest()
    page = psp.PSP(req, string=source, vars={"x": 1})
    page.run()
    assert str(page) == ""
    assert (req.text, req.content_type) == ("ü 1ü 1", "text/html; charset=utf-8")


def test_an_empty_string_is_a_page(site: Site) -> None:
    site.write("page.psp", "not this")
    req = PageRequest(site.path / "page.psp")
    psp.PSP(req, string="").run()
    assert req.text == ""


def test_one_source_only(site: Site) -> None:
    with pytest.raises(ValueError, match="has no file"):
        psp.PSP(PageRequest())
    with pytest.raises(ValueError, match="either filename or string"):
        psp.PSP(PageRequest(), filename="x", string="y")


def test_pages_that_are_not_there(site: Site) -> None:
    for name in ("none.psp", ".", "page.psp/more", "a\0b", "x" * 300, str(site.path / "loop")):
        (site.path / "loop").unlink(missing_ok=True)
        (site.path / "loop").symlink_to("loop")
        site.write("page.psp", "")
        with pytest.raises(apache.SERVER_RETURN) as caught:
            psp.PSP(PageRequest(site.path / "page.psp"), name)
        assert caught.value.args == (apache.HTTP_NOT_FOUND,)


def test_includes_are_beside_the_page_or_beside_the_including_file(site: Site) -> None:
    site.write("sub/inc", "<%@ include file='one' %><%@ include file='two' %>")
    site.write("one", "top one,")
    site.write("sub/one", "sub one,")
    site.write("sub/two", "sub two.")
    assert run(site, "<%@ include file='sub/inc' %>").text == "top one,sub two."
    assert "top one" in psp.parse("page.psp", f"{site.path}/")
    with pytest.raises(FileNotFoundError):
        psp.parse(f"{site.path}/page.psp")


def test_other_encodings(site: Site) -> None:
    (site.path / "page.psp").write_bytes("a\n<%= 'ü' %>ü".encode("latin-1"))
    with pytest.raises(psp.PSPSyntaxError, match="byte 0xfc is not utf-8: save the file as UTF-8, or set") as caught:
        psp.PSP(PageRequest(site.path / "page.psp"))
    assert caught.value.lineno == 2
    req = PageRequest(site.path / "page.psp", {psp.ENCODING: "latin-1"})
    psp.PSP(req).run()
    assert req.text == "a\nüü"


@pytest.mark.parametrize(("said", "shown"), [("On", "&lt;"), ("off", "<"), ("1", "&lt;")])
def test_autoescape_by_option(site: Site, said: str, shown: str) -> None:
    assert run(site, "<%= '<' %>", PageRequest(site.path / "page.psp", {psp.AUTOESCAPE: said})).text == shown


def test_autoescape_by_argument(site: Site) -> None:
    req = PageRequest(options={psp.AUTOESCAPE: "On"})
    psp.PSP(req, string="<%= '<' %>", autoescape=False).run()
    psp.PSP(req, string="<%= '<' %>").run()
    psp.PSP(PageRequest(), string="<%= '<' %>", autoescape=True)
    assert req.text == "<&lt;"
    with pytest.raises(ValueError, match="is On or Off, not 'perhaps'"):
        psp.PSP(PageRequest(options={psp.AUTOESCAPE: "perhaps"}), string="")


# --- errors -------------------------------------------------------------------------------------------------------


def test_tracebacks_show_the_page(site: Site) -> None:
    assert traceback_of(site, "a\n<%\ndef f():\n    return 1 / 0\n\n%>\ntext <%= f() %>\n") == [
        '  File "/page.psp", line 7, in <module>',
        "    text <%= f() %>",
        '  File "/page.psp", line 4, in f',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_tracebacks_after_blocks_in_one_line(site: Site) -> None:
    text = "<% for n in 1, 2: %><% if n: %>\n<%= n %>\n<% end %><% end %>\n<%-- two\nlines --%>\n<% 1 / 0 %>"
    assert traceback_of(site, text)[:2] == ['  File "/page.psp", line 6, in <module>', "    <% 1 / 0 %>"]


def test_tracebacks_name_included_files(site: Site) -> None:
    site.write("inc", "\n\n<%\ndef f():\n    1 / 0\n\n%>")
    found = traceback_of(site, "<%@ include file='inc' %>\n<% for n in 1, 2: %>\n<% f() %>\n<% end %>")
    assert found[:4] == [
        '  File "/page.psp", line 3, in <module>', "    <% f() %>", '  File "/inc", line 5, in f', "    1 / 0",
    ]


def test_tracebacks_of_strings(site: Site) -> None:
    page = psp.PSP(PageRequest(), string="a\n<% 1 / 0 %>")
    with pytest.raises(ZeroDivisionError) as caught:
        page.run()
    text = "".join(_errors.chunks(caught.value))
    assert '", line 2, in <module>\n    <% 1 / 0 %>\n' in text
    for number in range(200):
        with pytest.raises(ZeroDivisionError):
            psp.PSP(PageRequest(), string=f"<% {number} / 0 %>").run()
    assert len(_psp_code._shown) == _psp_code._SHOWN


@pytest.mark.parametrize(("text", "line", "shown"), [
    ("a\n<% if x %>b", 2, "<% if x %>b"),
    ("a\n<% for n in 1, 2: %><% end %>\n<%= n +* 1 %>", 3, "<%= n +* 1 %>"),
    ("<%\nfor n in 1, 2:\n    # c\n%>\n<%\n  x = 1\n%>", 6, "x = 1"),
])
def test_syntax_errors_show_the_page(site: Site, text: str, line: int, shown: str) -> None:
    with pytest.raises(SyntaxError) as caught:
        run(site, text)
    error = caught.value
    assert (error.filename, error.lineno, (error.text or "").strip()) == (str(site.path / "page.psp"), line, shown)
    assert shown in "".join(_errors.chunks(error))


def test_a_syntax_error_of_an_included_file(site: Site) -> None:
    site.write("inc", "a\n<% for n in 1, 2: %>\n<%= n +* 1 %>\n<% end %>")
    with pytest.raises(SyntaxError) as caught:
        run(site, "\n\n\n<%@ include file='inc' %>")
    assert (caught.value.filename, caught.value.lineno) == (str(site.path / "inc"), 3)


def test_a_missing_body_names_the_right_line(site: Site) -> None:
    with pytest.raises(SyntaxError) as caught:
        run(site, "<% for n in x: %><% end %>\n<%\nfor n in x:\n%><%\n%>end")
    assert caught.value.lineno == 5
    # Python says it since 3.10.
    assert sys.version_info < (3, 10) or "on line 3" in caught.value.msg


def test_an_error_page(site: Site) -> None:
    site.write("error.psp", "<%= exception[0].__name__ %>: <%= exception[1] %> in <%= exception[2].tb_lineno %> <%= v %>")
    req = run(site, "<% psp.set_error_page('error.psp') %>a\n<% 1 / 0 %>b", v="v")
    assert req.text == "a\nZeroDivisionError: division by zero in 2 v"
    req = PageRequest(site.path / "page.psp")
    req.root = str(site.path)
    site.write("errors/e.psp", "<%= exception[0].__name__ %>")
    assert run(site, "<% psp.set_error_page('/errors/e.psp')\n1 / 0 %>", req).text == "ZeroDivisionError"


def test_what_no_error_page_is_for(site: Site) -> None:
    site.write("error.psp", "never")
    with pytest.raises(apache.SERVER_RETURN):
        run(site, "<% psp.set_error_page('error.psp')\nraise apache.SERVER_RETURN(404) %>")
    with pytest.raises(SystemExit):
        run(site, "<% psp.set_error_page('error.psp')\nsys.exit() %>")


def test_redirect(site: Site) -> None:
    req = PageRequest(site.path / "page.psp")
    with pytest.raises(apache.SERVER_RETURN):
        run(site, "<% psp.redirect('/there') %>never", req)
    assert (req.status, req.err_headers_out["Location"], b"never" in req.body) == (302, "/there", False)


# --- the cache ----------------------------------------------------------------------------------------------------


def test_a_page_is_made_again_when_a_file_of_it_changes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    compile_page = psp.compile_page
    monkeypatch.setattr(psp, "compile_page", lambda *a: made.append(1) or compile_page(*a))
    site.write("inc", "1")
    for count, (name, text, shown) in enumerate([
        ("page.psp", "a<%@ include file='inc' %>", "a1"), ("inc", "2", "a2"), ("page.psp", "b", "b"),
    ], 1):
        site.write(name, text)
        for _ in range(2):
            req = PageRequest(site.path / "page.psp")
            psp.PSP(req).run()
            assert req.text == shown
        assert len(made) == count


def test_a_file_that_takes_the_place_of_another_included_one(site: Site) -> None:
    site.write("sub/inc", "<%@ include file='part' %>")
    site.write("sub/part", "sub")
    assert run(site, "<%@ include file='sub/inc' %>").text == "sub"
    site.write("part", "top")
    req = PageRequest(site.path / "page.psp")
    psp.PSP(req).run()
    assert req.text == "top"


def test_without_autoreload_no_file_is_looked_at(site: Site) -> None:
    off = {"PythonAutoReload": "0"}
    assert run(site, "1", PageRequest(site.path / "page.psp", **off)).text == "1"
    assert run(site, "2", PageRequest(site.path / "page.psp", **off)).text == "1"
    assert run(site, "3", PageRequest(site.path / "page.psp")).text == "3"


def test_the_cache_has_an_end(site: Site) -> None:
    for number in range(psp.CACHED + 10):
        psp.PSP(PageRequest(), string=str(number))
    assert len(psp._strings) == psp.CACHED


# --- the handler --------------------------------------------------------------------------------------------------


def test_the_handler(site: Site) -> None:
    site.write("page.psp", "ü")
    req = PageRequest(site.path / "page.psp")
    assert psp.handler(req) == apache.OK
    assert (req.text, req.content_type) == ("ü", "text/html; charset=utf-8")


def test_the_source_is_shown_for_debugging_only(site: Site) -> None:
    site.write("page.psp", "<b><% if secret: %><%@ include file='inc' %><% end %>")
    site.write("inc", "<%= '<inc>' %>")
    with pytest.raises(apache.SERVER_RETURN):
        psp.handler(PageRequest(site.path / "page.psp_"))
    req = PageRequest(site.path / "page.psp_", PythonDebug="1")
    assert psp.handler(req) == apache.OK
    assert "&lt;b&gt;<b>&lt;% if secret: %&gt;</b>" in req.text
    assert "if secret:" in req.text.split("Python</h2>")[1]
    assert "'&lt;inc&gt;'" in req.text
    assert "<inc>" not in req.text
    with pytest.raises(apache.SERVER_RETURN):
        psp.handler(PageRequest(site.path / "none.psp_", PythonDebug="1"))


def test_display_code_of_a_string() -> None:
    assert "&lt;%= x %&gt;" in psp.PSP(PageRequest(), string=b"<%= x %>").display_code()
