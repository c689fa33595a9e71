"""A stand-in for the extension ``_vivarium``, in plain Python: just what the package asks of it."""

from __future__ import annotations

import sys
from typing import Any, Dict, Iterable, List, Optional, Tuple

from mod_python import _table

#: What was logged: (level, text).
logged: List[Tuple[int, str]] = []
#: What ``set_dispatcher`` was given.
dispatcher: Any = None
#: What ``op`` answers: name -> value.
answers: Dict[str, Any] = {}
#: The request that ``current_request`` gives.
current: Any = None
#: What ``register_cleanup`` was given.
at_end: List[Tuple[Any, Any]] = []


class SERVER_RETURN(Exception):
    """mod_python's exception."""


SERVER_RETURN.__module__ = "_apache"


class table(_table.table):
    """A table that takes any text, as httpd's do from clients: it is kept as UTF-8."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)


table.__name__ = table.__qualname__ = "mp_table"
table.__module__ = "builtins"


def set_dispatcher(obj: Any) -> None:
    global dispatcher
    dispatcher = obj


def log(text: str, level: int = 3, server_no: Optional[int] = None) -> None:
    logged.append((level, text))


def op(name: str, number: int = 0, text: bytes = b"") -> Any:
    value = answers[name]
    return value(number, text) if callable(value) else value


def current_request() -> Any:
    return current


def main_server() -> Any:
    return answers["main_server"]


def register_cleanup(callable: Any, data: Any = None) -> None:
    at_end.append((callable, data))


class mp_hlist:
    """The running handlers."""

    def __init__(self, handlers: List[Tuple[str, Optional[str], bool, bool]]) -> None:
        self._handlers = handlers
        self._at = 0

    def _part(self, n: int) -> Any:
        return self._handlers[self._at][n] if self._at < len(self._handlers) else None

    handler = property(lambda self: self._part(0))
    directory = property(lambda self: self._part(1))
    silent = property(lambda self: None if self._part(2) is None else int(self._part(2)))
    is_location = property(lambda self: None if self._part(3) is None else int(self._part(3)))

    def next(self) -> None:
        self._at = min(self._at + 1, len(self._handlers))


class Server:
    """An ``mp_server``."""

    def __init__(self, config: Optional[Dict[str, str]] = None) -> None:
        self.config = table(config or {})
        self.options = table()
        self.lines: List[Tuple[int, str]] = []

    def log_error(self, text: str, level: int = 3) -> None:
        self.lines.append((level, text))

    def get_config(self) -> table:
        return self.config

    def get_options(self) -> table:
        return self.options


mp_server = Server


class Connection:
    """An ``mp_conn``."""

    def __init__(self, config: Optional[Dict[str, str]] = None) -> None:
        self.base_server = Server(config)
        self.lines: List[Tuple[int, str]] = []
        self.hlist: Any = None

    def log_error(self, text: str, level: int = 3) -> None:
        self.lines.append((level, text))


class Request:
    """An ``mp_request``."""

    def __init__(self, config: Optional[Dict[str, str]] = None, config_id: int = 0) -> None:
        self.config = table(config or {})
        self._config_id = config_id
        #: How often the configuration was read.
        self.config_reads = 0
        self.lines: List[Tuple[int, str]] = []
        self.body = b""
        self.status = 200
        self.status_line: Optional[str] = None
        self.content_type: Optional[str] = None
        self.headers_in = table()
        self.headers_out = table()
        self.subprocess_env = table()
        self.hlist: Any = None
        self.phase: Optional[str] = None
        self.interpreter = "example.com"
        self.ran: List[Any] = []
        self.added: Dict[str, List[Any]] = {}
        self.input = b""
        #: Raised by the next writes.
        self.write_error: Optional[BaseException] = None
        self.allowed: List[str] = []

    def get_config(self) -> table:
        self.config_reads += 1
        return self.config

    def log_error(self, text: str, level: int = 3) -> None:
        if "\0" in text:
            raise ValueError("embedded null character")
        text.encode("utf-8")
        self.lines.append((level, text))

    def write(self, data: Any, flush: int = 1) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.body += data.encode("utf-8") if isinstance(data, str) else data

    def flush(self) -> None:
        pass

    def read(self, n: int = -1) -> bytes:
        n = len(self.input) if n < 0 else n
        data, self.input = self.input[:n], self.input[n:]
        return data

    def readline(self, n: int = -1) -> bytes:
        end = self.input.find(b"\n") + 1 or len(self.input)
        return self.read(end if n < 0 else min(end, n))

    def readlines(self) -> List[bytes]:
        return self.read().splitlines(keepends=True)

    def add_handler(self, phase: str, handler: str, directory: Optional[str] = None) -> None:
        added = (handler, directory, False, False)
        if phase == self.phase:
            self.hlist._handlers.append(added)
        else:
            self.added.setdefault(phase, []).append(added)

    def add_cgi_vars(self) -> None:
        self.subprocess_env["GATEWAY_INTERFACE"] = "CGI/1.1"

    def allow_methods(self, methods: List[str]) -> None:
        self.allowed += methods


class Filter:
    """An ``mp_filter``."""

    def __init__(self, req: Request, name: str = "upper", is_input: int = 0) -> None:
        self.req = req
        self.name = name
        self.is_input = is_input
        self.closed = 0
        #: What was done, in order.
        self.done: List[Any] = []
        self.flush_error: Optional[BaseException] = None

    def write(self, data: Any) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed filter")
        self.done.append(data if isinstance(data, bytes) else data.encode("utf-8"))

    def flush(self) -> None:
        if self.flush_error is not None:
            raise self.flush_error
        self.done.append("flush")

    def close(self) -> None:
        self.done.append("close")
        self.closed = 1

    def disable(self) -> None:
        self.done.append("disable")


def run(dispatcher: Any, req: Request, phase: str, handlers: Iterable[Any], debug: bool = False) -> int:
    """Runs a phase of a request as the extension does."""
    running = [*handlers, *req.added.pop(phase, [])]
    before = (req.phase, req.hlist)
    req.phase, req.hlist = phase, mp_hlist(running)
    try:
        result = dispatcher.handler(req, phase, running, debug)
    finally:
        req.phase, req.hlist = before
    assert result.__class__ is int
    assert -0x80000000 <= result <= 0x7FFFFFFF
    return result  # type: ignore[no-any-return]


def install() -> None:
    """Makes this module the extension."""
    sys.modules["_vivarium"] = sys.modules[__name__]
