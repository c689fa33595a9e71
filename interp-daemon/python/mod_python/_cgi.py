"""What ``mod_python.apache`` offers for running CGI scripts in the worker."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from mod_python._constants import HTTP_MOVED_TEMPORARILY, HTTP_OK


def build_cgi_env(req: Any) -> Any:
    """The CGI variables of a request as a table; ``Authorization`` is among them."""
    req.add_cgi_vars()
    env = req.subprocess_env.copy()
    authorization = req.headers_in.get("authorization")
    if authorization is not None:
        env["HTTP_AUTHORIZATION"] = authorization
    env["GATEWAY_INTERFACE"] = "Python-CGI/1.1"
    return env


def setup_cgi(req: Any) -> Tuple[Dict[str, str], Any, Any]:
    """Makes ``os.environ``, ``sys.stdin`` and ``sys.stdout`` those of a CGI script; gives what they were.

    They belong to the process: one request at a time may do so.
    """
    before = (dict(os.environ), sys.stdin, sys.stdout)
    env = build_cgi_env(req)
    os.environ.update({k: v for k, v in env.items() if v is not None})
    stdin: Any = CGIStdin(req)
    stdout: Any = CGIStdout(req)
    sys.stdin, sys.stdout = stdin, stdout
    return before


def restore_nocgi(env: Dict[str, str], stdin: Any, stdout: Any) -> None:
    """Undoes :func:`setup_cgi`."""
    for name in [name for name in os.environ if name not in env]:
        del os.environ[name]
    os.environ.update(env)
    sys.stdin = stdin
    sys.stdout = stdout


class NullIO:
    """A file that has nothing and takes everything."""

    def tell(self) -> int:
        """Always 0."""
        return 0

    def read(self, n: int = -1) -> str:
        """Nothing."""
        return ""

    def readline(self, length: Optional[int] = None) -> str:
        """Nothing."""
        return ""

    def readlines(self) -> List[str]:
        """Nothing."""
        return []

    def write(self, s: Any) -> None:
        """Into the void."""

    def writelines(self, list: Iterable[Any]) -> None:  # noqa: A002 (mod_python's name)
        """Writes every item."""
        for item in list:
            self.write(item)

    def isatty(self) -> int:
        """It is not."""
        return 0

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """There is nothing to close."""

    def detach(self) -> None:
        """There is nothing to detach."""

    def seek(self, pos: int, mode: int = 0) -> None:
        """There is nowhere to go."""


class _Text(NullIO):
    """What the two have in common with the text files that Python makes of a program's standard streams."""

    encoding = "utf-8"
    errors = "surrogateescape"
    newlines = None
    line_buffering = False
    write_through = True
    closed = False

    def fileno(self) -> int:
        """There is no descriptor behind it."""
        raise io.UnsupportedOperation("fileno: the stream is a request of httpd's")

    def readable(self) -> bool:
        """Whether it can be read."""
        return False

    def writable(self) -> bool:
        """Whether it can be written."""
        return False

    def seekable(self) -> bool:
        """There is nowhere to go."""
        return False

    def reconfigure(self, **settings: Any) -> None:
        """Accepted and ignored: text is UTF-8."""


class CGIStdin(_Text):
    """The request's body as a text file (UTF-8, other bytes as surrogates). ``buffer`` has the bytes."""

    mode = "r"
    name = "<stdin>"

    def __init__(self, req: Any) -> None:
        self._req = req
        self.buffer = _Body(req)

    def readable(self) -> bool:
        """It is there for that."""
        return True

    def read(self, n: Optional[int] = -1) -> str:
        """At most ``n`` bytes of the body, or all of it."""
        return _text(self._req.read(n) if n is not None and n >= 0 else self._req.read())

    def readline(self, n: Optional[int] = -1) -> str:
        """One line, at most ``n`` bytes of it."""
        return _text(self._req.readline(n) if n is not None and n >= 0 else self._req.readline())

    def readlines(self, hint: int = -1) -> List[str]:
        """All lines."""
        return [_text(line) for line in self._req.readlines()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.readline, "")


class _Body(io.RawIOBase):
    """``sys.stdin.buffer``."""

    def __init__(self, req: Any) -> None:
        self._req = req

    def readable(self) -> bool:
        return True

    def read(self, n: Optional[int] = -1) -> bytes:
        return self._req.read(-1 if n is None else n)  # type: ignore[no-any-return]

    def readall(self) -> bytes:
        return self.read()

    def read1(self, n: int = -1) -> bytes:
        """The same: it never gives less than it can."""
        return self.read(n)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readline(self, n: Optional[int] = -1) -> bytes:
        return self._req.readline(-1 if n is None else n)  # type: ignore[no-any-return]


class CGIStdout(_Text):
    """Takes a CGI script's output: headers up to the first empty line, then the body. ``buffer`` takes bytes."""

    mode = "w"
    name = "<stdout>"

    def __init__(self, req: Any) -> None:
        self._req = req
        self.buffer = _Sink(self)
        self._head: Optional[bytes] = b""
        self._sent = 0

    def write(self, s: Union[str, bytes]) -> None:
        """Writes text (as UTF-8) or bytes."""
        data = s.encode("utf-8", "surrogateescape") if isinstance(s, str) else bytes(s)
        if self._head is not None:
            self._head += data
            end, length = _end_of_head(self._head)
            if end < 0:
                return
            head, data = self._head[:end], self._head[end + length :]
            self._head = None
            self._headers(head.decode("latin-1"))
        if data:
            self._req.write(data, 0)
            self._sent += len(data)

    def writable(self) -> bool:
        """It is there for that."""
        return True

    def flush(self) -> None:
        """Sends what was written of the body."""
        if self._head is None:
            self._req.flush()

    @property
    def begun(self) -> bool:
        """Whether the headers are complete."""
        return self._head is None

    def tell(self) -> int:
        """How many bytes of the body were written."""
        return self._sent

    def _headers(self, head: str) -> None:
        req = self._req
        has_status = False
        for line in head.splitlines():
            name, colon, value = line.partition(":")
            name, value = name.strip(), value.strip()
            if not colon or not name:
                continue
            key = name.lower()
            if key == "status":
                code = value.partition(" ")[0]
                if code.isdigit():
                    req.status, has_status = int(code), True
                    if len(value) > len(code):
                        req.status_line = value
            elif key == "content-type":
                req.content_type = value
            elif key == "content-length":
                req.headers_out["Content-Length"] = value
            else:
                if key == "location" and not has_status and req.status == HTTP_OK:
                    req.status = HTTP_MOVED_TEMPORARILY
                req.headers_out.add(name, value)


class _Sink(io.RawIOBase):
    """``sys.stdout.buffer``."""

    def __init__(self, out: CGIStdout) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._out.write(data)
        return len(data)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        """Stays open: what wraps it may come and go."""


def _end_of_head(head: bytes) -> Tuple[int, int]:
    """Where the head ends, and how long the mark of its end is; -1 if it has not ended."""
    if head.startswith(b"\r\n"):
        return 0, 2
    if head.startswith(b"\n"):
        return 0, 1
    marks = [(head.find(mark), len(mark)) for mark in (b"\n\n", b"\n\r\n")]
    found = [(at, length) for at, length in marks if at >= 0]
    return min(found) if found else (-1, 0)


def _text(data: Any) -> str:
    return data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else str(data)
