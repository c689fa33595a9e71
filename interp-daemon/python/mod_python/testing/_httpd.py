"""What the extension ``_vivarium`` is in a worker: the functions behind ``apache.log_error`` and their like.

It is in the extension's place only while a client runs something, on whatever thread; then what needs httpd raises
:class:`RuntimeError` again, as always outside a worker.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any, Callable, Iterator, List, Optional, Tuple

from mod_python import _apache
from mod_python._table import table as table
from mod_python.testing import _io, _objects
from mod_python.testing._objects import file_info
from mod_python.testing._request import Request

mp_request = Request
mp_server = _objects.Server
mp_conn = _objects.Connection
mp_finfo = _objects.FileInfo
mp_filter = _io.Filter
for _double in (mp_request, mp_server, mp_conn, mp_finfo, _objects.HandlerList):
    _double.__module__ = "builtins"

_lock = threading.Lock()
_users = 0
_before: Any = None
_local = threading.local()


def _stack() -> List[Tuple[Any, Any]]:
    found: List[Tuple[Any, Any]] = _local.__dict__.setdefault("stack", [])
    return found


@contextlib.contextmanager
def running(client: Any, req: Any = None) -> Iterator[None]:
    """While a client runs something on this thread, for a request or for none."""
    global _users, _before
    with _lock:
        if _users == 0:
            _before = _apache._vivarium
            if hasattr(_before, "serve"):
                raise RuntimeError("mod_python.testing is for tests: it does nothing in a worker")
            _apache._vivarium = sys.modules[__name__]
        _users += 1
    _stack().append((client, req))
    try:
        yield
    finally:
        _stack().pop()
        with _lock:
            _users -= 1
            if _users == 0:
                _apache._vivarium = _before


def _client() -> Any:
    stack = _stack()
    if not stack:
        raise RuntimeError("mod_python.testing: no request is running on this thread")
    return stack[-1][0]


def current_request() -> Any:
    """The request that this thread serves."""
    stack = _stack()
    return stack[-1][1] if stack else None


def main_server() -> Any:
    """The client's server."""
    return _client().server


def log(text: Optional[str], level: int = 3, server_no: Optional[int] = None) -> None:
    """A line for the error log."""
    _objects.log_line(_client().log_line, text, level)


def op(name: str, number: int = 0, text: bytes = b"") -> Any:
    """What ``apache.server_root`` and its like ask."""
    client = _client()
    if name == "server_root":
        return client.server_root
    if name == "exists_config_define":
        return int(text.decode() in client.defines)
    if name == "mpm_query":
        # As of the event MPM: threaded, forked, dynamic; one process and thread here.
        return {1: 4, 2: 1, 3: 1, 12: 1}.get(number, 1)
    raise ValueError(f"no such operation: {name}")


def config_tree() -> List[Any]:
    """The client's directives."""
    return list(_client().config_tree)


def register_cleanup(callback: Callable[..., Any], data: Any = None) -> None:
    """Has ``callback(data)`` called when the client is closed."""
    if not callable(callback):
        raise ValueError("first argument must be a callable object")
    _client().cleanups.append((None, callback, data))


def stat(name: str, wanted: int = 0) -> Any:
    """``apache.stat``."""
    if not isinstance(name, str):
        raise TypeError(f"argument 1 must be str, not {type(name).__name__}")
    return file_info(name, wanted)


def set_dispatcher(dispatcher: Any) -> None:
    """The client has one of its own."""
