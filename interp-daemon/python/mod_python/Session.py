"""Sessions: ``from mod_python import Session``.

================================  ==================================================================================
:func:`Session`                   a session of the kind that the options name
:class:`BaseSession`              what all kinds have in common: what programs use
:class:`SqliteSession`            in an SQLite database: the default
:class:`FileSession`              in files
:class:`DbmSession`               in a dbm file
:class:`MemorySession`            in the memory of one process
:class:`RedisSession`             in Redis or Valkey: for more than one machine
:class:`SessionUnavailable`       raised when a store cannot be used: 503, if nobody catches it
================================  ==================================================================================

The manual has a page: docs/sessions.md.
"""

from __future__ import annotations

from typing import Any, Dict, Type

from mod_python import apache
from mod_python._sessions import options
from mod_python._sessions.base import (
    COOKIE_NAME as COOKIE_NAME,
    DFT_LOCK as DFT_LOCK,
    DFT_TIMEOUT as DFT_TIMEOUT,
    BaseSession as BaseSession,
)
from mod_python._sessions.dbm import DbmSession as DbmSession, dbm_cleanup as dbm_cleanup
from mod_python._sessions.file import FileSession as FileSession, filesession_cleanup as filesession_cleanup
from mod_python._sessions.memory import MemorySession as MemorySession, mem_cleanup as mem_cleanup
from mod_python._sessions.options import SessionUnavailable as SessionUnavailable
from mod_python._sessions.redis import RedisSession as RedisSession
from mod_python._sessions.sqlite import SqliteSession as SqliteSession

#: One new session object in so many cleans up the store; 0: none does.
CLEANUP_CHANCE = 1000

_OPTION = "mod_python.session.session_type"

_KINDS: Dict[str, Type[BaseSession]] = {
    "SqliteSession": SqliteSession,
    "DbmSession": DbmSession,
    "FileSession": FileSession,
    "MemorySession": MemorySession,
    "RedisSession": RedisSession,
}


def Session(  # noqa: N802 (mod_python's name)
    req: Any, sid: Any = 0, secret: Any = None, timeout: float = 0, lock: Any = DFT_LOCK
) -> BaseSession:
    """The client's session, of the kind that ``PythonOption mod_python.session.session_type`` names.

    Besides the kinds of this module that can be a class of one's own, as ``module::Class``. Without the option it is
    :class:`SqliteSession`, or :class:`DbmSession` if this Python has no ``sqlite3``. The arguments are those of
    :class:`BaseSession`.
    """
    return _kind(req)(req, sid=sid, secret=secret, timeout=timeout, lock=lock)


def _kind(req: Any) -> Type[BaseSession]:
    name = options.text(req, _OPTION)
    if not name:
        return _default()
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    module, separator, attribute = name.partition("::")
    if not separator:
        raise ValueError(f"PythonOption {_OPTION} must be {', '.join(_KINDS)} or module::Class, not {name!r}")
    found = apache.resolve_object(apache.import_module(module), attribute, req)
    if not (isinstance(found, type) and issubclass(found, BaseSession)):
        raise TypeError(f"PythonOption {_OPTION}: {name} is no subclass of BaseSession")
    return found


def _default() -> Type[BaseSession]:
    try:
        import sqlite3  # noqa: F401 (some builds of Python come without)
    except ImportError:
        return DbmSession
    return SqliteSession
