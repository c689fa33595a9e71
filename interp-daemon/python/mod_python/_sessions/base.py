"""The base of all kinds of sessions."""

from __future__ import annotations

import random
import re
import secrets
import sys
import time
from typing import Any, Dict, Optional, Union
from urllib.parse import quote

from mod_python import Cookie
from mod_python._constants import APLOG_ERR, APLOG_WARNING, HTTP_SERVICE_UNAVAILABLE
from mod_python._sessions import locks, options, serial

COOKIE_NAME = "pysid"
#: Seconds.
DFT_TIMEOUT = 30 * 60
DFT_LOCK = 1
#: Seconds that a request waits for another one that has the same session.
DFT_LOCK_TIMEOUT = 30
#: One request in so many cleans up. :data:`mod_python.Session.CLEANUP_CHANCE` is what counts.
CLEANUP_CHANCE = 1000

_SID = re.compile(r"[0-9a-f]{32}", re.ASCII)

Secret = Union[str, bytes, None]


def new_sid() -> str:
    """A session id: 128 random bits."""
    return secrets.token_hex(16)


def is_sid(text: str) -> bool:
    """Whether the text has the form of a session id; nothing else ever reaches a store."""
    return _SID.fullmatch(text) is not None


class BaseSession(dict):  # type: ignore[type-arg]
    """A session: a dictionary that is kept between the requests of one client.

    A kind of session is a subclass with four methods: ``do_load()`` gives what ``do_save(record)`` was given last (or
    ``None``), ``do_delete()`` removes it, ``do_cleanup()`` removes what has expired. A record is a dictionary with
    ``_data``, ``_created``, ``_accessed``, ``_timeout``.

    ==========  =======================================================================================================
    argument    means
    ==========  =======================================================================================================
    sid         the id of the session to open (``ValueError`` if it cannot be one); without it the client's cookie
    secret      the cookie is signed with it; without it ``PythonOption mod_python.session.secret``, or not at all
    timeout     seconds without ``save()`` after which a session is over
    lock        false: other requests may have the same session at the same time, and the last one to save wins
    ==========  =======================================================================================================
    """

    def __init__(
        self, req: Any, sid: Optional[str] = None, secret: Secret = None, lock: Any = DFT_LOCK, timeout: float = 0
    ) -> None:
        super().__init__()
        if sid and not is_sid(sid):
            raise ValueError(f"Invalid Session ID: sid={sid}")
        self._req = req
        self._lock = lock
        self._locked = 0
        self._held: Any = None
        self._invalid = 0
        self._new = 1
        self._secret = secret or _secret(req)
        self._created = self._accessed = time.time()
        self._given_timeout = timeout
        self._timeout = timeout or options.number(req, "mod_python.session.timeout", DFT_TIMEOUT)
        self._sid = sid or self._sid_of_cookie() or ""
        self.init_lock()
        if self._sid:
            self.lock()
            if self.load():
                self._new = 0
            else:
                self.unlock()
        if self._new:
            # An id that the client made up is never used: nobody can choose another one's id beforehand.
            self._sid = new_sid()
            self.lock()
            Cookie.add_cookie(req, self.make_cookie())
        chance = getattr(sys.modules.get("mod_python.Session"), "CLEANUP_CHANCE", CLEANUP_CHANCE)
        if chance and random.randint(1, int(chance)) == 1:
            self.cleanup()

    # --- what a program asks

    def is_new(self) -> bool:
        """Whether this request began the session."""
        return bool(self._new)

    def id(self) -> str:
        """The session's id."""
        return self._sid

    def created(self) -> float:
        """When it was begun, in seconds since 1970."""
        return self._created

    def last_accessed(self) -> float:
        """When it was last used, in seconds since 1970."""
        return self._accessed

    def timeout(self) -> float:
        """After how many seconds without ``save()`` it is over."""
        return self._timeout

    def set_timeout(self, secs: float) -> None:
        """Sets that number; it is kept with the session."""
        self._timeout = self._given_timeout = secs

    # --- storing

    def load(self) -> bool:
        """Reads the session from its store; false if there is none, or none any more."""
        record = self.do_load()
        if record is None:
            return False
        now = time.time()
        if now - record["_accessed"] > record["_timeout"]:
            return False
        self._created = record["_created"]
        self._accessed = now
        self._timeout = self._given_timeout or record["_timeout"]
        self.clear()
        self.update(record["_data"])
        return True

    def save(self) -> None:
        """Writes the session to its store."""
        if self._invalid:
            return
        self._accessed = time.time()
        self.do_save(
            {
                "_data": self.copy(),
                "_created": self._created,
                "_accessed": self._accessed,
                "_timeout": self._timeout,
            }
        )

    def delete(self) -> None:
        """Removes the session from its store."""
        self.do_delete()
        self.clear()

    def invalidate(self) -> None:
        """Ends the session: removes it from its store and from the client, and later ``save()`` do nothing."""
        cookie = self.make_cookie()
        cookie.expires = 0
        Cookie.add_cookie(self._req, cookie)
        self.delete()
        self._invalid = 1

    def regenerate(self) -> str:
        """Gives the session a new id, which it returns, and sends it to the client; the contents stay.

        To be called when a client logs in: whoever knew the id before is not logged in then. The session is saved.
        """
        if self._invalid:
            raise ValueError("the session was invalidated")
        old = self._sid
        had = self._locked
        self._sid = new_sid()
        try:
            self.save()
        except BaseException:
            self._sid = old
            raise
        new, self._sid = self._sid, old
        try:
            self.do_delete()
        finally:
            self.unlock()
            self._sid = new
            if had:
                self.lock()
        Cookie.add_cookie(self._req, self.make_cookie())
        return new

    def cleanup(self) -> None:
        """Has the store cleaned up; called by chance."""
        self.do_cleanup()

    # --- what kinds of sessions define

    def do_load(self) -> Optional[Dict[str, Any]]:
        """Gives the record of this id, or ``None``."""
        raise NotImplementedError(f"{type(self).__name__} has no store: define do_load, do_save, do_delete")

    def do_save(self, record: Dict[str, Any]) -> None:
        """Keeps the record under this id."""
        raise NotImplementedError(f"{type(self).__name__} has no store: define do_load, do_save, do_delete")

    def do_delete(self) -> None:
        """Forgets the record of this id."""
        raise NotImplementedError(f"{type(self).__name__} has no store: define do_load, do_save, do_delete")

    def do_cleanup(self) -> None:
        """Removes what has expired, after the request: ``self._req.register_cleanup(...)``."""

    # --- locking

    def init_lock(self) -> None:
        """Called once, before the first :meth:`lock`: for kinds of sessions that lock in a way of their own."""

    def _make_lock(self) -> Any:
        """The lock of this id: an object with ``key``, ``acquire(seconds)`` and ``release()``."""
        return locks.FileLock(self._req, self._sid)

    def lock(self) -> None:
        """Waits until no other request has the session, and keeps others waiting until the end of this one.

        A request that waits longer than ``mod_python.session.lock_timeout`` ends with 503.
        """
        if not self._lock or self._locked:
            return
        seconds = options.number(self._req, "mod_python.session.lock_timeout", DFT_LOCK_TIMEOUT)
        lock = self._make_lock()
        try:
            taken = locks.take(self._req, lock, seconds)
        except OSError as error:
            options.unavailable(self._req, "the lock of a session", error)
        if not taken:
            self._req.log_error(
                f"VIV0062: another request has had the same session for more than {seconds:g} s: this one ends with "
                "503; call unlock() before what takes long, or set PythonOption mod_python.session.lock_timeout",
                APLOG_ERR,
            )
            raise options.SessionUnavailable(HTTP_SERVICE_UNAVAILABLE)
        self._held = lock.key
        self._locked = 1
        self._req.register_cleanup(_unlock, self)

    def unlock(self) -> None:
        """Lets others have the session."""
        if self._locked:
            self._locked = 0
            locks.give_back(self._req, self._held)

    # --- the cookie

    def make_cookie(self) -> Cookie.Cookie:
        """The cookie with the session's id."""
        req = self._req
        name = options.text(req, "mod_python.session.cookie_name", COOKIE_NAME)
        made: Cookie.Cookie
        if self._secret:
            made = Cookie.SignedCookie(name or "", self._sid, self._secret)
        else:
            made = Cookie.Cookie(name or "", self._sid)
        made.path = _path(req)
        made.domain = options.text(req, "mod_python.session.application_domain")
        made.httponly = options.flag(req, "mod_python.session.cookie_httponly", True)
        said = options.text(req, "mod_python.session.cookie_secure")
        made.secure = options.flag(req, "mod_python.session.cookie_secure", False) if said else _is_https(req)
        samesite = options.text(req, "mod_python.session.cookie_samesite", "Lax") or ""
        made.samesite = None if samesite.lower() == "off" else samesite
        return made

    def _sid_of_cookie(self) -> Optional[str]:
        name = options.text(self._req, "mod_python.session.cookie_name", COOKIE_NAME) or ""
        if self._secret:
            found = Cookie.get_cookie(
                self._req, name, Cookie.SignedCookie, secret=self._secret, mismatch=Cookie.Cookie.IGNORE
            )
        else:
            found = Cookie.get_cookie(self._req, name)
        return found.value if found is not None and is_sid(found.value) else None

    # --- for kinds of sessions that keep bytes

    def _dumps(self, record: Dict[str, Any]) -> bytes:
        return serial.of(self._req).dumps(record)  # type: ignore[no-any-return]

    def _loads(self, data: Optional[bytes]) -> Optional[Dict[str, Any]]:
        """The record; ``None`` for nothing, and for what is no record, which the log says."""
        if data is None:
            return None
        try:
            return serial.of(self._req).loads(data)  # type: ignore[no-any-return]
        except serial.Damaged as error:
            self._req.log_error(f"VIV0063: a stored session cannot be read, and is begun anew: {error}", APLOG_WARNING)
            return None


def _unlock(session: BaseSession) -> None:
    session.unlock()


def _secret(req: Any) -> Secret:
    """The secret that the options name, or none."""
    path = options.text(req, "mod_python.session.secret_file")
    if path:
        with open(path, "rb") as file:
            found = file.read().strip()
        if not found:
            raise ValueError(f"PythonOption mod_python.session.secret_file: {path} is empty")
        return found
    return options.text(req, "mod_python.session.secret")


def _is_https(req: Any) -> bool:
    ask = getattr(req, "is_https", None)
    return bool(ask and ask())


def _path(req: Any) -> str:
    """What the cookie is for: the option, else the section's directory below DocumentRoot, else everything."""
    said = options.text(req, "mod_python.session.application_path")
    if said:
        return said
    hlist = getattr(req, "hlist", None)
    directory = getattr(hlist, "directory", None)
    root = req.document_root() if directory and hasattr(req, "document_root") else None
    if not root or not directory or getattr(hlist, "is_location", None):
        return "/"
    root, directory = root.rstrip("/"), directory.rstrip("/")
    if not (directory + "/").startswith(root + "/"):
        return "/"
    return quote(directory[len(root) :], safe="/~!$&'()*+,=:@") or "/"
