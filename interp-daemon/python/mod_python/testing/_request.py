"""The request double: ``mp_request`` with the client in httpd's place."""

from __future__ import annotations

import base64
import binascii
import os
import time
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import quote

from mod_python import _table
from mod_python._constants import HTTP_NOT_MODIFIED, HTTP_PRECONDITION_FAILED, OK, REMOTE_HOST, REMOTE_NOLOOKUP
from mod_python._constants import M_INVALID as _INVALID
from mod_python.testing import _fields
from mod_python.testing._io import Body, Output, open_part
from mod_python.testing._objects import HandlerList, Item, log_line

#: The phases that handlers can be added to.
ADDABLE = (
    "PythonPostReadRequestHandler", "PythonTransHandler", "PythonInitHandler", "PythonHeaderParserHandler",
    "PythonAccessHandler", "PythonAuthenHandler", "PythonAuthzHandler", "PythonTypeHandler", "PythonFixupHandler",
    "PythonHandler", "PythonLogHandler",
)  # fmt: skip


class Request:
    """``mp_request``. Any attribute that is not httpd's may be set, and is there for all phases."""

    def __init__(
        self, exchange: Any, values: Dict[str, Any], headers_in: _table.table, body: Body, output: Output
    ) -> None:
        self._exchange = exchange
        self._values = {**_fields.defaults(), **values}
        self._type_set = 0
        self._body = body
        self._output = output
        self._added: Dict[str, List[Item]] = {}
        self._registered: Dict[Tuple[str, bool], Tuple[str, Optional[str]]] = {}
        self._phase: Optional[str] = None
        self._running: List[Item] = []
        self._hlist: Optional[HandlerList] = None
        self._extension = ""
        self._prev: Optional[Request] = None
        self._next: Optional[Request] = None
        self._headers_in = headers_in
        self._headers_out = _table.table()
        self._err_headers_out = _table.table()
        self._subprocess_env = _table.table(exchange.client.environ)
        self._notes = _table.table()
        self._config = _table.table(exchange.section.config)
        self._options = _table.table(exchange.section.options)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The attributes of ``_fields``, and whatever programs set."""

    # --- objects

    connection = property(lambda self: self._exchange.connection, doc="The client's connection.")
    server = property(lambda self: self._exchange.client.server, doc="The virtual host.")
    prev = property(lambda self: self._prev, doc="The request that was redirected to this one.")
    next = property(lambda self: self._next, doc="The request that this one was redirected to.")
    main = property(lambda self: None, doc="The main request: there are no sub-requests here.")
    headers_in = property(lambda self: self._headers_in, doc="The headers that the client sent.")
    headers_out = property(lambda self: self._headers_out, doc="The headers of an answer that is no error.")
    err_headers_out = property(lambda self: self._err_headers_out, doc="The headers of every answer.")
    subprocess_env = property(lambda self: self._subprocess_env, doc="Variables for CGI scripts.")
    notes = property(lambda self: self._notes, doc="Notes between modules.")
    phase = property(lambda self: self._phase, doc="The directive of the phase that runs.")
    extension = property(lambda self: self._extension, doc="The extension that the handler was chosen by.")
    interpreter = property(lambda self: self._exchange.client.interpreter, doc="The interpreter's name.")
    hlist = property(lambda self: self._hlist, doc="The handler that runs and those that follow.")
    _config_id = property(lambda self: self._exchange.section.number)
    _content_type_set = property(lambda self: self._type_set)
    _bytes_queued = property(lambda self: self._output.queued)

    def get_config(self) -> _table.table:
        """The Python directives that hold for the request."""
        return self._config

    def get_options(self) -> _table.table:
        """The ``PythonOption``s that hold for the request."""
        return self._options

    def add_handler(self, phase: str, handler: str, directory: Optional[str] = None) -> None:
        """Adds a handler to a phase: to the running list if it is this phase, else after the configured ones."""
        for place, value in ((1, phase), (2, handler)):
            if not isinstance(value, str):
                raise TypeError(f"argument {place} must be str, not {type(value).__name__}")
        if phase not in ADDABLE:
            raise IndexError(f"Invalid phase: {phase}")
        if directory is not None:
            directory = os.path.join(os.path.abspath(directory), "")
        added = (handler, directory, False, False)
        if phase == self._phase:
            self._running.append(added)
        else:
            self._added.setdefault(phase, []).append(added)

    # --- the bodies

    def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes of the body, all that is left without it; ``b""`` at the end."""
        return self._count(self._body.read(n))

    def readline(self, n: int = -1) -> bytes:
        """A line of the body, at most ``n`` bytes of it."""
        return self._count(self._body.readline(n))

    def readlines(self, hint: int = -1) -> List[bytes]:
        """The lines of the body, until their length reaches the hint."""
        lines: List[bytes] = []
        size = 0
        line = self.readline()
        while line:
            lines.append(line)
            size += len(line)
            if 0 <= hint <= size:
                break
            line = self.readline(hint)
        return lines

    def _count(self, data: bytes) -> bytes:
        self._values["read_length"] += len(data)
        self._values["remaining"] = max(0, self._values["remaining"] - len(data))
        return data

    def discard_request_body(self) -> int:
        """Reads the body and throws it away."""
        self.read()
        return OK

    def write(self, data: Any, flush: int = 1, /) -> None:
        """Writes text (as UTF-8) or bytes to the client."""
        self._output.write(self, data, bool(flush))

    def flush(self) -> None:
        """Sends what was written so far."""
        self._output.flush(self)

    def sendfile(self, path: str, offset: int = 0, len: int = -1, /) -> int:  # noqa: A002 (mod_python's name)
        """Sends a file, from ``offset`` on, ``len`` bytes of it; gives how many bytes were sent."""
        data = open_part(path, offset, len)
        self._output.write(self, data, False)
        return _size(data)

    def send_http_header(self) -> None:
        """Does nothing: headers are sent with the first part of the body."""

    # --- doing things

    def log_error(self, message: Optional[str], level: Optional[int] = None) -> None:
        """Writes a line to the error log: ``response.log``."""
        log_line(self._exchange.log, message, level)

    def internal_redirect(self, uri: str) -> None:
        """Runs another URI of the client's in place of this one; returns when it is done."""
        if not isinstance(uri, str):
            raise TypeError(f"argument 1 must be str, not {type(uri).__name__}")
        self._exchange.redirect(self, uri)

    def register_cleanup(self, callback: Callable[..., Any], data: Any = None) -> None:
        """Calls ``callback(data)`` when the request is over."""
        if not callable(callback):
            raise ValueError("first argument must be a callable object")
        self._exchange.cleanups.append((self, callback, data))

    def add_output_filter(self, name: str) -> None:
        """Puts a registered output filter on the request."""
        self._exchange.add_filter(self, name, False)

    def add_input_filter(self, name: str) -> None:
        """Puts a registered input filter on the request."""
        self._exchange.add_filter(self, name, True)

    def register_output_filter(self, name: str, handler: str, directory: Optional[str] = None) -> None:
        """Makes an output filter known to the request."""
        self._registered[name.lower(), False] = (handler, directory)

    def register_input_filter(self, name: str, handler: str, directory: Optional[str] = None) -> None:
        """Makes an input filter known to the request."""
        self._registered[name.lower(), True] = (handler, directory)

    def add_common_vars(self) -> None:
        """Puts the common variables into ``subprocess_env``."""
        self._exchange.add_vars(self, False)

    def add_cgi_vars(self) -> None:
        """Puts the CGI variables into ``subprocess_env``."""
        self._exchange.add_vars(self, True)

    def build_wsgi_env(self) -> Optional[Dict[str, Any]]:
        """A WSGI environment for the request; ``None`` if its URI is not below ``mod_python.wsgi.base_uri``."""
        from mod_python import _wsgi

        return _wsgi.build_env(self)

    def wsgi_start_response(self, status: str, headers: List[Tuple[str, str]], exc_info: Any = None) -> Any:
        """WSGI's ``start_response``; gives ``write``."""
        from mod_python import _wsgi

        return _wsgi.start_response(self, status, headers, exc_info)

    def allow_methods(self, methods: Any, reset: int = 0) -> None:
        """Adds methods to the ``Allow`` header; with ``reset`` they are the only ones."""
        from mod_python import apache

        if not hasattr(methods, "__getitem__"):
            raise TypeError("First argument must be a sequence")
        numbers = {name: number for number, name in apache._METHODS.items()}
        if reset:
            self._values.update(allowed=0, allowed_xmethods=(), allowed_methods=())
        for method in [_table.latin1(method) for method in methods]:
            number = numbers.get(method, _INVALID)
            if number != _INVALID:
                self._values["allowed"] |= 1 << number
            elif method not in self._values["allowed_xmethods"]:
                self._values["allowed_xmethods"] += (method,)
            if method not in self._values["allowed_methods"]:
                self._values["allowed_methods"] += (method,)

    # --- asking

    def auth_name(self) -> Optional[str]:
        """``AuthName``."""
        return self._exchange.section.auth_name  # type: ignore[no-any-return]

    def auth_type(self) -> Optional[str]:
        """``AuthType``."""
        return self._exchange.section.auth_type  # type: ignore[no-any-return]

    def requires(self) -> Tuple[str, ...]:
        """The ``Require`` lines."""
        return tuple(self._exchange.section.require)

    def get_basic_auth_pw(self) -> Optional[str]:
        """The password that the client sent; sets ``user``."""
        kind, _, rest = self._headers_in.get("Authorization", "").partition(" ")
        if (self.auth_type() or "").lower() != "basic" or kind.lower() != "basic":
            return None
        try:
            user, colon, password = base64.b64decode(rest.strip(), validate=False).decode("latin-1").partition(":")
        except binascii.Error:
            return None
        if not colon:
            return None
        self._values.update(user=user, ap_auth_type="Basic")
        return password

    def construct_url(self, uri: str) -> str:
        """The full URL of a path on this server."""
        if not isinstance(uri, str):
            raise TypeError(f"argument 1 must be str, not {type(uri).__name__}")
        client = self._exchange.client
        usual = 443 if client.https else 80
        port = "" if client.port == usual else f":{client.port}"
        return f"{client.scheme}://{self._values['hostname']}{port}{uri}"

    def document_root(self) -> str:
        """``DocumentRoot``."""
        return self._exchange.client.document_root  # type: ignore[no-any-return]

    def get_addhandler_exts(self) -> str:
        """The extensions that ``AddHandler`` maps to the module, without dots, a space behind each."""
        return "".join(f"{extension.lstrip('.')} " for extension in self._exchange.client.extensions)

    def get_remote_host(self, kind: int = 1, str_is_ip: Any = None) -> Any:
        """The client's name, or its address; with a second argument ``(name, is_ip)``."""
        connection = self._exchange.connection
        name = None if kind == REMOTE_NOLOOKUP else connection.remote_host
        if name is None and kind == REMOTE_HOST:
            return None
        found = connection.client_ip if name is None else name
        return found if str_is_ip is None else (found, int(name is None))

    def is_https(self) -> int:
        """1 if the request came over TLS."""
        return int(self._exchange.client.https)

    def ssl_var_lookup(self, name: str) -> Optional[str]:
        """A variable of mod_ssl: what the client was given as ``ssl_vars``."""
        if not isinstance(name, str):
            raise TypeError(f"argument 1 must be str, not {type(name).__name__}")
        return self._exchange.client.ssl_vars.get(name)  # type: ignore[no-any-return]

    # --- conditions

    def set_content_length(self, length: int) -> None:
        """Sets ``Content-Length``."""
        self._values["clength"] = int(length)
        self._headers_out["Content-Length"] = str(int(length))

    def update_mtime(self, seconds: float) -> None:
        """Sets ``mtime`` if the given time is later."""
        self._values["mtime"] = max(self._values["mtime"], float(seconds))

    def set_last_modified(self) -> None:
        """Sets ``Last-Modified`` from ``mtime``, or from now."""
        moment = min(self._values["mtime"] or time.time(), time.time())
        self._headers_out["Last-Modified"] = formatdate(moment, usegmt=True)

    def set_etag(self) -> None:
        """Sets ``ETag`` from the file, if there is one."""
        found = self._values["finfo"]
        if found.size is not None:
            self._headers_out["ETag"] = f'"{found.size:x}-{int((found.mtime or 0) * 1e6):x}"'

    def meets_conditions(self) -> int:
        """Compares the request's conditions with the answer's ``ETag`` and ``Last-Modified``: a status, or ``OK``."""
        sent, out = self._headers_in, self._headers_out
        etag, safe = out.get("ETag"), self._values["method"] in ("GET", "HEAD")
        wanted = sent.get("If-Match")
        if wanted is not None and not _matches(wanted, etag):
            return HTTP_PRECONDITION_FAILED
        changed = _moment(out.get("Last-Modified")) or self._values["mtime"] or None
        limit = _moment(sent.get("If-Unmodified-Since"))
        if wanted is None and limit is not None and changed is not None and changed > limit:
            return HTTP_PRECONDITION_FAILED
        unwanted = sent.get("If-None-Match")
        if unwanted is not None:
            if not _matches(unwanted, etag):
                return OK
            return HTTP_NOT_MODIFIED if safe else HTTP_PRECONDITION_FAILED
        since = _moment(sent.get("If-Modified-Since"))
        if safe and since is not None and changed is not None and int(changed) <= since:
            return HTTP_NOT_MODIFIED
        return OK


def _size(data: bytes) -> int:
    return len(data)


Request.__name__ = Request.__qualname__ = "mp_request"
for _row in _fields.FIELDS:
    setattr(Request, _row[0], _fields.Field(*_row))


def _matches(wanted: str, etag: Optional[str]) -> bool:
    """Whether an ETag is among those of a header; weak ones compare like strong ones."""
    if wanted.strip() == "*":
        return etag is not None
    return etag is not None and _strong(etag) in [_strong(tag) for tag in wanted.split(",")]


def _strong(tag: str) -> str:
    tag = tag.strip()
    return tag[2:] if tag.startswith("W/") else tag


def _moment(header: Optional[str]) -> Optional[float]:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError):
        return None


def quoted(uri: str) -> str:
    """A decoded path as it would have been sent."""
    return quote(uri, safe="/;:@&=+$,-_.!~*'()")
