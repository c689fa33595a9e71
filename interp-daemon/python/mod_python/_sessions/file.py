"""Sessions in files, one for each."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, Optional

from mod_python._constants import APLOG_NOTICE
from mod_python._sessions import locks, options, serial
from mod_python._sessions.base import DFT_LOCK, BaseSession

DFT_FAST_CLEANUP = True
DFT_VERIFY_CLEANUP = True
#: Seconds.
DFT_GRACE_PERIOD = 240
DFT_CLEANUP_TIME_LIMIT = 2

#: The file that says where the last clean-up ended, and when: ``NEXT TIME``.
_STATUS = "fs_status.txt"
_DIRECTORIES = 256


class FileSession(BaseSession):
    """Sessions in files ``mp_sess/xx/ID``: a file is replaced as a whole, so that it is never half written.

    ``fast_cleanup`` looks at files' times before it reads them; ``verify_cleanup`` reads a file before it is removed,
    because a session may have a timeout of its own.
    """

    def __init__(
        self,
        req: Any,
        sid: Any = 0,
        secret: Any = None,
        timeout: float = 0,
        lock: Any = DFT_LOCK,
        fast_cleanup: Any = -1,
        verify_cleanup: Any = -1,
    ) -> None:
        self._fast_cleanup = (
            options.flag(req, "mod_python.file_session.enable_fast_cleanup", DFT_FAST_CLEANUP)
            if fast_cleanup == -1
            else bool(fast_cleanup)
        )
        self._verify_cleanup = (
            options.flag(req, "mod_python.file_session.verify_session_timeout", DFT_VERIFY_CLEANUP)
            if verify_cleanup == -1
            else bool(verify_cleanup)
        ) or not self._fast_cleanup
        self._grace_period = options.number(req, "mod_python.file_session.cleanup_grace_period", DFT_GRACE_PERIOD)
        self._time_limit = options.number(
            req, "mod_python.file_session.cleanup_time_limit", DFT_CLEANUP_TIME_LIMIT
        )
        directory = options.directory(req, "file_session")
        self._sessdir = os.path.join(directory, "mp_sess") if directory else options.own_default()
        super().__init__(req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def _file(self) -> str:
        return os.path.join(self._sessdir, self._sid[:2], self._sid)

    def _what(self) -> str:
        return f"the directory of sessions {self._sessdir}"

    def do_load(self) -> Optional[Dict[str, Any]]:
        """Reads the file."""
        try:
            options.own_directory(self._sessdir)
            with open(self._file(), "rb") as file:
                return self._loads(file.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            options.unavailable(self._req, self._what(), error)

    def do_save(self, record: Dict[str, Any]) -> None:
        """Writes a new file and puts it in the old one's place."""
        data = self._dumps(record)
        path = self._file()
        fresh = f"{path}.{os.getpid()}.{id(self):x}.new"
        try:
            options.own_directory(self._sessdir)
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as file:
                    file.write(data)
                os.replace(fresh, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(fresh)
                raise
        except OSError as error:
            options.unavailable(self._req, self._what(), error)

    def do_delete(self) -> None:
        """Removes the file."""
        try:
            os.unlink(self._file())
        except FileNotFoundError:
            pass
        except OSError as error:
            options.unavailable(self._req, self._what(), error)

    def do_cleanup(self) -> None:
        """Removes files of expired sessions, after the request."""
        data = {
            "directory": self._sessdir,
            "timeout": self._timeout,
            "fast": self._fast_cleanup,
            "verify": self._verify_cleanup,
            "grace": self._grace_period,
            "limit": self._time_limit,
            "serial": serial.of(self._req),
            "lock": locks.FileLock(self._req, "file session clean-up"),
            "req": self._req,
        }
        self._req.register_cleanup(filesession_cleanup, data)


def filesession_cleanup(data: Dict[str, Any]) -> None:
    """Removes files of expired sessions for at most ``limit`` seconds; the next one goes on where this one ended."""
    if not data["lock"].acquire(1e-9):
        # Another process is at it.
        return
    try:
        _clean(data)
    except OSError as error:
        where = data["directory"]
        data["req"].log_error(f"VIV0061: the sessions of {where} cannot be cleaned up: {error}", APLOG_NOTICE)
    finally:
        data["lock"].release()


def _clean(data: Dict[str, Any]) -> None:
    status = os.path.join(data["directory"], _STATUS)
    begin = 0
    with contextlib.suppress(OSError, ValueError, IndexError), open(status, encoding="ascii") as file:
        begin = int(file.read().split()[0]) % _DIRECTORIES
    until = time.monotonic() + data["limit"] if data["limit"] else float("inf")
    number = begin
    for number in range(begin, begin + _DIRECTORIES):
        if number > begin and time.monotonic() > until:
            break
        _clean_directory(os.path.join(data["directory"], f"{number % _DIRECTORIES:02x}"), data)
    else:
        number = begin
    fresh = f"{status}.{os.getpid()}.new"
    with open(fresh, "w", encoding="ascii") as file:
        file.write(f"{number % _DIRECTORIES} {time.time():.0f}\n")
    os.replace(fresh, status)


def _clean_directory(directory: str, data: Dict[str, Any]) -> None:
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    now = time.time()
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            age = now - entry.stat(follow_symlinks=False).st_mtime
            if entry.name.endswith(".new"):
                # Left behind by a process that died while it wrote.
                if age > data["grace"]:
                    os.unlink(entry.path)
                continue
            if data["fast"] and age < data["timeout"] + data["grace"]:
                continue
            if data["verify"] and not _expired(entry.path, now - data["grace"], data["serial"]):
                continue
            os.unlink(entry.path)


def _expired(path: str, now: float, serialiser: Any) -> bool:
    with open(path, "rb") as file:
        content = file.read()
    try:
        record = serialiser.loads(content)
    except serial.Damaged:
        return True
    return bool(now - record["_accessed"] > record["_timeout"])
