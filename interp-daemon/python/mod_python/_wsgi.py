"""WSGI (PEP 3333) on a request: the environment, ``start_response``, the answer.

:func:`build_env` and :func:`start_response` are what ``req.build_wsgi_env()`` and ``req.wsgi_start_response()`` do, for
programs that call an application themselves. :class:`Response` is the whole of the protocol, for the handler
:mod:`mod_python.wsgi`.

Every question to httpd costs a way through shared memory and back, so this module asks as little as it can: what the
request brought with it is read before ``add_cgi_vars``, which has httpd fill in the rest.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import unquote_to_bytes

from mod_python._constants import APLOG_WARNING
from mod_python._wsgifile import FileWrapper, place_of

#: Status and headers as an application gives them.
Headers = List[Tuple[str, str]]

_BASE = "mod_python.wsgi.base_uri"
#: A header's name, a zero byte, its value: no line breaks, nothing that Latin-1 does not have.
_HEADER = re.compile("[!#$%&'*+\\-.^_`|~0-9A-Za-z]+\0[\t\x20-\x7e\x80-\xff]*").fullmatch
_STATUS = re.compile("[1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?").fullmatch
#: Headers of the connection, which is httpd's: PEP 3333 forbids them to applications.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade")
)  # fmt: skip
#: Answers without a body.
_BARE = frozenset((204, 304))
#: A body that is known as a whole gets a Content-Length of ours from this size on; shorter ones go to httpd in one
#: piece, which counts them itself.
_COUNTED = 8192


# --- the environment -------------------------------------------------------------------------------------------------


def build_env(req: Any) -> Optional[Dict[str, Any]]:
    """A WSGI environment for the request; ``None`` if its URI is not below the application's.

    The application's URI is ``PythonOption mod_python.wsgi.base_uri``, else the path of the ``<Location>``, else the
    server's root.
    """
    return environment(req, req.get_options().get(_BASE))


def environment(req: Any, base: Optional[str]) -> Optional[Dict[str, Any]]:
    """The same with what is known already: the value of the option."""
    place = _place(req, base)
    # A request of httpd's makes it from the bytes that came; one for tests has only their reading.
    make = getattr(req, "_wsgi_environ", None)
    env: Optional[Dict[str, Any]] = make(place) if make is not None else _variables(req, place)
    if env is None:
        return None
    if env.get("HTTPS", "").lower() in ("on", "1"):
        env["wsgi.url_scheme"] = "https"
    else:
        env["wsgi.url_scheme"] = env.get("REQUEST_SCHEME") or ("https" if req.is_https() else "http")
    env["wsgi.version"] = (1, 0)
    env["wsgi.input"] = req
    env["wsgi.errors"] = sys.stderr
    # Whatever httpd's process model is: a pool has several workers, and they several threads.
    env["wsgi.multithread"] = True
    env["wsgi.multiprocess"] = True
    return env


def complete(req: Any, env: Dict[str, Any]) -> None:
    """Adds what PEP 3333 asks for beyond that, and ours."""
    env["wsgi.input"] = Input(req)
    env["wsgi.run_once"] = False
    # A body sent in chunks has no CONTENT_LENGTH: applications may read it to its end.
    env["wsgi.input_terminated"] = True
    env["wsgi.file_wrapper"] = FileWrapper
    env["REQUEST_URI"] = req.unparsed_uri
    env["mod_python.request"] = req


def _place(req: Any, base: Optional[str]) -> str:
    """The path below which the application lives."""
    if base:
        if base.endswith("/"):
            raise ValueError(f"PythonOption '{_BASE}' ('{base}') must not end with '/'")
        return base
    walk = req.hlist
    place = walk.directory if walk is not None and walk.is_location else None
    return (place or "").rstrip("/")


def _variables(req: Any, base: str) -> Optional[Dict[str, Any]]:
    """What ``_wsgi_environ`` of httpd's requests gives, by what every request has."""
    uri = req.uri or ""
    if not (uri.startswith("/") and uri.startswith(base) and uri[len(base) : len(base) + 1] in ("/", "")):
        return None
    authorization = req.headers_in.get("authorization")
    req.add_cgi_vars()
    env: Dict[str, Any] = dict(req.subprocess_env.items())
    if authorization is not None:
        env["HTTP_AUTHORIZATION"] = authorization
    # httpd has put the chunks together: an application that looks for them would find none.
    env.pop("HTTP_TRANSFER_ENCODING", None)
    env["SCRIPT_NAME"] = base
    env["PATH_INFO"] = uri[len(base) :]
    if not "".join(env.values()).isascii():
        _as_bytes(req, env)
    return env


def _as_bytes(req: Any, env: Dict[str, str]) -> None:
    """Gives every value the form that PEP 3333 wants: a character for each byte.

    The request's texts are UTF-8 read as such, or, if they were not UTF-8, as Latin-1. Which of the two the path was
    is seen in the URI as it was sent; of other values UTF-8 is assumed.
    """
    sent = (req.unparsed_uri or "").partition("?")[0]
    try:
        unquote_to_bytes(sent.encode("latin-1", "replace")).decode("utf-8")
        latin = False
    except UnicodeDecodeError:
        latin = True
    paths = ("PATH_INFO", "SCRIPT_NAME", "REQUEST_URI") if latin else ()
    for name, value in env.items():
        if not value.isascii() and name not in paths:
            env[name] = value.encode("utf-8", "surrogateescape").decode("latin-1")


# --- what an application gives ---------------------------------------------------------------------------------------

#: Status texts that have been looked at: their numbers. Applications use few.
_codes: Dict[str, int] = {}


def _code(status: Any) -> int:
    """The number of a status text such as ``404 Not Found``."""
    if not isinstance(status, str):
        raise TypeError(f"wsgi_start_response() argument 1 must be str, not {type(status).__name__}")
    if _STATUS(status) is None:
        raise ValueError(f"not a status: {status!r}")
    code = int(status[:3])
    if len(_codes) < 256:
        _codes[status] = code
    return code


def _check(headers: Any) -> None:
    """Refuses what no header may be, before anything is done."""
    if not isinstance(headers, list):
        raise TypeError(f"headers argument must be a list, not a '{type(headers).__name__}'")
    for header in headers:
        name, value = header
        try:
            right = _HEADER(name + "\0" + value) is not None
        except TypeError:
            right = False
        if not right:
            _complain(name, value)
        if name.lower() in _HOP_BY_HOP:
            raise ValueError(f"the header {name} belongs to the connection: an application must not set it")


def _complain(name: Any, value: Any) -> None:
    for what, text in (("names", name), ("values", value)):
        if not isinstance(text, str):
            raise TypeError(f"header {what} must be strings, not '{type(text).__name__}'")
    if "\n" in value or "\r" in value:
        raise ValueError(f"a line break in the header {name!r}")
    raise ValueError(f"not a header: {name!r}: {value!r}")


def _apply(req: Any, status: str, code: int, headers: Headers) -> Optional[int]:
    """Makes status and headers the request's; gives the Content-Length among them."""
    length = None
    out = None
    for name, value in headers:
        key = name.lower()
        if key == "content-type":
            req.content_type = value
            continue
        if out is None:
            out = req.headers_out
            if len(out):
                # What earlier phases have set gives way, name by name.
                for other in {name.lower() for name, _ in headers}:
                    del out[other]
        if key == "content-length":
            if not (value.isascii() and value.isdigit()):
                raise ValueError(f"not a Content-Length: {value!r}")
            length = int(value)
            out[name] = value
        else:
            out.add(name, value)
    req.status = code
    # httpd makes the status line from the number, unless there is one of the same number.
    if len(status) > 4 and status != "200 OK":
        req.status_line = status
    return length


def start_response(req: Any, status: Any, headers: Any, exc_info: Any = None) -> Callable[..., None]:
    """WSGI's ``start_response`` as ``req.wsgi_start_response()`` offers it: acts at once; gives ``req.write``."""
    code = _code(status)
    _check(headers)
    if exc_info is not None:
        try:
            if req.sent_bodyct:
                raise exc_info[1].with_traceback(exc_info[2])
        finally:
            exc_info = None
    _apply(req, status, code, headers)
    return req.write  # type: ignore[no-any-return]


# --- the request's body ----------------------------------------------------------------------------------------------


class Input:
    """``wsgi.input``: the request's body as a file of bytes."""

    __slots__ = ("_req",)

    def __init__(self, req: Any) -> None:
        self._req = req

    def read(self, size: Optional[int] = -1) -> bytes:
        """At most ``size`` bytes, all that is left without one; ``b""`` at the end."""
        return self._req.read(-1 if size is None else size)  # type: ignore[no-any-return]

    def readline(self, size: Optional[int] = -1) -> bytes:
        """A line with its end, at most ``size`` bytes of it."""
        return self._req.readline(-1 if size is None else size)  # type: ignore[no-any-return]

    def readlines(self, hint: Optional[int] = -1) -> List[bytes]:
        """The lines that are left; no further ones once ``hint`` bytes were read."""
        lines: List[bytes] = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._req.readline, b"")


# --- the answer ------------------------------------------------------------------------------------------------------


class Response:
    """One run of an application: ``start_response``, ``write``, and the sending of what it returns."""

    __slots__ = ("_bare", "_code", "_headers", "_left", "_req", "_status", "begun", "gone")

    def __init__(self, req: Any) -> None:
        self._req = req
        self._status = ""
        self._code = 0
        self._headers: Headers = []
        #: How much more the Content-Length allows; ``None`` without one.
        self._left: Optional[int] = None
        #: The answer has no body whatever the application gives: HEAD, 204, 304.
        self._bare = False
        #: The error by which the client's end was met: nobody's fault, and nothing is left to do.
        self.gone: Optional[BaseException] = None
        #: Status and headers are the request's, and cannot be taken back.
        self.begun = False

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """``start_response``: takes status and headers; they are used when the first piece of the body is there."""
        if exc_info is not None:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._code:
            raise AssertionError("start_response() was called before, and without exc_info it may be called only once")
        code = _codes.get(status) if status.__class__ is str else None
        if code is None:
            code = _code(status)
        _check(headers)
        self._status, self._code, self._headers = status, code, headers
        return self.write

    def write(self, data: bytes) -> None:
        """The ``write`` that ``start_response`` returns: sends the data at once."""
        if not self._send(data, 1):
            raise AssertionError("more was written than the Content-Length says")

    @property
    def short(self) -> bool:
        """Whether less was sent than a Content-Length has announced."""
        return bool(self._left) and not self._bare

    def send(self, result: Any) -> None:
        """Sends what the application has returned, and begins the answer if that is nothing."""
        kind = result.__class__
        if kind is list or kind is tuple:
            self._all(result)
        elif kind is FileWrapper:
            self._file(result)
        else:
            self._each(result)
        if not self.begun:
            self._begin(0)

    # A list goes out as a whole: httpd sees its end together with its last piece.
    def _all(self, result: Any) -> None:
        if not self.begun and len(result) == 1:
            self._begin(len(result[0]))
        elif not self.begun and result:
            self._begin(sum(map(len, result)))
        for data in result:
            if not self._send(data, 0):
                return self._too_much()
        return None

    # Of anything else each piece goes out at once, except the one that completes the Content-Length.
    def _each(self, result: Any) -> None:
        for data in result:
            if data:
                if not self._send(data, 1):
                    return self._too_much()
                if self._bare:
                    return None
        return None

    def _file(self, wrapper: FileWrapper) -> None:
        place = place_of(wrapper.filelike)
        if place is None:
            return self._each(wrapper)
        path, offset, size = place
        if not self.begun:
            self._begin(size, counted=0)
        count = size if self._left is None else min(size, self._left)
        if self._bare or not count:
            return None
        try:
            sent = self._req.sendfile(path, offset, count)
        except OSError as error:
            if error.filename is None:
                self.gone = error
                raise
            # The file cannot be opened by that name: it is read instead.
            return self._each(wrapper)
        if self._left is not None:
            self._left -= sent
        return None

    def _begin(self, size: int, counted: int = _COUNTED) -> None:
        """Hands status and headers over; ``size`` is that of the whole body as far as it is known."""
        if not self._code:
            raise AssertionError("the application has not called start_response()")
        req = self._req
        self._bare = self._code in _BARE or bool(req.header_only)
        length = _apply(req, self._status, self._code, self._headers)
        if length is None and size and (size > counted or req.header_only) and self._code not in _BARE:
            req.headers_out["Content-Length"] = str(size)
            length = size
        self._left = length
        self.begun = True

    def _send(self, data: Any, flush: int) -> bool:
        """Sends a piece; false if it is more than the Content-Length allows, of which only the allowed part is sent."""
        if data.__class__ is not bytes:
            data = _bytes(data)
        if not data:
            return True
        if not self.begun:
            self._begin(0)
        if self._bare:
            return True
        right = True
        left = self._left
        if left is not None:
            if len(data) >= left:
                flush = 0
                right = len(data) == left
                data = data[:left]
            self._left = left - len(data)
        try:
            if data:
                self._req.write(data, flush)
        except OSError as error:
            self.gone = error
            raise
        return right

    def _too_much(self) -> None:
        self._req.log_error(
            "mod_python.wsgi: more body than the Content-Length says: the rest is not sent", APLOG_WARNING
        )


def _bytes(data: Any) -> bytes:
    """A piece of a body as bytes: text is taken too, as mod_python does, and is sent as UTF-8."""
    if isinstance(data, str):
        return data.encode("utf-8")
    if isinstance(data, bytes):
        return bytes(data)
    raise TypeError(f"a WSGI application gives bytes, not {type(data).__name__}")
