"""mod_python.Session: what all kinds have in common, and each kind's store."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from form_requests import FormRequest
from session_browser import KINDS, SERIALISING, Browser

from mod_python import Cookie, Session
from mod_python._sessions import base, locks, memory


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 0)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path)
    yield made
    made.end()


@pytest.fixture(params=KINDS)
def any_browser(request: Any, tmp_path: Path) -> Iterator[Browser]:
    memory._sessions.clear()
    made = Browser(tmp_path, request.param)
    yield made
    made.end()


def test_contents_are_kept(any_browser: Browser) -> None:
    assert any_browser.visit(user="grü", n=1, basket=[{"id": 5}]) == {}
    assert any_browser.visit(n=2) == {"user": "grü", "n": 1, "basket": [{"id": 5}]}
    req = any_browser.request()
    session = Session.Session(req)
    assert type(session) is getattr(Session, any_browser.options["mod_python__session__session_type"])
    assert not session.is_new()
    assert session["n"] == 2
    assert re.fullmatch("[0-9a-f]{32}", session.id())
    assert session.created() <= session.last_accessed() <= time.time()
    assert session.timeout() == 1800
    assert req.cookies_set() == []


def test_large_contents(any_browser: Browser) -> None:
    any_browser.visit(text="x" * 300_000, many=list(range(1000)))
    found = any_browser.visit()
    assert (len(found["text"]), found["many"]) == (300_000, list(range(1000)))


def test_without_save_nothing_is_kept(any_browser: Browser) -> None:
    session = Session.Session(any_browser.request())
    session["n"] = 1
    any_browser.end()
    assert Session.Session(any_browser.request()).is_new()


def test_two_clients_have_two_sessions(any_browser: Browser, tmp_path: Path) -> None:
    other = Browser(tmp_path, any_browser.options["mod_python__session__session_type"])
    any_browser.visit(who="a")
    other.visit(who="b")
    assert any_browser.visit() == {"who": "a"}
    assert other.visit() == {"who": "b"}


def test_expiry(any_browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    any_browser.visit(n=1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1790)
    assert any_browser.visit() == {"n": 1}
    monkeypatch.setattr(time, "time", lambda: now + 1790 + 1790)
    assert any_browser.visit() == {"n": 1}
    old = any_browser.cookie
    monkeypatch.setattr(time, "time", lambda: now + 3 * 1801)
    assert any_browser.visit() == {}
    assert any_browser.cookie != old


def test_a_timeout_of_its_own_is_kept(any_browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session.Session(any_browser.request())
    session.set_timeout(5000)
    session.save()
    any_browser.end()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    session = Session.Session(any_browser.request())
    assert (session.is_new(), session.timeout()) == (False, 5000)


def test_invalidate(any_browser: Browser) -> None:
    any_browser.visit(n=1)
    old = any_browser.cookie
    req = any_browser.request()
    session = Session.Session(req)
    session.invalidate()
    session["n"] = 2
    session.save()
    assert "expires=Thu, 01-Jan-1970" in req.cookies_set()[0]
    any_browser.end()
    any_browser.cookie = old
    assert Session.Session(any_browser.request()).is_new()


def test_delete(any_browser: Browser) -> None:
    any_browser.visit(n=1)
    session = Session.Session(any_browser.request())
    session.delete()
    assert session == {}
    any_browser.end()
    assert Session.Session(any_browser.request()).is_new()


def test_regenerate(any_browser: Browser) -> None:
    """Who knew the id before the client logged in is not logged in."""
    any_browser.visit(n=1)
    before = any_browser.cookie
    session = Session.Session(any_browser.request())
    old = session.id()
    assert session.regenerate() == session.id() != old
    session["user"] = "x"
    session.save()
    any_browser.end()
    after = any_browser.cookie
    assert after != before
    assert any_browser.visit() == {"n": 1, "user": "x"}
    any_browser.cookie = before
    assert Session.Session(any_browser.request()).is_new()
    session.invalidate()
    with pytest.raises(ValueError):
        session.regenerate()


def test_cleanup_removes_what_has_expired(any_browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = any_browser.options["mod_python__session__session_type"]
    any_browser.visit(n=1)
    young = Browser(tmp_path, kind)
    now = time.time()
    if kind == "FileSession":
        for path in (tmp_path / "mp_sess").glob("??/*"):
            os.utime(path, (now - 5000, now - 5000))
    monkeypatch.setattr(time, "time", lambda: now + 3000)
    young.visit(n=2)
    req = young.request()
    session = Session.Session(req)
    session.cleanup()
    young.end()
    monkeypatch.setattr(time, "time", lambda: now)
    assert any_browser.visit() == {}, "it was removed, so that going back in time does not bring it back"
    monkeypatch.setattr(time, "time", lambda: now + 3000)
    assert young.visit() == {"n": 2}


def test_cleanup_comes_by_chance(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 1)
    req = browser.request()
    Session.Session(req)
    assert [f.__name__ for f, _ in req.cleanups] == ["_unlock", "sqlite_cleanup"]


# --- ids

@pytest.mark.parametrize("sid", ["abc", "g" * 32, "A" * 32, "../../etc/passwd", "0" * 31, "0" * 33, "0" * 32 + "\n", "٠" * 32, "0" * 32 + "/.."])
def test_an_id_that_cannot_be_one(any_browser: Browser, tmp_path: Path, sid: str) -> None:
    with pytest.raises(ValueError, match="Invalid Session ID"):
        Session.Session(any_browser.request(), sid=sid)
    any_browser.cookie = f"pysid={sid}"
    session = Session.Session(any_browser.request())
    assert session.is_new()
    assert re.fullmatch("[0-9a-f]{32}", session.id())


def test_an_id_that_nobody_gave_out_is_never_used(any_browser: Browser) -> None:
    made_up = "0123456789abcdef" * 2
    any_browser.cookie = f"pysid={made_up}"
    assert Session.Session(any_browser.request()).id() != made_up
    assert Session.Session(any_browser.request(), sid=made_up).id() != made_up


def test_ids_are_random() -> None:
    ids = {base.new_sid() for _ in range(2000)}
    assert len(ids) == 2000
    for place in range(32):
        assert len({sid[place] for sid in ids}) == 16


def test_an_id_may_be_given(any_browser: Browser) -> None:
    any_browser.visit(n=1)
    sid = any_browser.cookie.partition("=")[2]
    any_browser.cookie = None
    session = Session.Session(any_browser.request(), sid=sid)
    assert (session.is_new(), session["n"]) == (False, 1)


# --- cookies

def test_the_cookie(browser: Browser) -> None:
    req = browser.request()
    sid = Session.Session(req).id()
    assert req.cookies_set() == [f"pysid={sid}; path=/; samesite=Lax; httponly"]
    assert ("Cache-Control", 'no-cache="set-cookie"') in req.headers_out.items()


def test_options_of_the_cookie(browser: Browser) -> None:
    browser.options.update({
        "mod_python__session__cookie_name": "other", "mod_python__session__application_domain": "example.org",
        "mod_python__session__application_path": "/app", "mod_python__session__cookie_httponly": "Off",
        "mod_python__session__cookie_samesite": "Strict",
    })
    req = browser.request()
    sid = Session.Session(req).id()
    assert req.cookies_set() == [f"other={sid}; path=/app; domain=example.org; samesite=Strict"]
    browser.end()
    browser.options["mod_python__session__cookie_samesite"] = "Off"
    browser.cookie = f"other={sid}"
    req = browser.request()
    assert "samesite" not in Session.Session(req).make_cookie().__dict__


def test_the_cookie_is_secure_over_tls(browser: Browser) -> None:
    req = browser.request()
    req.https = 1
    Session.Session(req)
    assert "; secure" in req.cookies_set()[0]


@pytest.mark.parametrize(
    ("directory", "is_location", "path"),
    [
        ("/srv/www/", False, "/"), ("/srv/www/app/", False, "/app"), ("/srv/www/a b/é", False, "/a%20b/%C3%A9"),
        ("/srv/www-two/", False, "/"), ("/srv/", False, "/"), ("/app", True, "/"), (None, False, "/"),
    ],
)
def test_the_path_of_the_cookie(browser: Browser, directory: Any, is_location: bool, path: str) -> None:
    req = browser.request()
    req.hlist = type("hlist", (), {"directory": directory, "is_location": is_location})()
    Session.Session(req)
    assert f"; path={path};" in req.cookies_set()[0]


@pytest.mark.parametrize("how", ["argument", "option", "file"])
def test_signed_cookies(browser: Browser, tmp_path: Path, how: str) -> None:
    secret: Any = "geheim" if how == "argument" else None
    if how == "option":
        browser.options["mod_python__session__secret"] = "geheim"
    if how == "file":
        (tmp_path / "secret").write_text("geheim\n")
        browser.options["mod_python__session__secret_file"] = str(tmp_path / "secret")
    session = Session.Session(browser.request(), secret=secret)
    sid = session.id()
    session.save()
    browser.end()
    assert len(browser.cookie) == len("pysid=") + 64 + 32
    assert Session.Session(browser.request(), secret=secret).id() == sid
    browser.end()
    good = browser.cookie
    for cookie in (f"pysid={sid}", good[:-1] + ("0" if good[-1] != "0" else "1"), good.replace("pysid=", "pysid=0")):
        browser.cookie = cookie
        assert Session.Session(browser.request(), secret=secret).is_new()


# --- values

@pytest.mark.parametrize("kind", SERIALISING)
def test_types_come_back(tmp_path: Path, kind: str) -> None:
    browser = Browser(tmp_path, kind)
    values = {"t": (1, 2), "s": {3}, "b": b"\0\xff", "d": datetime(2026, 1, 2, 3, 4), "m": {1: "x"}, "f": 1.5, "n": None}
    browser.visit(**values)
    assert browser.visit() == values


@pytest.mark.parametrize("kind", SERIALISING)
def test_what_json_does_not_know_is_named(tmp_path: Path, kind: str) -> None:
    browser = Browser(tmp_path, kind)
    session = Session.Session(browser.request())
    session["cart"] = [1, {"x": object()}]
    with pytest.raises(TypeError, match=r"session\['cart'\]\[1\]\['x'\] is a builtins.object.*mod_python.session.serializer pickle"):
        session.save()
    del session["cart"]
    session.save()


class Thing:
    """Something that only pickle can store."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)


@pytest.mark.parametrize("kind", SERIALISING)
def test_pickle_by_option(tmp_path: Path, kind: str) -> None:
    browser = Browser(tmp_path, kind, mod_python__session__serializer="pickle")
    browser.visit(thing=Thing())
    assert browser.visit() == {"thing": Thing()}
    # A pickle is never read unless it is asked for.
    del browser.options["mod_python__session__serializer"]
    req = browser.request()
    assert Session.Session(req).is_new()
    assert "VIV0063" in req.log()


def test_memory_sessions_are_copies(tmp_path: Path) -> None:
    browser = Browser(tmp_path, "MemorySession")
    shared = [1]
    browser.visit(shared=shared)
    shared.append(2)
    assert browser.visit() == {"shared": [1]}


# --- kinds

def test_the_default(tmp_path: Path) -> None:
    req = FormRequest(mod_python__session__database_directory=str(tmp_path))
    req.server.options["mod_python.mutex_directory"] = str(tmp_path)
    assert type(Session.Session(req)) is Session.SqliteSession
    req.end()


def test_old_names_of_options(tmp_path: Path) -> None:
    req = FormRequest(session="FileSession", session_directory=str(tmp_path), session_cookie_name="old", ApplicationPath="/x")
    session = Session.Session(req, lock=0)
    session.save()
    assert req.cookies_set()[0].startswith(f"old={session.id()}; path=/x;")
    assert (tmp_path / "mp_sess" / session.id()[:2] / session.id()).exists()


class Own(Session.BaseSession):
    """A kind of a program's own."""

    store: Dict[str, Any] = {}

    def __init__(self, req: Any, sid: Any = 0, secret: Any = None, timeout: float = 0, lock: Any = 1) -> None:
        Session.BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def do_load(self) -> Any:
        return self.store.get(self.id())

    def do_save(self, record: Dict[str, Any]) -> None:
        self.store[self.id()] = record

    def do_delete(self) -> None:
        self.store.pop(self.id(), None)


def test_a_kind_of_ones_own(browser: Browser) -> None:
    session = Own(browser.request())
    session["n"] = 1
    session.save()
    assert Own.store[session.id()].keys() == {"_data", "_created", "_accessed", "_timeout"}
    browser.end()
    assert Own(browser.request())["n"] == 1
    browser.end()
    browser.options["mod_python__session__session_type"] = "test_session::Own"
    assert Session.Session(browser.request())["n"] == 1
    browser.end()
    with pytest.raises(NotImplementedError):
        Session.BaseSession(browser.request()).save()


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("session__session_type", "NoSession", ValueError), ("session__serializer", "marshal", ValueError),
        ("session__timeout", "long", ValueError), ("session__cookie_secure", "perhaps", ValueError),
        ("session__lock_timeout", "-1", ValueError), ("session__secret_file", "/nonexistent", OSError),
    ],
)
def test_wrong_options_are_named(browser: Browser, option: str, value: str, error: Any) -> None:
    browser.options[f"mod_python__{option}"] = value
    with pytest.raises(error, match=option.replace("__", ".") if error is ValueError else value):
        Session.Session(browser.request()).save()


# --- locks

def test_another_request_waits(browser: Browser) -> None:
    browser.visit(n=0)
    first = browser.request()
    session = Session.Session(first)
    seen: List[int] = []

    def second() -> None:
        other = Session.Session(browser.request())
        seen.append(other["n"])
        other.unlock()

    thread = threading.Thread(target=second)
    thread.start()
    session["n"] = 1
    session.save()
    assert seen == []
    first.end()
    thread.join(60)
    assert seen == [1]


def test_who_waits_too_long_gets_503(browser: Browser) -> None:
    browser.visit(n=0)
    session = Session.Session(browser.request())
    browser.options["mod_python__session__lock_timeout"] = "0.02"
    req = browser.request()
    with pytest.raises(Session.SessionUnavailable) as caught:
        Session.Session(req)
    assert caught.value.args == (503,)
    assert "VIV0062" in req.log()
    session.unlock()
    assert Session.Session(req)["n"] == 0


def test_no_lock_by_argument(browser: Browser) -> None:
    browser.visit(n=0)
    one, two = Session.Session(browser.request()), Session.Session(browser.request(), lock=0)
    assert one.id() == two.id()


def test_one_request_may_open_a_session_twice(browser: Browser) -> None:
    browser.visit(n=0)
    req = browser.request()
    one, two = Session.Session(req), Session.Session(req)
    inner = browser.request()
    inner.prev = req
    three = Session.Session(inner)
    assert one.id() == two.id() == three.id()
    two.unlock()
    three.unlock()
    browser.options["mod_python__session__lock_timeout"] = "0.02"
    with pytest.raises(Session.SessionUnavailable):
        Session.Session(browser.request())
    one.unlock()
    assert not Session.Session(browser.request()).is_new()


def test_locks_are_given_back_when_opening_fails(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.visit(n=0)
    req = browser.request()
    with monkeypatch.context() as patch:
        patch.setattr(Session.SqliteSession, "do_load", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Session.Session(req)
    req.end()
    browser.options["mod_python__session__lock_timeout"] = "0.02"
    assert Session.Session(browser.request())["n"] == 0


def test_locks_do_not_grow(tmp_path: Path) -> None:
    req = FormRequest()
    req.server.options["mod_python.mutex_directory"] = str(tmp_path)
    places = {locks.FileLock(req, base.new_sid()).key for _ in range(20_000)}
    assert len(places) <= locks.COUNT


def test_cookies_of_sessions_are_plain_cookies(browser: Browser) -> None:
    session = Session.Session(browser.request())
    assert type(session.make_cookie()) is Cookie.Cookie
