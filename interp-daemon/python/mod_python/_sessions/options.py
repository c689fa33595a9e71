"""Options of sessions, by their names and by the names that they had before mod_python 3.3."""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Any, NoReturn, Optional

from mod_python._apache import SERVER_RETURN
from mod_python._constants import APLOG_ERR, HTTP_SERVICE_UNAVAILABLE

#: Older names that still count.
_OLD = {
    "mod_python.session.session_type": ("session",),
    "mod_python.session.cookie_name": ("session_cookie_name",),
    "mod_python.session.application_path": ("ApplicationPath",),
    "mod_python.session.database_directory": ("session_directory",),
    "mod_python.dbm_session.database_filename": ("session_dbm",),
    "mod_python.file_session.enable_fast_cleanup": ("session_fast_cleanup",),
    "mod_python.file_session.verify_session_timeout": ("session_verify_cleanup",),
    "mod_python.file_session.cleanup_grace_period": ("session_grace_period",),
    "mod_python.file_session.cleanup_time_limit": ("session_cleanup_time_limit",),
}

_YES = ("on", "1", "true", "yes")
_NO = ("off", "0", "false", "no")


class SessionUnavailable(SERVER_RETURN):  # type: ignore[misc]
    """The store of the sessions cannot be used now: 503, if no handler catches it."""


def text(req: Any, name: str, default: Optional[str] = None) -> Optional[str]:
    """An option of the request."""
    options = req.get_options()
    for spelling in (name, *_OLD.get(name, ())):
        value = options.get(spelling)
        if value:
            return str(value)
    return default


def flag(req: Any, name: str, default: bool) -> bool:
    """An option that is on or off."""
    value = (text(req, name) or "").lower()
    if not value:
        return default
    if value in _YES or value in _NO:
        return value in _YES
    raise ValueError(f"PythonOption {name} must be On or Off, not {value!r}")


def number(req: Any, name: str, default: float) -> float:
    """An option that is a number, not negative."""
    value = text(req, name)
    if value is None:
        return default
    try:
        found = float(value)
    except ValueError:
        found = -1
    if not 0 <= found < float("inf"):
        raise ValueError(f"PythonOption {name} must be a number, 0 or more, not {value!r}")
    return found


def directory(req: Any, kind: str) -> Optional[str]:
    """The directory for sessions of a kind that the options name, if they do."""
    return text(req, f"mod_python.{kind}.database_directory") or text(req, "mod_python.session.database_directory")


def own_default() -> str:
    """The directory for all kinds if the options name none: this user's own below Python's for temporary files."""
    return os.path.join(tempfile.gettempdir(), f"mp_sess.{os.geteuid()}")


def own_directory(path: str) -> None:
    """Makes a directory that is this user's alone; ``PermissionError`` if there is one that is not.

    Sessions say who is logged in: whoever can write there can be anybody.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(
            1,
            "the directory of sessions must belong to the user that Python runs as, and be writable for nobody else",
            path,
        )


def own_file(path: str) -> None:
    """Checks that a file, if it is there, is this user's alone; ``PermissionError`` if it is not."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(
            1, "the file of sessions must belong to the user that Python runs as, and be writable for nobody else", path
        )


def unavailable(req: Any, what: str, error: object) -> NoReturn:
    """Ends the request with 503, and says why in the error log."""
    message = " ".join(str(error).split()) or type(error).__name__
    req.log_error(f"VIV0061: {what} cannot be used: {message}", APLOG_ERR)
    raise SessionUnavailable(HTTP_SERVICE_UNAVAILABLE)
