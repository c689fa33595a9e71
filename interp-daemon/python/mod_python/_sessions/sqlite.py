"""Sessions in an SQLite database: the default."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Callable, Dict, Optional

from mod_python._constants import APLOG_NOTICE
from mod_python._sessions import options
from mod_python._sessions.base import DFT_LOCK, BaseSession

#: Seconds that a process waits for another one that writes.
_PATIENCE = 10

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (sid TEXT PRIMARY KEY, expires REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_expiry ON sessions (expires);
"""

#: The connections of each thread: path -> (process, device and inode, connection).
_local = threading.local()


class SqliteSession(BaseSession):
    """Sessions in an SQLite database, which any number of processes of one machine may use at the same time.

    A session that was saved survives the death of every process. Values are written as JSON, see
    ``mod_python.session.serializer``.
    """

    def __init__(
        self, req: Any, sid: Any = 0, secret: Any = None, timeout: float = 0, lock: Any = DFT_LOCK
    ) -> None:
        directory = options.directory(req, "sqlite_session")
        self._in_own_default = not directory
        name = options.text(req, "mod_python.sqlite_session.database_filename", "mp_sess.sqlite") or ""
        self._path = os.path.join(directory or options.own_default(), name)
        super().__init__(req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def do_load(self) -> Optional[Dict[str, Any]]:
        """Reads the record."""
        row = self._do(
            lambda db: db.execute("SELECT data FROM sessions WHERE sid = ?", (self._sid,)).fetchone()
        )
        return self._loads(None if row is None else bytes(row[0]))

    def do_save(self, record: Dict[str, Any]) -> None:
        """Writes the record."""
        values = (self._sid, record["_accessed"] + record["_timeout"], self._dumps(record))
        self._do(lambda db: db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", values))

    def do_delete(self) -> None:
        """Removes the record."""
        self._do(lambda db: db.execute("DELETE FROM sessions WHERE sid = ?", (self._sid,)))

    def do_cleanup(self) -> None:
        """Removes expired records, after the request."""
        self._req.register_cleanup(sqlite_cleanup, self)

    def _do(self, action: Callable[[Any], Any]) -> Any:
        """Does something with the database; 503 if that cannot be done."""
        import sqlite3

        try:
            return action(self._connection(sqlite3))
        except (OSError, sqlite3.Error) as error:
            options.unavailable(self._req, f"the database of sessions {self._path}", error)

    def _connection(self, sqlite3: Any) -> Any:
        """This thread's connection to the file that has the path now."""
        connections = _local.__dict__.setdefault("connections", {})
        process, place, connection = connections.get(self._path, (0, None, None))
        if connection is not None and process == os.getpid() and place == _place(self._path):
            return connection
        if self._in_own_default:
            options.own_directory(os.path.dirname(self._path))
        options.own_file(self._path)
        # 0600 from the beginning: SQLite gives its other files the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        connections[self._path] = (os.getpid(), _place(self._path), connection)
        return connection


def _place(path: str) -> Any:
    """Which file it is: somebody may have removed it, and a new one been made."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def sqlite_cleanup(session: SqliteSession) -> None:
    """Removes expired records."""
    try:
        session._do(lambda db: db.execute("DELETE FROM sessions WHERE expires < ?", (time.time(),)))
    except options.SessionUnavailable:
        session._req.log_error(f"the sessions of {session._path} were not cleaned up", APLOG_NOTICE)
