"""Sessions in the memory of one process."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any, Dict, Optional

from mod_python._sessions.base import DFT_LOCK, BaseSession

_sessions: Dict[str, Dict[str, Any]] = {}
_guard = threading.Lock()


class MemorySession(BaseSession):
    """Sessions that this process alone knows, until it ends: for pools of one process, and for tests.

    Values may be of any type. They are copied when they are saved and loaded.
    """

    def __init__(
        self, req: Any, sid: Any = 0, secret: Any = None, timeout: float = 0, lock: Any = DFT_LOCK
    ) -> None:
        super().__init__(req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def do_load(self) -> Optional[Dict[str, Any]]:
        """Gives a copy of the record."""
        with _guard:
            record = _sessions.get(self._sid)
        return None if record is None else copy.deepcopy(record)

    def do_save(self, record: Dict[str, Any]) -> None:
        """Keeps a copy of the record."""
        kept = copy.deepcopy(record)
        with _guard:
            _sessions[self._sid] = kept

    def do_delete(self) -> None:
        """Forgets the record."""
        with _guard:
            _sessions.pop(self._sid, None)

    def do_cleanup(self) -> None:
        """Forgets what has expired, after the request."""
        self._req.register_cleanup(mem_cleanup, self._req.server)
        self._req.log_error("MemorySession: registered the clean-up", 7)


def mem_cleanup(server: Any = None) -> None:
    """Forgets what has expired."""
    now = time.time()
    with _guard:
        expired = [sid for sid, r in _sessions.items() if now - r["_accessed"] > r["_timeout"]]
        for sid in expired:
            del _sessions[sid]
