"""From pages to Python: blocks, indentation, line numbers, mistakes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from psp_pages import generated, python, rendered

from mod_python import psp
from mod_python._psp_parser import LARGEST, PSPSyntaxError

LOOP = "<%\nfor n in range(3):\n    # each\n%>"


@pytest.mark.parametrize("text", [
    "", "plain", "two\nlines\n", "\n\n", '"', '""', '"""', '""""', 'a"', '\\"', '\\\\"', "\\", "\\n \\x41 \\u0041 \\",
    "'''", "100%> of <  % x %", "%>", "{braces} %s", "ü€😀", "\ttab\f\v", "a\rb", "\0", "a\0\0", '\\""" \\\\"""', "#",
])
def test_text_is_verbatim(text: str) -> None:
    assert rendered(text) == text


def test_any_text_is_verbatim() -> None:
    rng = random.Random(6)
    for _ in range(500):
        text = "".join(rng.choice('"\\\n\r\0%>a\'# ü') for _ in range(rng.randrange(12)))
        assert rendered(text) == text.replace("\r\n", "\n"), repr(text)
        assert rendered(f"{text}<%= 1 %>{text}").count("1") == 1


def test_line_ends_of_windows_become_line_feeds() -> None:
    assert rendered("a\r\nb<%\r\nx = 1\r\n%>\r\n<%= x %>") == "a\nb\n1"


def test_mark_of_utf_8_is_no_text() -> None:
    assert rendered("\ufeffa\ufeff") == "a\ufeff"


@pytest.mark.parametrize(("text", "shown"), [
    ("<%= 1 + 1 %>", "2"),
    ("<%=x%><%=x%>", "vv"),
    ("<%= x # the v\n%>y", "vy"),
    ("<%= x # the v %>y", "vy"),
    ("<%= '#' %>", "#"),
    ("<%= (1,\n 2) %>", "(1, 2)"),
    ("<%= None %>", "None"),
    ("<%= b'x' %>", "b'x'"),
    ("<%== '<' %>", "<"),
    ("<%= '<' %>", "<"),
    ("<%= %>", ""),
    ("<%-- <%= 1/0 -%> --%>a", "a"),
    ("a<%-- two\nlines --%>b<%----%>", "ab"),
])
def test_expressions_and_comments(text: str, shown: str) -> None:
    assert rendered(text, x="v") == shown


@pytest.mark.parametrize(("text", "shown"), [
    # The block's last indentation goes on, also a comment's.
    (LOOP + "<%= n %>,<%\n# end\n%>.", "0,1,2,."),
    (LOOP + "<%= n %>,<%\n%>.", "0,1,2,."),
    # A colon at the end opens a level, with a comment behind it too.
    ("<%\nfor n in range(3):\n%><%= n %>,<%\n%>.", "0,1,2,."),
    ("<%\nfor n in range(3): # each\n%><%= n %>,<%\n%>.", "0,1,2,."),
    ("<%\nfor n in (0,\n   1, 2):  \n%><%= n %>,<%\n%>.", "0,1,2,."),
    ("<%\nfor n in range(3):\n\n%><%= n %>,<%\n%>.", "0,1,2,."),
    ("<%\nfor n in range(3):\n    %><%= n %>,<%\n    %>.", "0,1,2,."),
    # A comment with a colon opens nothing.
    ("<%\n# so:\n%>.", "."),
    # Code goes on at the level of the text around it when it is in one line.
    (LOOP + "<% m = n * 2 %><%= m %>,<%\n%>.", "0,2,4,."),
    (LOOP + "<% m = n; m += 1 %><%= m %>,<%\n%>.", "1,2,3,."),
    # Two line ends at the end: the margin.
    ("<%\nfor n in range(3):\n    m = n\n\n%><%= m %>.", "2."),
    ("<%\nfor n in range(3):\n    m = n\n%><%= m %>.", "0.1.2."),
    # The last statement's indentation, not that of its last line.
    ("<%\nfor n in range(3):\n    m = str(\n  n)\n%><%= m %>.", "0.1.2."),
    ("<%\nm = '''\n   x'''\n%><%= m.strip() %>", "x"),
    ("<%\nif 0:\n    pass\nelse:\n%>b<%\n%>c", "bc"),
    ("<%\nfor n in 1, 2:\n    if n > 1:\n        # big\n%>big<%\n    else:\n        # small\n%>small<%\n# end\n%>.",
     "smallbig."),
    # Text directly after code in the last line.
    ("a<%\nx = 1\ny = 2 %>b<%= x + y %>", "ab3"),
    ("<% x = dict(a=1,\n  b=2) %>t<%= x['b'] %>", "t2"),
    (LOOP + "<% m = (n,\n n) %><%= m[1] %><%\n%>.", "012."),
    ("<%if 1:\n  x = 2\nelse:\n  x = 3\n%>\n<%\n%><%= x %>", "2"),
    ("<% # only a note %>a", "a"),
    ("<% %>a<%%>b", "ab"),
    ("<% x = 1", ""),
    ("<%\ndef f():\n%>in f<%\n%>.<% f() %>", ".in f"),
    ("<%\ntry:\n%>a<% 1/0 %>b<%\nexcept ZeroDivisionError:\n%>c<%\n%>d", "acd"),
])
def test_code(text: str, shown: str) -> None:
    assert rendered(text) == shown


@pytest.mark.parametrize(("text", "shown"), [
    ("<% for n in 1, 2: %><%= n %>,<% end %>.", "1,2,."),
    ("<% for n in 1, 2: # each %><%= n %>,<% end # each %>.", "1,2,."),
    ("<% for n in 1, 2: %><%= n %>,<% end for %>.", "1,2,."),
    ("<% if 0: %>a<% elif 0: %>b<% else: %>c<% end if %>d", "cd"),
    ("<% if 1: %>a<% elif 0: %>b<% else: %>c<% end if %>d", "ad"),
    ("<% for x in 1, 2: %><% for y in 1, 2: %><%= x * y %> <% end %>/<% end %>.", "1 2 /2 4 /."),
    ("<% for x in 1, 2: %><% end %>.", "."),
    ("<% if 0: %><% else: %>e<% end %>.", "e."),
    ("<% try: %>a<% 1/0 %><% except ZeroDivisionError: %>b<% else: %>c<% finally: %>d<% end %>e", "abde"),
    ("<% while not x: %>w<% x.append(1) %><% end %>.", "w."),
    ("<% with open('/dev/null') as f: %><%= f.closed %><% end %><%= f.closed %>", "FalseTrue"),
    ("<% def f(a): %>[<%= a %>]<% end %><% f(1) %><% f(2) %>", "[1][2]"),
    ("<% if 1: x.append(2) %><%= x %>", "[2]"),
    ("<% y = {'a': 1} %><%= y['a'] %>", "1"),
    ("<% y = lambda: 3 %><%= y() %>", "3"),
    # A name that only begins like a keyword, and one that is called `end`.
    ("<% format = 'f' %><%= format %>", "f"),
    ("<% end = 5 %><%= end %>", "5"),
    # Long code counts from the level that it is in.
    ("<% for n in 1, 2: %>\n<%\nif n > 1:\n    y = 'big'\nelse:\n    y = 'small'\n\n%><%= y %><% end %>.", "\nsmall\nbig."),
    ("<% for n in 1, 2: %><%\ny = '''a\nb'''\n%><%= y %>;<% end %>", "a\nb;a\nb;"),
    ("<% for n in 1, 2: %><%\nif n > 1:\n%>big<% else: %>small<% end %>,<% end %>.", "small,big,."),
    ("<%\nif 0:\n%>a<% else: %>b<% end %>c", "bc"),
    ("<%\nfor n in 1, 2:\n%><% if n > 1: %>big<% end %>,<% end %>.", ",big,."),
])
def test_blocks_in_one_line(text: str, shown: str) -> None:
    assert rendered(text, x=[]) == shown


@pytest.mark.parametrize(("text", "line", "says"), [
    ("a\n<%= 1", 2, "'<%=' without its '%>'"),
    ("<%-- a %>", 1, "'<%--' without its '--%>'"),
    ("<%@ include file='x'", 1, "'<%@' without its '%>'"),
    ("\n\n<%@ inlcude file='x' %>", 3, "unknown directive 'inlcude'"),
    ("<%@ include %>", 1, "an include needs file"),
    ("<%@ include file=x %>", 1, "cannot read the directive"),
    ("<%@ page autoescape='maybe' %>", 1, "autoescape is on or off"),
    ("<% end %>", 1, "no level here"),
    ("<% else: %>", 1, "no level here"),
    ("a\n<% for n in x: %>b", 2, "this block opens a level"),
    ("<% for n in x: %><%\nif n:\n    # so\n%>a<% end %>", 4, "ends deeper"),
])
def test_mistakes_in_pages(text: str, line: int, says: str) -> None:
    with pytest.raises(PSPSyntaxError, match=says.replace("(", "\\(")) as caught:
        generated(text)
    assert (caught.value.filename, caught.value.lineno) == ("/site/page.psp", line)


@pytest.mark.parametrize("text", ["<% \0 %>", "<%= '\ud800' %>", "<%= " + "(" * 5000 + ")" * 5000 + " %>"])
def test_what_no_python_can_be(text: str) -> None:
    with pytest.raises(SyntaxError):
        rendered(text)


def test_text_of_the_python_keeps_its_lines() -> None:
    page = "<html>\n<%\nimport time\nfor n in x:\n    # each\n%>\n<p><%= n %></p>\n<%\n# end\n%>\n</html>\n"
    lines = python(page).split("\n")
    assert lines[2:5] == ["import time", "for n in x:", "    # each"]
    assert lines[6] == '<p>""",0); req.write(str( n ),0); req.write("""</p>'
    assert lines[8] == "# end"


def test_python_as_mod_python_writes_it() -> None:
    assert python("a\n<%= x %>b") == 'req.write("""a\n""",0); req.write(str( x ),0); req.write("""b""",0)\n'
    assert psp.parsestring(b"<%\nfor i in x:\n%>\xc3\xbc") == '\nfor i in x:\n\treq.write("""ü""",0)\n'
    assert psp.parsestring("ü") == 'req.write("""ü""",0)\n'
    assert psp.parsestring("") == ""


def test_autoescape() -> None:
    class Safe:
        def __html__(self) -> str:
            return "<b>"

    page = "<%= x %><%== x %><%= safe %><%= 1 %>"
    assert rendered(page, autoescape=True, x="<a href=\"'&\">", safe=Safe()) == (
        "&lt;a href=&quot;&#x27;&amp;&quot;&gt;<a href=\"'&\"><b>1"
    )
    assert rendered("<%= x %><%@ page autoescape=\"on\" %><%= x %><%@ page autoescape='off' %><%= x %>", x="<") == "<&lt;<"
    assert rendered("<%@ page language='python' %>a") == "a"


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "head").write_text("<%@ page autoescape='on' %><% for n in 1, 2: %><h1><%= x %>")
    (tmp_path / "foot").write_text("</h1><% end %>")
    page = "<%@ include file='head' %>|<%= x %>|<%@ include file=\"foot\" %>."
    assert rendered(page, directory=tmp_path, x="<") == "<h1>&lt;|<|</h1><h1>&lt;|<|</h1>."


def test_an_include_that_includes_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n<%@ include file='b' %>")
    (tmp_path / "b").write_text("<%@ include file='a' %>")
    with pytest.raises(PSPSyntaxError, match="includes itself") as caught:
        generated("<%@ include file='a' %>", directory=tmp_path)
    assert caught.value.filename == str(tmp_path / "b")


def test_includes_that_grow_without_end(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / str(number)).write_text(f"<%@ include file='{number + 1}' %>" * 2 + "x" * 10_000)
    (tmp_path / "40").write_text("x")
    with pytest.raises(PSPSyntaxError, match="too large"):
        generated("<%@ include file='0' %>", directory=tmp_path)
    assert LARGEST >= 1 << 20


def test_a_missing_include_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"included by .*page\.psp, line 2") as caught:
        generated("\n<%@ include file='none' %>", directory=tmp_path)
    assert caught.value.filename == str(tmp_path / "none")
