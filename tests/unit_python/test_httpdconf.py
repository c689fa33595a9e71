"""``mod_python.httpdconf``: rendering, and that all directives are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mod_python import httpdconf
from mod_python.httpdconf import *  # noqa: F403
from mod_python.httpdconf import (  # type: ignore[attr-defined]
    Comment,
    Container,
    ContainerTag,
    Directive,
    Directory,
    IfModule,
    Listen,
    LogFormat,
    PythonHandler,
    PythonInterpPerDirectory,
    PythonPath,
    ServerName,
    SetHandler,
    VirtualHost,
    quote_if_space,
)

TABLE = Path(__file__).resolve().parents[2] / "conf/directives.toml"


def test_all_directives_are_there() -> None:
    rows = re.split(r"^\[\[directive\]\]$", TABLE.read_text(), flags=re.M)[1:]
    ours = [re.search(r'^name = "(\w+)"', row, re.M)[1] for row in rows if "\nforeign = true" not in row]  # type: ignore[index]
    assert len(ours) > 20
    for name in ours:
        made = getattr(httpdconf, name)("value")
        assert str(made) == f"{name} value\n"


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Listen(8888), "Listen 8888\n"),
        (PythonHandler("a b | .x"), "PythonHandler a b | .x\n"),
        (Directive("X", "a\\b"), "X a/b\n"),
        (Directive("X", "a\\b", 0), "X a\\b\n"),
        (LogFormat('"\\"%r\\""'), 'LogFormat "\\"%r\\""\n'),
        (PythonInterpPerDirectory(), "PythonInterpPerDirectory Off\n"),
        (PythonPath("['/a'] + sys.path"), "PythonPath \"['/a'] + sys.path\"\n"),
        (PythonPath("\"['/a'] + sys.path\""), "PythonPath \"['/a'] + sys.path\"\n"),
        (PythonPath("['/a']"), "PythonPath ['/a']\n"),
        (Comment("one\ntwo"), "# one\n# two\n"),
        (Container(Listen(1), Listen(2)), "Listen 1\nListen 2\n"),
        (Container(Listen(1), only_if="1 == 1"), "Listen 1\n"),
        (Container(Listen(1), only_if="mod_python.version.HTTPD_VERSION[0:3] == '2.2'"), ""),
        (Container(Listen(1), only_if=False), ""),
        (IfModule("!x.c", Listen(1)), "<IfModule !x.c>\n  Listen 1\n</IfModule>\n"),
        (ContainerTag("If", "true", [Listen(1)]), "<If true>\n  Listen 1\n</If>\n"),
        (Directory("C:\\x"), "<Directory C:/x>\n</Directory>\n"),
    ],
)
def test_text(made: Any, text: str) -> None:
    assert str(made) == text


def test_nesting_and_append() -> None:
    host = VirtualHost("*", ServerName("x"), Directory("/", PythonHandler("y"), Container(Comment("z"))))
    host.append(SetHandler("mod_python"))
    assert str(host) == (
        "<VirtualHost *>\n  ServerName x\n  <Directory />\n    PythonHandler y\n    # z\n  </Directory>\n"
        "  SetHandler mod_python\n</VirtualHost>\n"
    )


def test_repr_is_source() -> None:
    made = Container(
        Comment("a\nb"), Listen(1), VirtualHost("*", Directory("/", PythonHandler("y"), only_if="1")), only_if="True"
    )
    again = eval(repr(made), vars(httpdconf))
    assert (str(again), repr(again)) == (str(made), repr(made))
    assert repr(Listen("a\\b")) == "Listen('a\\\\b')"


def test_quote_if_space() -> None:
    assert (quote_if_space("a b"), quote_if_space("ab")) == ('"a b"', "ab")


def test_a_directive_of_ones_own() -> None:
    class Own(Directive):
        def __init__(self, val: Any) -> None:
            Directive.__init__(self, "Own", val)

    assert str(Container(Own(1))) == "Own 1\n"
