"""mod_python.Session: stores that cannot be used, that others can write, that are damaged; cleaning up."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from form_requests import FormRequest
from session_browser import SERIALISING, Browser

from mod_python import Session, _apache


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 0)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path)
    yield made
    made.end()


def unavailable(req: FormRequest, action: Any) -> None:
    with pytest.raises(Session.SessionUnavailable) as caught:
        action()
    assert caught.value.args == (503,)
    assert isinstance(caught.value, _apache.SERVER_RETURN)
    assert "VIV0061" in req.log()


@pytest.mark.parametrize("kind", SERIALISING)
def test_a_store_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    browser = Browser(tmp_path, kind, mod_python__session__database_directory=str(tmp_path / "missing"))
    browser.cookie = "pysid=" + "0" * 32
    req = browser.request()
    unavailable(req, lambda: Session.Session(req).save())


@pytest.mark.parametrize("kind", ["SqliteSession", "DbmSession"])
def test_a_store_that_is_no_database(tmp_path: Path, kind: str) -> None:
    name = {"SqliteSession": "mp_sess.sqlite", "DbmSession": "mp_sess.dbm"}[kind]
    (tmp_path / name).write_bytes(b"something else " * 500)
    os.chmod(tmp_path / name, 0o600)
    req = Browser(tmp_path, kind).request()
    unavailable(req, lambda: Session.Session(req).save())
    assert (tmp_path / name).read_bytes() == b"something else " * 500


@pytest.mark.parametrize("kind", SERIALISING)
def test_nobody_else_can_read_or_write_the_store(tmp_path: Path, kind: str) -> None:
    saved = os.umask(0)
    try:
        Browser(tmp_path, kind).visit(n=1)
    finally:
        os.umask(saved)
    found = [path for path in tmp_path.rglob("*") if "vivarium" not in path.name]
    assert found
    assert [path for path in found if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("kind", SERIALISING)
def test_a_store_that_others_can_write_is_not_trusted(tmp_path: Path, kind: str) -> None:
    browser = Browser(tmp_path, kind)
    browser.visit(n=1)
    for path in tmp_path.iterdir():
        if "vivarium" not in path.name:
            os.chmod(path, path.stat().st_mode | 0o022)
    # What was open stays open: another process, as it were.
    Session.SqliteSession.do_load.__globals__["_local"].__dict__.clear()
    req = browser.request()
    unavailable(req, lambda: Session.Session(req))


def test_a_link_in_the_place_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    (tmp_path / f"mp_sess.{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for kind in SERIALISING:
        req = FormRequest(mod_python__session__session_type=kind)
        unavailable(req, lambda req=req: Session.Session(req, lock=0).save())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_directory_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for kind in SERIALISING:
        req = FormRequest(mod_python__session__session_type=kind)
        Session.Session(req, lock=0).save()
    directory = tmp_path / f"mp_sess.{os.geteuid()}"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (directory / "mp_sess.sqlite").exists()


def test_sqlite_when_the_file_is_removed(browser: Browser, tmp_path: Path) -> None:
    browser.visit(n=1)
    for path in tmp_path.glob("mp_sess*"):
        path.unlink()
    assert browser.visit(n=2) == {}
    assert browser.visit() == {"n": 2}


def test_a_damaged_file_begins_anew(tmp_path: Path) -> None:
    browser = Browser(tmp_path, "FileSession")
    browser.visit(n=1)
    (path,) = (tmp_path / "mp_sess").glob("??/*")
    for content in (b"", b"{", b"[]", b'{"_data": {}}', b'{"_data": 5, "_created": 1, "_accessed": 1, "_timeout": 1}', b"\xff"):
        path.write_bytes(content)
        req = browser.request()
        assert Session.Session(req).is_new()
        assert "VIV0063" in req.log()
        req.end()


def test_file_cleanup_stops_and_goes_on(tmp_path: Path) -> None:
    browser = Browser(tmp_path, "FileSession", mod_python__file_session__cleanup_time_limit="0.000000001")
    for number in range(256):
        directory = tmp_path / "mp_sess" / f"{number:02x}"
        directory.mkdir(parents=True, mode=0o700)
    os.chmod(tmp_path / "mp_sess", 0o700)
    starts = []
    for _ in range(3):
        req = browser.request()
        Session.Session(req).cleanup()
        req.end()
        starts.append(int((tmp_path / "mp_sess" / "fs_status.txt").read_text().split()[0]))
    assert starts == [1, 2, 3]


def test_file_cleanup_without_verification(tmp_path: Path) -> None:
    browser = Browser(tmp_path, "FileSession")
    browser.visit(n=1)
    (path,) = (tmp_path / "mp_sess").glob("??/*")
    torn = path.with_name("0.1.new")
    torn.write_bytes(b"")
    for old, left in ((1900, 2), (2100, 0)):
        when = time.time() - old
        os.utime(path, (when, when)) if path.exists() else None
        os.utime(torn, (when, when)) if torn.exists() and old > 2000 else None
        req = FormRequest(**browser.options)
        req.server.options["mod_python.mutex_directory"] = str(tmp_path)
        Session.FileSession(req, verify_cleanup=0).cleanup()
        req.end()
        assert len(list((tmp_path / "mp_sess").glob("??/*"))) == left
