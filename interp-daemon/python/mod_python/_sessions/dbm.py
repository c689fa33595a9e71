"""Sessions in a dbm file."""

from __future__ import annotations

import contextlib
import dbm as _dbm
import os
import time
from typing import Any, Dict, Iterator, Optional

from mod_python import _locks
from mod_python._constants import APLOG_NOTICE
from mod_python._sessions import options, serial
from mod_python._sessions.base import DFT_LOCK, BaseSession

#: What the kinds of dbm put behind the name that they are given.
_ENDINGS = ("", ".db", ".dat", ".dir", ".pag", ".bak")


class DbmSession(BaseSession):
    """Sessions in one dbm file, which one process at a time has open.

    ``dbm`` is the file's name, ``dbmtype`` a module such as ``dbm.gnu``; without it Python takes the best that it has.
    """

    def __init__(
        self,
        req: Any,
        dbm: Optional[str] = None,
        sid: Any = 0,
        secret: Any = None,
        dbmtype: Any = _dbm,
        timeout: float = 0,
        lock: Any = DFT_LOCK,
    ) -> None:
        self._in_own_default = False
        if not dbm:
            directory = options.directory(req, "dbm_session")
            self._in_own_default = not directory
            name = options.text(req, "mod_python.dbm_session.database_filename", "mp_sess.dbm") or ""
            dbm = os.path.join(directory or options.own_default(), name)
        self._dbmfile = dbm
        self._dbmtype = dbmtype
        super().__init__(req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        """The open file, for this process alone."""
        _locks.lock(self._req.server, None, 0)
        try:
            if self._in_own_default:
                options.own_directory(os.path.dirname(self._dbmfile))
            for ending in _ENDINGS:
                options.own_file(self._dbmfile + ending)
            with contextlib.closing(self._dbmtype.open(self._dbmfile, "c", 0o600)) as file:
                yield file
        except (OSError, *_errors(self._dbmtype)) as error:
            options.unavailable(self._req, f"the file of sessions {self._dbmfile}", error)
        finally:
            _locks.unlock(self._req.server, None, 0)

    def do_load(self) -> Optional[Dict[str, Any]]:
        """Reads the record."""
        key = self._sid.encode("ascii")
        with self._open() as file:
            data = file[key] if key in file else None
        return self._loads(data)

    def do_save(self, record: Dict[str, Any]) -> None:
        """Writes the record."""
        data = self._dumps(record)
        with self._open() as file:
            file[self._sid.encode("ascii")] = data

    def do_delete(self) -> None:
        """Removes the record."""
        key = self._sid.encode("ascii")
        with self._open() as file:
            if key in file:
                del file[key]

    def do_cleanup(self) -> None:
        """Removes expired records, after the request."""
        self._req.register_cleanup(dbm_cleanup, self)


def _errors(dbmtype: Any) -> Any:
    """What the module raises when a file cannot be used."""
    found = getattr(dbmtype, "error", OSError)
    return found if isinstance(found, tuple) else (found,)


def dbm_cleanup(session: DbmSession) -> None:
    """Removes expired records."""
    serialiser = serial.of(session._req)
    now = time.time()
    try:
        with session._open() as file:
            for key in list(file.keys()):
                try:
                    record = serialiser.loads(file[key])
                    expired = now - record["_accessed"] > record["_timeout"]
                except serial.Damaged:
                    expired = True
                if expired:
                    del file[key]
    except options.SessionUnavailable:
        session._req.log_error(f"the sessions of {session._dbmfile} were not cleaned up", APLOG_NOTICE)
