"""Locks that span all workers, of every interpreter, that run as one user.

A lock is a byte of a file. The kernel frees a process's record locks when the process ends, however that happens. Record
locks belong to processes, so that between the threads of one there is a mutex in front of each.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import threading
from typing import Any, Dict, Tuple
from zlib import crc32

from mod_python._constants import APLOG_WARNING

#: How many locks there are, if ``mod_python.mutex_locks`` does not say.
COUNT = 8

#: What is waited before the kernel is asked again, when it has taken several threads' waiting for a deadlock.
_PAUSE = 0.005

_Place = Tuple[str, int]


class Locks:
    """All locks of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        #: The file that is in use under each path: its descriptor, device and inode.
        self._files: Dict[str, Tuple[int, int, int]] = {}
        self._mutexes: Dict[_Place, threading.Lock] = {}
        #: The descriptor by which each lock is held: the path's file may have been replaced meanwhile.
        self._held: Dict[_Place, int] = {}

    def take(self, place: _Place, wait: bool) -> bool:
        """Takes the lock, and waits for it if ``wait``; says whether it did."""
        mutex = self._mutex(place)
        if not mutex.acquire(blocking=wait):
            return False
        try:
            taken = self._take_from_kernel(place, wait)
        except BaseException:
            mutex.release()
            raise
        if not taken:
            mutex.release()
        return taken

    def give_back(self, place: _Place) -> None:
        """Gives the lock back. Another thread than the one that took it may do so."""
        with self._guard:
            descriptor = self._held.pop(place, None)
        if descriptor is None:
            raise ValueError("Failed to release global mutex lock")
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place[1])
        finally:
            self._mutex(place).release()

    def _mutex(self, place: _Place) -> threading.Lock:
        with self._guard:
            return self._mutexes.setdefault(place, threading.Lock())

    def _take_from_kernel(self, place: _Place, wait: bool) -> bool:
        path, index = place
        pause = threading.Event()
        while True:
            descriptor = self._file(path)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
            except OSError as error:
                if error.errno == errno.EDEADLK:
                    # Not one: the kernel does not know that a process's locks belong to different threads.
                    pause.wait(_PAUSE)
                    continue
                if not wait and error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise
            if self._file(path) == descriptor:
                with self._guard:
                    self._held[place] = descriptor
                return True
            # The file was removed while we waited: others use the new one.
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, index)

    def _file(self, path: str) -> int:
        """The descriptor of the file that has this path now.

        It is never closed: closing any descriptor of a file gives back all locks that the process has on it.
        """
        with self._guard:
            known = self._files.get(path)
            if known is not None:
                try:
                    found = os.stat(path, follow_symlinks=False)
                except FileNotFoundError:
                    pass
                else:
                    if (found.st_dev, found.st_ino) == known[1:]:
                        return known[0]
            made = _open(path)
            self._files[path] = made
            return made[0]


def _open(path: str) -> Tuple[int, int, int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    found = os.fstat(descriptor)
    if (
        found.st_uid != os.geteuid()
        or not stat.S_ISREG(found.st_mode)
        or found.st_mode & 0o077
        or found.st_nlink > 1
    ):
        os.close(descriptor)
        raise PermissionError(
            errno.EPERM,
            "the file of the global locks must be a plain file of this user's own, without access for others: remove it, "
            "or set PythonOption mod_python.mutex_directory",
            path,
        )
    return descriptor, found.st_dev, found.st_ino


_locks = Locks()


def _start_anew() -> None:
    """In a forked process, which has none of its parent's locks."""
    global _locks
    _locks = Locks()


os.register_at_fork(after_in_child=_start_anew)


def _place(server: Any, key: Any, index: int) -> _Place:
    """The file and the number of the lock that is meant."""
    options = server.get_options()
    directory = options.get("mod_python.mutex_directory") or tempfile.gettempdir()
    given = options.get("mod_python.mutex_locks") or COUNT
    try:
        count = max(1, int(given))
    except ValueError:
        raise ValueError(f"PythonOption mod_python.mutex_locks must be a number, not {given!r}") from None
    if index == -1:
        hash(key)
        index = 0 if count == 1 else 1 + crc32(_bytes(key)) % (count - 1)
    elif not 0 <= index < count:
        server.log_error(f"Index {index} is out of range for number of global mutex locks", APLOG_WARNING)
        raise ValueError("Lock index is out of range for number of global mutex locks")
    return os.path.join(directory, f"vivarium-locks.{os.geteuid()}"), index


def _bytes(key: Any) -> bytes:
    """The same in every process, unlike Python's hashes."""
    if isinstance(key, bytes):
        return key
    return (key if isinstance(key, str) else repr(key)).encode("utf-8", "surrogatepass")


def lock(server: Any, key: Any, index: int = -1) -> None:
    """Takes the lock of ``key`` (or number ``index``), waiting for it."""
    _locks.take(_place(server, key, index), True)


def trylock(server: Any, key: Any, index: int = -1) -> bool:
    """Takes the lock if it is free; says whether it did."""
    return _locks.take(_place(server, key, index), False)


def unlock(server: Any, key: Any, index: int = -1) -> None:
    """Gives the lock back."""
    _locks.give_back(_place(server, key, index))
