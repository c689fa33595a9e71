"""One request, from the phases before its content to its clean-up, in httpd's order and with httpd's rules."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import sys
from http.client import responses
from typing import Any, Callable, List, Optional, Tuple
from urllib.parse import unquote_to_bytes

from mod_python import _dispatch, _providers, _table
from mod_python._constants import (
    APLOG_ERR,
    DECLINED,
    DONE,
    HTTP_BAD_REQUEST,
    HTTP_FORBIDDEN,
    HTTP_INTERNAL_SERVER_ERROR,
    HTTP_METHOD_NOT_ALLOWED,
    HTTP_NO_CONTENT,
    HTTP_NOT_FOUND,
    HTTP_NOT_MODIFIED,
    HTTP_OK,
    HTTP_UNAUTHORIZED,
    OK,
)
from mod_python.testing import _httpd
from mod_python.testing._io import Body, Filter, Head, Output
from mod_python.testing._objects import Connection, HandlerList, Item, LogLine, file_info
from mod_python.testing._request import Request, quoted
from mod_python.testing._section import Section

_MINE = ("mod_python", "python-program")
_CONTINUE = (OK, DECLINED)
_MOST_REDIRECTS = 10


class Dispatcher(_dispatch.Dispatcher):
    """The real dispatcher; it also keeps the errors that it meets, for who wants them raised."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: List[BaseException] = []

    def _failed(self, req: Any, phase: str, name: str, error: BaseException, debug: bool) -> int:
        self.errors.append(error)
        return super()._failed(req, phase, name, error, debug)

    def _disable(  # type: ignore[override]
        self,
        filter: Any,  # noqa: A002
        req: Any,
        title: str,
        parts: Optional[List[str]],
    ) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            self.errors.append(error)
        super()._disable(filter, req, title, parts)
        filter.failed()


class Exchange:
    """A client's request and its answer."""

    def __init__(self, client: Any, connection: Connection, leaves_after: Optional[int] = None) -> None:
        self.client = client
        self.connection = connection
        self.section: Section = client.section
        self.dispatcher = Dispatcher()
        self.lines: List[LogLine] = []
        #: The results of the phases that ran: (directive, result).
        self.phases: List[Tuple[str, int]] = []
        self.cleanups: List[Tuple[Any, Callable[..., Any], Any]] = []
        self.output = Output(self._call_filter, self._head, leaves_after)
        self._error: Optional[int] = None
        self._redirects = 0

    def log(self, level: int, text: str) -> None:
        """A line of the error log."""
        self.lines.append(LogLine(level, text))
        self.client.log.append(self.lines[-1])

    # --- from the request to its end

    def request(self, method: str, target: str, headers: _table.table, data: bytes, chunked: bool) -> Request:
        """The request object of a client's request."""
        path, mark, args = target.partition("?")
        body = Body(data, self._call_filter)
        values = {
            "the_request": f"{method} {target} HTTP/1.1",
            "protocol": "HTTP/1.1",
            "proto_num": 1001,
            "hostname": self.client.server_name,
            "request_time": self.client.now(),
            "status": HTTP_OK,
            "method": method,
            "method_number": _method_number(method),
            "header_only": int(method == "HEAD"),
            "remaining": 0 if chunked else len(data),
            "read_chunked": int(chunked),
            "unparsed_uri": target,
            "args": args if mark else None,
            "uri": _decoded(path),
            "parsed_uri": (None, None, None, None, None, None, path, args if mark else None, None),
            "useragent_ip": self.connection.client_ip,
            "useragent_addr": self.connection.client_addr,
            "range": headers.get("Range"),
        }
        self.section = self.client.section_of(values["uri"])
        return Request(self, values, headers, body, self.output)

    def run(self, req: Request) -> None:
        """All phases."""
        result = self._until_content(req)
        self._finish(req, result)
        last = self.output.owner or req
        with _httpd.running(self.client, last):
            self.phase(last, "PythonLogHandler")
            self._clean_up(last)

    def _finish(self, req: Request, result: int) -> None:
        with _httpd.running(self.client, req):
            if result not in (OK, DONE):
                self._die(req, result)
            self.output.end(self.output.owner or req)

    def _clean_up(self, req: Request) -> None:
        while self.cleanups:
            self.dispatcher.cleanup(*self.cleanups.pop())
        self.phase(req, "PythonCleanupHandler")
        while self.cleanups:
            self.dispatcher.cleanup(*self.cleanups.pop())

    def redirect(self, req: Request, target: str) -> None:
        """``req.internal_redirect``: another request of the same client, whose answer is the answer."""
        self._redirects += 1
        if self._redirects > _MOST_REDIRECTS:
            self.log(APLOG_ERR, f"Request exceeded the limit of {_MOST_REDIRECTS} internal redirects")
            raise OSError("too many internal redirects")
        outer = self.section
        made = self.request(req.method, target, req.headers_in, b"", False)
        made._values.update(the_request=req.the_request, user=req.user, ap_auth_type=req.ap_auth_type)
        made._body = req._body
        made._prev, req._next = req, made
        made._err_headers_out = req.err_headers_out
        for name, value in req.subprocess_env.items():
            made.subprocess_env[f"REDIRECT_{name}"] = value
        self.output.owner = made
        try:
            result = self._until_content(made)
            with _httpd.running(self.client, made):
                if result not in (OK, DONE):
                    self._die(made, result)
            if self.output.owner is req:
                self.output.owner = made
        finally:
            self.section = outer

    # --- the phases

    def phase(self, req: Request, name: str) -> int:
        """Runs the handlers of one phase."""
        items = list(self._configured(req, name)) + req._added.pop(name, [])
        if not items:
            return DECLINED
        before = (req._phase, req._running, req._hlist)
        req._phase, req._running, req._hlist = name, items, HandlerList(items)
        try:
            with _httpd.running(self.client, req):
                result = self.dispatcher.handler(req, name, items, self.section.debug)
        finally:
            req._phase, req._running, req._hlist = before
        self.phases.append((name, result))
        return result

    def _configured(self, req: Request, name: str) -> List[Item]:
        base = os.path.basename(req.filename or "")
        dot = base.find(".")
        extension = base[dot:] if dot >= 0 else ""
        plain: List[Item] = self.section.handlers.get((name, ""), [])
        found = self.section.handlers.get((name, extension)) if extension else None
        req._extension = extension if found else ""
        return found or plain

    def _until_content(self, req: Request) -> int:
        result = self._all(req, "PythonPostReadRequestHandler")
        if result != OK:
            return result
        result = self.phase(req, "PythonTransHandler")
        if result == DECLINED:
            result = self._map(req)
        if result != OK:
            return result
        self.section = self.client.section_of(req.uri)
        req._values["handler"] = req._values["handler"] or self.section.handler
        self._set_filters(req)
        for steps in (self._headers, self._access, self._authentication, self._type, self._fixup, self._content):
            result = steps(req)
            if result != OK:
                return result
        return OK

    def _all(self, req: Request, *names: str) -> int:
        for name in names:
            result = self.phase(req, name)
            if result not in _CONTINUE:
                return result
        return OK

    def _map(self, req: Request) -> int:
        if self.section.location is not None:
            return OK
        uri = req.uri or "/"
        if "\0" in uri or not uri.startswith("/"):
            return HTTP_BAD_REQUEST
        path, rest = self.client.document_root.rstrip("/"), uri
        while rest and (path == self.client.document_root.rstrip("/") or os.path.isdir(path)):
            step, slash, more = rest[1:].partition("/")
            if step in ("..",):
                return HTTP_BAD_REQUEST
            path, rest = f"{path}/{step}", slash + more
        found = file_info(path)
        req._values.update(filename=path, canonical_filename=path, path_info=rest, finfo=found)
        return OK

    def _headers(self, req: Request) -> int:
        return self._all(req, "PythonInitHandler", "PythonHeaderParserHandler")

    def _access(self, req: Request) -> int:
        return self._all(req, "PythonAccessHandler")

    def _type(self, req: Request) -> int:
        result = self.phase(req, "PythonTypeHandler")
        if result == DECLINED and not req.content_type and req.filename:
            req._values["content_type"] = mimetypes.guess_type(req.filename)[0]
        return OK if result == DECLINED else result

    def _fixup(self, req: Request) -> int:
        return self._all(req, "PythonFixupHandler")

    def _authentication(self, req: Request) -> int:
        lines = self.section.require
        if not lines or lines == ["all granted"]:
            return OK
        if lines == ["all denied"]:
            return HTTP_FORBIDDEN
        result = self.phase(req, "PythonAuthenHandler")
        if result == DECLINED and "PythonAuthnProvider" in self.section.providers:
            result = self._check_password(req)
        if result == DECLINED:
            self.log(APLOG_ERR, "AH00027: No authentication done but request not allowed without authentication")
            return HTTP_INTERNAL_SERVER_ERROR
        if result != OK:
            return result
        if req.user is None:
            self.log(APLOG_ERR, "an authentication handler returned OK and did not set req.user")
            return HTTP_INTERNAL_SERVER_ERROR
        result = self.phase(req, "PythonAuthzHandler")
        if result == DECLINED:
            result = OK if any(self._granted(req, line.split()) for line in lines) else HTTP_UNAUTHORIZED
        return result

    def _check_password(self, req: Request) -> int:
        password = req.get_basic_auth_pw()
        if password is None:
            return HTTP_UNAUTHORIZED
        verdict = self._provider(req, "checkpassword", "PythonAuthnProvider", (req.user, password))
        if verdict == _providers.FAILED[0]:
            return HTTP_INTERNAL_SERVER_ERROR
        return OK if verdict == 1 else HTTP_UNAUTHORIZED

    def _granted(self, req: Request, words: List[str]) -> bool:
        kind, names = words[0].lower(), words[1:]
        if kind == "python-group":
            return self._provider(req, "groups", "PythonAuthzProvider", tuple(names)) == 1
        return kind == "valid-user" or (kind == "user" and req.user in names)

    def _provider(self, req: Request, kind: str, directive: str, arguments: Tuple[Any, ...]) -> int:
        item = self.section.providers.get(directive)
        if item is None:
            raise ValueError(f"Require python-group without {directive}")
        with _httpd.running(self.client, req):
            return self.dispatcher.provider(req, kind, [item], arguments)[0]

    def _content(self, req: Request) -> int:
        result = self.phase(req, "PythonHandler") if req.handler in _MINE else DECLINED
        return self._file(req) if result == DECLINED else result

    def _file(self, req: Request) -> int:
        """httpd's own handler: the file that the URI maps to."""
        if req.method not in ("GET", "HEAD"):
            return HTTP_METHOD_NOT_ALLOWED
        if not req.filename or not os.path.isfile(req.filename) or req.path_info:
            return HTTP_NOT_FOUND
        req.sendfile(req.filename)
        return OK

    # --- filters

    def _set_filters(self, req: Request) -> None:
        for is_input, names in self.section.active.items():
            for name in names:
                self.add_filter(req, name, is_input)

    def add_filter(self, req: Request, name: str, is_input: bool) -> None:
        """Puts a filter at the end of its chain; httpd's own filters do not exist here, which is logged."""
        if not isinstance(name, str):
            raise TypeError(f"argument 1 must be str, not {type(name).__name__}")
        item = self.section.filters.get((name.lower(), is_input))
        if item is None and (name.lower(), is_input) in req._registered:
            handler, directory = req._registered[name.lower(), is_input]
            item = (handler, directory, False, False)
        if item is None:
            self.log(APLOG_ERR, f"an unknown filter was not added: {name}")
            return
        chain = req._body.chain if is_input else self.output.chain
        chain.filters.append(Filter(chain, req, name, item, is_input))

    def _call_filter(self, called: Filter) -> None:
        with _httpd.running(self.client, called.req):
            self.dispatcher.filter(called, [called._item], self.section.debug)

    # --- variables

    def add_vars(self, req: Request, cgi: bool) -> None:
        """``req.add_common_vars`` and ``req.add_cgi_vars``."""
        env, client = req.subprocess_env, self.client
        for name, value in req.headers_in.items():
            key = name.upper().replace("-", "_")
            if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                env[key] = _octets(value)
            elif key not in ("AUTHORIZATION", "PROXY_AUTHORIZATION", "PROXY"):
                env[f"HTTP_{key}"] = _octets(value)
        known = {
            "SERVER_SIGNATURE": "", "SERVER_SOFTWARE": "Apache", "SERVER_NAME": req.hostname or client.server_name,
            "SERVER_ADDR": self.connection.local_ip, "SERVER_PORT": client.port, "REMOTE_ADDR": req.useragent_ip,
            "DOCUMENT_ROOT": client.document_root, "REQUEST_SCHEME": client.scheme, "CONTEXT_PREFIX": "",
            "CONTEXT_DOCUMENT_ROOT": client.document_root, "SERVER_ADMIN": client.server.server_admin,
            "SCRIPT_FILENAME": req.filename or "", "REMOTE_PORT": self.connection.client_addr[1],
            "PATH": os.defpath, "REMOTE_USER": req.user, "AUTH_TYPE": req.ap_auth_type,
        }  # fmt: skip
        if cgi:
            uri, info = req.uri or "", req.path_info or ""
            known.update(
                GATEWAY_INTERFACE="CGI/1.1", SERVER_PROTOCOL=req.protocol, REQUEST_METHOD=req.method,
                QUERY_STRING=req.args or "", REQUEST_URI=uri, PATH_INFO=info or None,
                SCRIPT_NAME=uri[: -len(info)] if info and uri.endswith(info) else uri,
            )  # fmt: skip
        for name, value in known.items():
            if value is not None:
                env[name] = _octets(str(value))

    # --- the answer's head, and errors

    def _head(self, req: Any) -> Head:
        line = req.status_line
        if self._error is not None:
            status, reason = self._error, responses.get(self._error, "")
        elif line and line[:3] == str(req.status):
            status, reason = req.status, line[4:]
        else:
            status, reason = req.status, responses.get(req.status, "")
        kept = req.err_headers_out.items()
        headers = list(kept if self._error is not None else req.headers_out.items() + kept)
        if req.content_type and status not in (HTTP_NO_CONTENT, HTTP_NOT_MODIFIED):
            headers.append(("Content-Type", req.content_type))
        return Head(status, reason, headers)

    def _die(self, req: Request, code: int) -> None:
        """What httpd does for a phase that has not ended well: its own page, and only the headers for errors."""
        if code == DECLINED:
            code = HTTP_NOT_FOUND
        if not self.output.begun:
            self._error = code
            if code == HTTP_UNAUTHORIZED and (self.section.auth_type or "").lower() == "basic":
                realm = (self.section.auth_name or "").replace('"', '\\"')
                req.err_headers_out["WWW-Authenticate"] = f'Basic realm="{realm}"'
            if code == HTTP_METHOD_NOT_ALLOWED and req.allowed_methods:
                req.err_headers_out["Allow"] = ",".join(req.allowed_methods)
            location = req.headers_out.get("Location")
            if location and 300 <= code < 400:
                req.err_headers_out["Location"] = location
        if code in (HTTP_NO_CONTENT, HTTP_NOT_MODIFIED):
            return
        req._values.update(content_type="text/html; charset=iso-8859-1", status=code)
        reason = responses.get(code, "")
        page = f"<html><head>\n<title>{code} {reason}</title>\n</head><body>\n<h1>{reason}</h1>\n</body></html>\n"
        with contextlib.suppress(OSError):
            self.output.write(req, page, False)


def _octets(text: str) -> bytes:
    """Text of the client's as it was sent: not all of it can be assigned to a table."""
    return text.encode("utf-8", "surrogateescape")


def _decoded(path: str) -> str:
    """A path as httpd has it: without escapes, UTF-8 if it can be."""
    raw = unquote_to_bytes(path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def target_of(uri: str) -> str:
    """A URI given by a test as it is sent: what is not ASCII is escaped."""
    path, mark, args = uri.partition("?")
    return (quoted(path) if not path.isascii() or " " in path else path) + mark + args


def _method_number(method: str) -> int:
    from mod_python import apache

    if method == "HEAD":
        return apache.M_GET
    return {name: number for number, name in apache._METHODS.items()}.get(method, apache.M_INVALID)
