"""Bodies, and the filters that they go through."""

from __future__ import annotations

import os
import stat
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from mod_python.testing._objects import Item, body_bytes

#: What httpd keeps before it sends, and what a request's body comes in.
BLOCK = 8000

Sink = Callable[[bytes, bool], None]


class Filter:
    """``mp_filter``: one filter of a request. It is called for each piece of the body, and for its end."""

    def __init__(self, chain: Chain, req: Any, name: str, item: Item, is_input: bool) -> None:
        self._chain = chain
        self._item = item
        self._input = b""
        self._given = b""
        self._ends = False
        self._out = bytearray()
        self._state = ""
        self.softspace = 0
        self.req = req
        self._facts = (name, item[0], item[1], int(is_input))

    name = property(lambda self: self._facts[0], doc="The filter's name.")
    handler = property(lambda self: self._facts[1], doc="The handler.")
    dir = property(lambda self: self._facts[2], doc="The section's directory.")
    is_input = property(lambda self: self._facts[3], doc="1 for an input filter.")
    closed = property(lambda self: int(self._state == "closed"), doc="1 after close().")

    def run(self, data: bytes, ends: bool) -> None:
        """Calls the filter's function for a piece of the body; ``ends`` says that it is the last."""
        if self._state == "closed":
            return
        if self._state in ("disabled", "failed"):
            self._chain.after(self, data, ends)
            return
        self._input = self._given = data
        self._ends = ends
        self._out.clear()
        self._chain.call(self)
        rest = {"": b"", "closed": b"", "disabled": self._input, "failed": self._given}[self._state]
        if self.closed:
            self._chain.after(self, b"", True)
        elif rest or self._out or ends:
            self._chain.after(self, bytes(self._out) + rest, ends)

    def failed(self) -> None:
        """The function has raised: what it was given goes on as it was, unless something of it has."""
        self._state = "failed"

    def read(self, n: int = -1, /) -> Optional[bytes]:
        """Bytes; ``b""`` when there is nothing now, ``None`` at the end of the stream."""
        return self._take(len(self._input) if n < 0 else n)

    def readline(self, n: int = -1, /) -> Optional[bytes]:
        """A line; ``None`` at the end of the stream."""
        end = self._input.find(b"\n") + 1 or len(self._input)
        return self._take(end if n < 0 else min(n, end))

    def _take(self, n: int) -> Optional[bytes]:
        self._check()
        if not self._input and self._ends:
            self._ends = False
            return None
        data, self._input = self._input[:n], self._input[n:]
        return data

    def write(self, data: Any, /) -> None:
        """Passes text (as UTF-8) or bytes on."""
        self._check()
        self._out += body_bytes(data)

    def flush(self) -> None:
        """Sends on what was written."""
        if self._out and not self.closed:
            self._given = b""
            data = bytes(self._out)
            self._out.clear()
            self._chain.after(self, data, False)

    def close(self) -> None:
        """Ends the stream; the filter cannot be read or written after that."""
        if not self.closed:
            self.flush()
            self._state = "closed"

    def pass_on(self) -> None:
        """Hands what was not read on as it is."""
        if not self.closed:
            self._out += self._input
            self._input = b""

    def disable(self) -> None:
        """Takes the filter out of the chain."""
        self._state = self._state or "disabled"

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed filter")


Filter.__name__ = Filter.__qualname__ = "mp_filter"
Filter.__module__ = "builtins"


class Chain:
    """The filters between a source and a sink."""

    def __init__(self, call: Callable[[Filter], None], sink: Sink) -> None:
        self.call = call
        self._sink = sink
        self.filters: List[Filter] = []
        self._ended = False

    def push(self, data: bytes, ends: bool) -> None:
        """Sends a piece through all filters."""
        self._to(0, data, ends)

    def after(self, place: Filter, data: bytes, ends: bool) -> None:
        """Sends a piece on from a filter."""
        self._to(self.filters.index(place) + 1, data, ends)

    def _to(self, n: int, data: bytes, ends: bool) -> None:
        if n < len(self.filters):
            self.filters[n].run(data, ends)
        elif not self._ended:
            self._ended = ends
            self._sink(data, ends)


class Body:
    """A request's body, as the input filters leave it."""

    def __init__(self, data: bytes, call: Callable[[Filter], None]) -> None:
        self._raw = data
        self._ready = bytearray()
        self._ended = False
        self.chain = Chain(call, self._arrived)

    def _arrived(self, data: bytes, ends: bool) -> None:
        self._ready += data
        self._ended = self._ended or ends

    def _more(self) -> bool:
        if self._ended:
            return False
        data, self._raw = self._raw[:BLOCK], self._raw[BLOCK:]
        self.chain.push(data, not self._raw)
        if not self._raw:
            self._ended = True
        return True

    def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes, all that is left if it is negative."""
        while (n < 0 or len(self._ready) < n) and self._more():
            pass
        return self._take(len(self._ready) if n < 0 else n)

    def readline(self, n: int = -1) -> bytes:
        """A line, at most ``n`` bytes of it if it is not negative."""
        while (end := self._ready.find(b"\n")) < 0 and not 0 <= n <= len(self._ready) and self._more():
            pass
        end = end + 1 if end >= 0 else len(self._ready)
        return self._take(end if n < 0 else min(n, end))

    def _take(self, n: int) -> bytes:
        data = bytes(self._ready[:n])
        del self._ready[:n]
        return data


class Head(NamedTuple):
    """Status and headers as they went out."""

    status: int
    reason: str
    headers: List[Tuple[str, str]]


class Output:
    """An answer on its way: kept until it is flushed or long enough, filtered, sent."""

    def __init__(
        self, call: Callable[[Filter], None], head: Callable[[Any], Head], leaves_after: Optional[int]
    ) -> None:
        self.chain = Chain(call, self._send)
        self._make_head = head
        self._leaves_after = leaves_after
        self._buffer = bytearray()
        #: The request that answers: the last one of a chain of redirects that has written something.
        self.owner: Any = None
        self.head: Optional[Head] = None
        self.body = bytearray()

    @property
    def queued(self) -> int:
        """How many bytes wait for a flush."""
        return len(self._buffer)

    @property
    def begun(self) -> bool:
        """Whether something was written."""
        return self.head is not None or bool(self._buffer)

    def write(self, req: Any, data: Any, flush: bool) -> None:
        """Takes a piece of the answer."""
        self.owner = req
        data = body_bytes(data)
        self._check(req)
        self._buffer += data
        if flush or len(self._buffer) > BLOCK:
            self._pass(False)

    def flush(self, req: Any) -> None:
        """Sends what was written."""
        self.owner = req
        self._check(req)
        self._pass(False)
        if self.head is None:
            self.head = self._make_head(req)

    def end(self, req: Any) -> None:
        """The answer is complete."""
        self.owner = req
        self._pass(True)
        if self.head is None:
            self.head = self._make_head(req)
        req._values["eos_sent"] = 1

    def _pass(self, ends: bool) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        if data or ends:
            self.chain.push(data, ends)

    def _send(self, data: bytes, ends: bool) -> None:
        if data:
            if self.head is None:
                self.head = self._make_head(self.owner)
            self.body += data
            self.owner._values.update(sent_bodyct=1, bytes_sent=len(self.body))

    def _check(self, req: Any) -> None:
        if self._leaves_after is not None and len(self.body) >= self._leaves_after:
            req.connection.aborted = 1
            raise OSError("Write failed, client closed connection.")


def open_part(path: str, offset: int, length: int) -> bytes:
    """A part of a file, for ``sendfile``."""
    if not isinstance(path, str):
        raise TypeError(f"argument 1 must be str, not {type(path).__name__}")
    if offset < 0:
        raise ValueError("the offset of sendfile is negative")
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise OSError(error.errno, "Could not stat file for reading", path) from None
    if not regular:
        raise OSError(f"Not a regular file: {path}")
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length) if length >= 0 else file.read()
    except OSError as error:
        raise OSError(error.errno, "Could not open file for reading", path) from None
