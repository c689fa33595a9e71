"""Python as a provider of httpd's authentication and authorisation modules."""

from __future__ import annotations

from typing import Any, Tuple

import pytest
from fake_vivarium import Request, mp_hlist
from sites import Site, items, texts

from mod_python import _providers

BASIC = """
def checkpassword(req, user, password):
    req.ran.append((user, password))
    return {}
"""

BACKEND = """
class Backend:
    def __init__(self, req):
        self.req = req
    def checkpassword(self, req, user, password):
        return req is self.req and user == password
    def realmhash(self, req, user, realm):
        return "f" * 32
    def groups(self, req, user):
        return [user]

instance = Backend(None)

class Site:
    Inner = Backend
    def __init__(self, req):
        pass

def groups(req, user):
    return ("plain",)
"""


def ask(dispatcher: Any, site: Site, name: str, kind: str, *arguments: str, user: str = "ann") -> Tuple[Any, Request]:
    req = Request()
    req.user = user
    handlers = items(site, name)
    req.hlist = mp_hlist(list(handlers))
    return dispatcher.provider(req, kind, handlers, arguments), req


@pytest.mark.parametrize(("answer", "wanted"), [("True", 1), ("False", 0), ("None", 2)])
def test_password(dispatcher: Any, site: Site, answer: str, wanted: int) -> None:
    site.write("auth.py", BASIC.format(answer))
    verdict, req = ask(dispatcher, site, "auth", "checkpassword", "ann", "secret")
    assert verdict == (wanted, None)
    assert req.ran == [("ann", "secret")]
    assert req.lines == []


@pytest.mark.parametrize(
    "answer", ["1", "0", "''", "'yes'", "[]", "object()", "1/0", "exit()", "NotImplemented", "lambda: 1"]
)
def test_whatever_is_not_clear_is_an_error(dispatcher: Any, site: Site, answer: str) -> None:
    site.write("auth.py", BASIC.format(answer))
    verdict, req = ask(dispatcher, site, "auth", "checkpassword", "ann", "secret")
    assert verdict == (3, None)
    lines = texts(req.lines)
    assert lines[0] == "PythonAuthnProvider auth: Traceback (most recent call last):"
    # Never the password.
    assert not any("secret" in line for line in lines)


def test_server_return_is_no_grant(dispatcher: Any, site: Site) -> None:
    site.write(
        "auth.py", "from mod_python import apache\ndef checkpassword(*a):\n    raise apache.SERVER_RETURN(apache.OK)\n"
    )
    assert ask(dispatcher, site, "auth", "checkpassword", "a", "b")[0] == (3, None)


@pytest.mark.parametrize("name", ["missing", "auth", "auth::nothing", "auth::NUMBER", "auth::Half"])
def test_what_cannot_be_called_is_an_error(dispatcher: Any, site: Site, name: str) -> None:
    site.write("auth.py", "NUMBER = 5\nclass Half:\n    def __init__(self, req): pass\n")
    for kind, arguments in (("checkpassword", ("a", "b")), ("realmhash", ("a", "r")), ("groups", ("g",))):
        verdict, req = ask(dispatcher, site, name, kind, *arguments)
        assert verdict == (3, None)
        assert texts(req.lines)[0].startswith(f"{_providers.DIRECTIVES[kind]} {name}: ")


def test_objects(dispatcher: Any, site: Site) -> None:
    site.write("auth.py", BACKEND)
    for name in ("auth::Backend", "auth::Site.Inner"):
        assert ask(dispatcher, site, name, "checkpassword", "x", "x")[0] == (1, None)
        assert ask(dispatcher, site, name, "checkpassword", "x", "y")[0] == (0, None)
        assert ask(dispatcher, site, name, "realmhash", "x", "r")[0] == (1, b"f" * 32)
        assert ask(dispatcher, site, name, "groups", "ann")[0] == (1, None)
    # An instance is not made anew: it knows no request.
    assert ask(dispatcher, site, "auth::instance", "checkpassword", "x", "x")[0] == (0, None)
    assert ask(dispatcher, site, "auth::instance", "groups", "ann")[0] == (1, None)
    # For groups, the object may be the function.
    assert ask(dispatcher, site, "auth::groups", "groups", "plain")[0] == (1, None)
    assert ask(dispatcher, site, "auth", "groups", "plain")[0] == (1, None)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("None", (2, None)),
        ("'0123'", (1, b"0123")),
        ("''", (3, None)),
        ("b'0123'", (3, None)),
        ("'a\\0b'", (3, None)),
        ("'\\xe9'", (3, None)),
        ("'a' * 4096", (1, b"a" * 4096)),
        ("'a' * 4097", (3, None)),
        ("True", (3, None)),
    ],
)
def test_realm_hash(dispatcher: Any, site: Site, answer: str, wanted: Any) -> None:
    site.write("auth.py", f"def realmhash(req, user, realm):\n    return {answer}\n")
    verdict, req = ask(dispatcher, site, "auth", "realmhash", "ann", "a realm")
    assert verdict == wanted
    assert bool(req.lines) is (wanted[0] == 3)


@pytest.mark.parametrize(
    ("answer", "line", "wanted"),
    [
        ("['staff']", "staff", 1),
        ("('a', 'staff')", "other staff", 1),
        ("{'staff': 1}", "staff", 1),
        ("(g for g in ['a', 'b'])", "b", 1),
        ("[]", "staff", 0),
        ("['staff']", "Staff", 0),
        ("['two words']", "'two words' x", 1),
        ("['two']", '"two words"', 0),
        ("['staff']", "", 0),
        # A string is a row of one-letter strings: never what was meant.
        ("'staff'", "s", 3),
        ("b'staff'", "staff", 3),
        ("None", "staff", 3),
        ("[None, 'staff']", "staff", 3),
        ("(1/0 for g in [1])", "staff", 3),
    ],
)
def test_groups(dispatcher: Any, site: Site, answer: str, line: str, wanted: int) -> None:
    site.write("auth.py", f"def groups(req, user):\n    assert user == 'ann'\n    return {answer}\n")
    verdict, req = ask(dispatcher, site, "auth", "groups", line)
    assert verdict == (wanted, None)
    assert bool(req.lines) is (wanted == 3)


def test_words_of_a_require_line() -> None:
    assert _providers.words(r"""plain "two words" 'one "quoted"' "a \"b\"" x"y""") == [
        "plain",
        "two words",
        'one "quoted"',
        'a "b"',
        'x"y',
    ]


def test_changed_module_is_loaded_again(dispatcher: Any, site: Site, clock: Any) -> None:
    site.write("auth.py", BASIC.format("True"))
    assert ask(dispatcher, site, "auth", "checkpassword", "a", "b")[0] == (1, None)
    site.write("auth.py", BASIC.format("False"))
    clock.pass_(1.5)
    assert ask(dispatcher, site, "auth", "checkpassword", "a", "b")[0] == (0, None)
    site.write("auth.py", "this is no Python")
    clock.pass_(1.5)
    assert ask(dispatcher, site, "auth", "checkpassword", "a", "b")[0] == (3, None)
