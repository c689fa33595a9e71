"""Bodies of type ``multipart/form-data``: which parser there is, and what its events mean.

In a worker the extension parses (the crate multer), piece by piece. Outside of one, where forms are a test's, a small
parser does that takes the body as a whole. Both have the same three methods and the same events: a list of
``(name, bytes)`` for the headers of a part, ``bytes`` for some of its data, ``None`` for its end. They raise
``OverflowError`` for headers that are too long and ``ValueError`` for what is no such body.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Tuple, Union

from mod_python import _apache

Headers = List[Tuple[str, bytes]]
Event = Union[Headers, bytes, None]

_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_MAX_BOUNDARY = 200


def parser(boundary: str, max_header: int) -> Any:
    """A parser for a body with that boundary."""
    extension = getattr(_apache._vivarium, "Multipart", None)
    return Whole(boundary, max_header) if extension is None else extension(boundary, max_header)


class Whole:
    """Parses a body that is in memory as a whole."""

    def __init__(self, boundary: str, max_header: int) -> None:
        if not 0 < len(boundary) <= _MAX_BOUNDARY:
            raise ValueError(f"the boundary must have 1 to {_MAX_BOUNDARY} bytes")
        self._mark = b"--" + boundary.encode("utf-8")
        self._max_header = max_header
        self._pieces: List[bytes] = []

    def feed(self, piece: bytes) -> List[Event]:
        """Takes the next piece."""
        self._pieces.append(piece)
        return []

    def end(self) -> List[Event]:
        """All events of the body."""
        return list(self._events(b"".join(self._pieces)))

    def _events(self, body: bytes) -> Iterator[Event]:
        mark = self._mark
        at = body.find(mark)
        while True:
            if at < 0:
                raise ValueError("it ends before its last boundary")
            at += len(mark)
            if body.startswith(b"--", at):
                return
            while body[at : at + 1] in (b" ", b"\t"):
                at += 1
            if not body.startswith(b"\r\n", at):
                raise ValueError("a boundary is followed by something else")
            at += 2
            end = body.find(b"\r\n\r\n", at)
            if end < 0:
                raise ValueError("it ends in the headers of a part")
            if end - at > self._max_header:
                raise OverflowError(f"the header of a part is longer than {self._max_header} bytes")
            yield _headers(body[at:end])
            start, at = end + 4, body.find(b"\r\n" + mark, end + 4)
            if at < 0:
                raise ValueError("it ends in the data of a part")
            if at > start:
                yield body[start:at]
            yield None
            at += 2


def _headers(block: bytes) -> Headers:
    found = []
    for line in block.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise ValueError("a header of a part is none")
        found.append((header[1].decode("ascii").lower(), header[2]))
    return found
