"""``wsgi.file_wrapper``: files that httpd sends itself."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from typing import Any, Iterator, Optional, Tuple

_TEMPORARY: Any = getattr(tempfile, "_TemporaryFileWrapper", None)


class FileWrapper:
    """What an application returns to have a file sent: ``environ["wsgi.file_wrapper"](file[, block size])``.

    Returned as it is, httpd sends the file, from where it stands to its end, if it is a regular file. Anything else
    that has ``read`` is sent in blocks; so is this object when it is iterated over, by a middleware for example.
    """

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = self.filelike.read(self.blksize)
        if data:
            return data  # type: ignore[no-any-return]
        raise StopIteration


def place_of(filelike: Any) -> Optional[Tuple[str, int, int]]:
    """Where a file can be opened again, where it stands, and how much follows; ``None`` for what is no plain file.

    Only Python's own file objects are looked through: others may have a ``fileno`` and give other bytes than the file
    (``gzip.GzipFile`` does).
    """
    if _TEMPORARY is not None and filelike.__class__ is _TEMPORARY:
        filelike = filelike.file
    kind = filelike.__class__
    if kind in (io.BufferedReader, io.BufferedRandom):
        if filelike.raw.__class__ is not io.FileIO:
            return None
    elif kind is not io.FileIO:
        return None
    try:
        if kind is io.BufferedRandom:
            filelike.flush()
        number = filelike.fileno()
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or not filelike.readable():
            return None
        offset = filelike.tell()
    except (OSError, ValueError):
        return None
    return f"/proc/self/fd/{number}", offset, max(0, found.st_size - offset)
