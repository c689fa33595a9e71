"""Locks of sessions: one request at a time has a session, in whichever process.

A request has a lock once, however many session objects of the same id it makes: so a page that is reached by
``req.internal_redirect`` may open the session that the redirecting handler has open.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from typing import Any, Callable, Dict, List, Optional
from zlib import crc32

from mod_python import _locks

#: How many locks there are. Sessions that share one wait for each other, which costs time and nothing else.
COUNT = 4096

#: The first and the longest pause before a lock is tried again, in seconds.
_FIRST, _LONGEST = 0.001, 0.02

#: The attribute of a request that has the locks it holds.
_ATTRIBUTE = "_session_locks"


class FileLock:
    """A lock of all processes of one user on this machine. The kernel frees it when its holder dies."""

    def __init__(self, req: Any, sid: str) -> None:
        directory = req.server.get_options().get("mod_python.mutex_directory") or tempfile.gettempdir()
        path = os.path.join(directory, f"vivarium-session-locks.{os.geteuid()}")
        self._place = (path, crc32(sid.encode("ascii")) % COUNT)
        self.key: Any = self._place

    def acquire(self, seconds: float) -> bool:
        """Takes the lock, waiting that long (0: for ever); says whether it did."""
        return patiently(lambda: _locks._locks.take(self._place, False), seconds)

    def release(self) -> None:
        """Gives it back."""
        _locks._locks.give_back(self._place)


def patiently(attempt: Callable[[], bool], seconds: float, longest: float = _LONGEST) -> bool:
    """Tries until it works or the time is over (0: for ever)."""
    until = time.monotonic() + seconds if seconds else float("inf")
    pause, sleep = _FIRST, threading.Event()
    while not attempt():
        left = until - time.monotonic()
        if left <= 0:
            return False
        sleep.wait(min(pause, left))
        pause = min(2 * pause, longest)
    return True


def _held(req: Any) -> Dict[Any, List[Any]]:
    """What the request, or the one that it is a part of, holds: key -> [how often, the lock]."""
    root = req
    while True:
        outer = getattr(root, "prev", None) or getattr(root, "main", None)
        if outer is None:
            break
        root = outer
    held: Optional[Dict[Any, List[Any]]] = getattr(root, _ATTRIBUTE, None)
    if held is None:
        held = {}
        setattr(root, _ATTRIBUTE, held)
    return held


def take(req: Any, lock: Any, seconds: float) -> bool:
    """Takes a lock for a request; says whether it did."""
    held = _held(req)
    if lock.key in held:
        held[lock.key][0] += 1
        return True
    if not lock.acquire(seconds):
        return False
    held[lock.key] = [1, lock]
    return True


def give_back(req: Any, key: Any) -> None:
    """Gives it back, when whoever has it in this request has done so."""
    held = _held(req)
    entry = held.get(key)
    if entry is None:
        return
    entry[0] -= 1
    if not entry[0]:
        del held[key]
        entry[1].release()
