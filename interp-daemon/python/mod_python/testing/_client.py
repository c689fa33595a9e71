"""The client: requests go in, answers come out, and between them is the real dispatcher."""

from __future__ import annotations

import base64
import json as json_
import os
import secrets
import time
from http.client import responses
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlencode, urlsplit

from mod_python import _table
from mod_python.testing import _exchange, _httpd
from mod_python.testing._cookies import Cookies
from mod_python.testing._objects import Connection, HandlerList, LogLine, Server
from mod_python.testing._section import Handler, Section, config_tree

#: An upload: the file's name, its content, and its type if that is not ``application/octet-stream``.
Upload = Union[Tuple[str, Union[bytes, str]], Tuple[str, Union[bytes, str], str]]
#: Fields of a form: a value, or several.
Fields = Union[Mapping[str, Any], Sequence[Tuple[str, Any]]]
#: Headers of a request.
Headers = Union[Mapping[str, str], Iterable[Tuple[str, str]]]


class Response:
    """An answer.

    ============  =====================================================================================================
    ``status``    the number, ``reason`` the words after it
    ``headers``   a table: keys in any case, ``headers["Set-Cookie"]`` is a list if there are several
    ``body``      bytes; ``text`` is the same as text, ``json()`` what it says as JSON
    ``log``       what was logged meanwhile: ``(level, text)`` each
    ``phases``    the phases in which Python ran, with their results: ``("PythonHandler", 0)``
    ``request``   the request object that has answered, as its last handler left it
    ============  =====================================================================================================
    """

    def __init__(self, exchange: _exchange.Exchange, request: Any) -> None:
        output = exchange.output
        head = output.head
        assert head is not None
        self.request: Any = output.owner or request
        self.status: int = head.status
        self.reason: str = head.reason or responses.get(head.status, "")
        self.headers = _table.table()
        for name, value in head.headers:
            self.headers.add(name, value)
        bare = request.header_only or head.status in (204, 304)
        self.body: bytes = b"" if bare else bytes(output.body)
        if "Content-Length" not in self.headers and head.status not in (204, 304) and not request.header_only:
            self.headers["Content-Length"] = str(len(self.body))
        self.log: List[LogLine] = exchange.lines
        self.phases: List[Tuple[str, int]] = exchange.phases

    @property
    def content_type(self) -> Optional[str]:
        """The type without its parameters."""
        found = self.headers.get("Content-Type")
        return None if found is None else found.partition(";")[0].strip()

    @property
    def text(self) -> str:
        """The body as text, in the charset that its type names, or UTF-8."""
        for parameter in self.headers.get("Content-Type", "").split(";")[1:]:
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "charset":
                return self.body.decode(value.strip('"'))
        return self.body.decode("utf-8")

    def json(self) -> Any:
        """The body as JSON."""
        return json_.loads(self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason!r} {len(self.body)} bytes {self.body[:100]!r}>"


class Client:
    """Sends requests to handlers, without httpd.

    ``handler`` is what ``PythonHandler`` names: ``"module"``, ``"module::object"``, a function, a module, or a list of
    them. Other directives are keyword arguments of their names: ``PythonAccessHandler="gate"``,
    ``PythonOption={"key": "value"}``, ``PythonDebug=True``, ``Require="valid-user"``.

    ==================  ===============================================================================================
    ``directory``       the section is ``<Directory "...">``: modules are found there first; else as Python finds them
    ``location``        the section is ``<Location "...">``: no file is looked for
    ``document_root``   where URIs map to; without it ``directory``, else the current directory
    ``headers``         sent with every request
    ``raise_errors``    an exception of a handler is raised by the request, instead of a 500 and log lines
    ``https``           requests come over TLS, with ``ssl_vars`` as mod_ssl's variables
    ``environ``         what ``req.subprocess_env`` starts with, as by ``SetEnv``
    ``interpreter``     ``req.interpreter``
    ``defines``         what ``apache.exists_config_define`` knows
    ``extensions``      what ``AddHandler mod_python`` maps, for ``req.get_addhandler_exts()``
    ==================  ===============================================================================================
    """

    def __init__(
        self,
        handler: Union[None, Handler, Sequence[Handler]] = None,
        *,
        directory: Union[None, str, os.PathLike[str]] = None,
        location: Optional[str] = None,
        document_root: Union[None, str, os.PathLike[str]] = None,
        headers: Optional[Headers] = None,
        raise_errors: bool = False,
        https: bool = False,
        ssl_vars: Optional[Mapping[str, str]] = None,
        environ: Optional[Mapping[str, str]] = None,
        server_name: str = "localhost",
        port: Optional[int] = None,
        remote_ip: str = "127.0.0.1",
        interpreter: str = "main_interpreter",
        server_root: str = "/etc/apache2",
        defines: Iterable[str] = (),
        extensions: Iterable[str] = (),
        **directives: Any,
    ) -> None:
        if handler is not None:
            directives = {"PythonHandler": handler, **directives}
        where = None if directory is None else os.fspath(directory)
        self.document_root = os.path.abspath(
            os.fspath(document_root) if document_root is not None else where or os.curdir
        )
        self.headers: List[Tuple[str, str]] = _pairs(headers)
        self.raise_errors = raise_errors
        self.https = https
        self.ssl_vars: Dict[str, str] = dict(ssl_vars or {})
        self.environ: Dict[str, str] = dict(environ or {})
        self.server_name = server_name
        self.port = port if port is not None else 443 if https else 80
        self.remote_ip = remote_ip
        self.interpreter = interpreter
        self.server_root = server_root
        self.defines = frozenset(defines)
        self.extensions = tuple(extensions)
        self.config_tree: List[Any] = list(config_tree(directives))
        #: Every line that was logged.
        self.log: List[LogLine] = []
        #: The cookies that answers have set; they are sent with every request.
        self.cookies = Cookies()
        self.cleanups: List[Tuple[Any, Callable[..., Any], Any]] = []
        self.section = Section(where, location)
        self.section.take(directives)
        self._sections: List[Section] = []
        self._connection_handler = directives.get("PythonConnectionHandler")
        section = self.section
        self.server = Server(self.server_name, self.port, section.config, section.options, self.log_line, self.cleanups)
        imports = directives.get("PythonImport", ())
        for spec in [imports] if isinstance(imports, str) else imports:
            with _httpd.running(self):
                _exchange.Dispatcher().python_import(spec, self.server)

    scheme = property(lambda self: "https" if self.https else "http", doc="Of URLs.")

    def log_line(self, level: int, text: str) -> None:
        """A line of the error log; it belongs to the request that this thread serves, if any."""
        request = _httpd.current_request()
        if request is not None:
            request._exchange.log(level, text)
        else:
            self.log.append(LogLine(level, text))

    @staticmethod
    def now() -> float:
        """The time of a request's beginning."""
        return time.time()

    # --- configuration

    def location(self, path: str, **directives: Any) -> None:
        """Directives for the URIs below ``path``, over those of the client: as a ``<Location>`` inside a section.

        Handlers are found as those of the client are.
        """
        made = self.section.inside(None, directives)
        made.below = path.rstrip("/")
        self._sections.append(made)
        tree = [(name, value) for name, value in config_tree(directives)]
        self.config_tree += [("<Location", f"{path}>"), tree]

    def section_of(self, uri: str) -> Section:
        """The section that holds for a URI: the last one given that matches."""
        for section in reversed(self._sections):
            if not section.below or uri == section.below or uri.startswith(section.below + "/"):
                return section
        return self.section

    # --- requests

    def open(
        self,
        method: str,
        uri: str,
        *,
        headers: Optional[Headers] = None,
        query: Optional[Fields] = None,
        data: Union[None, bytes, str, Fields] = None,
        files: Optional[Mapping[str, Union[Upload, Sequence[Upload]]]] = None,
        json: Any = None,
        auth: Optional[Tuple[str, str]] = None,
        chunked: bool = False,
        follow: bool = False,
        disconnect_after: Optional[int] = None,
    ) -> Response:
        """Sends a request and returns its answer.

        ==================  ===========================================================================================
        ``query``           fields for the query string
        ``data``            the body: bytes or text as they are, a mapping or pairs as a form
        ``files``           uploads, name -> ``(file name, content[, type])`` or a list of such: makes it multipart
        ``json``            the body as JSON
        ``auth``            user and password of basic authentication
        ``chunked``         the body is sent without its length
        ``follow``          redirects are followed, ten at most
        ``disconnect_after``  the client goes away when it has received so many bytes: then ``req.write`` raises
        ==================  ===========================================================================================
        """
        body, kind = _body(data, files, json)
        sent = self._headers(headers, auth)
        if kind is not None and "Content-Type" not in sent:
            sent["Content-Type"] = kind
        if chunked:
            sent["Transfer-Encoding"] = "chunked"
        elif body is not None:
            sent["Content-Length"] = str(len(body))
        if query:
            uri += ("&" if "?" in uri else "?") + urlencode(_flat(query))
        response = self._exchange(method.upper(), uri, sent, body or b"", chunked, disconnect_after)
        hops = 0
        while follow and response.status in (301, 302, 303, 307, 308) and "Location" in response.headers:
            hops += 1
            if hops > 10:
                raise OSError("more than ten redirects")
            uri = self._target(response.headers["Location"], uri)
            if response.status not in (307, 308):
                method, body, chunked = "GET", None, False
                for name in ("Content-Type", "Content-Length", "Transfer-Encoding"):
                    del sent[name]
            response = self._exchange(method.upper(), uri, sent, body or b"", chunked, None)
        return response

    def get(self, uri: str, **more: Any) -> Response:
        """A ``GET``: see :meth:`open`."""
        return self.open("GET", uri, **more)

    def head(self, uri: str, **more: Any) -> Response:
        """A ``HEAD``."""
        return self.open("HEAD", uri, **more)

    def post(self, uri: str, data: Union[None, bytes, str, Fields] = None, **more: Any) -> Response:
        """A ``POST``."""
        return self.open("POST", uri, data=b"" if data is None and not _has_body(more) else data, **more)

    def put(self, uri: str, data: Union[None, bytes, str, Fields] = None, **more: Any) -> Response:
        """A ``PUT``."""
        return self.open("PUT", uri, data=data, **more)

    def delete(self, uri: str, **more: Any) -> Response:
        """A ``DELETE``."""
        return self.open("DELETE", uri, **more)

    def options(self, uri: str, **more: Any) -> Response:
        """An ``OPTIONS``."""
        return self.open("OPTIONS", uri, **more)

    def connect(self, data: bytes = b"") -> bytes:
        """Runs the ``PythonConnectionHandler``: it reads ``data``; what it writes is returned."""
        if self._connection_handler is None:
            raise TypeError("the client has no PythonConnectionHandler")
        items = self.section.items(self._connection_handler)[""]
        connection = self._connection(self.log_line)
        connection.input = data
        connection._hlist = HandlerList(items)
        dispatcher = _exchange.Dispatcher()
        with _httpd.running(self):
            dispatcher.connection(connection, items, self.section.debug)
        return bytes(connection.output)

    def close(self) -> None:
        """Runs what handlers have registered for the worker's end (``apache.register_cleanup``, ``server...``)."""
        with _httpd.running(self):
            while self.cleanups:
                _exchange.Dispatcher().cleanup(*self.cleanups.pop())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- how

    def _connection(self, log: Callable[[int, str], None]) -> Connection:
        return Connection(self.server, (self.remote_ip, 50000), ("127.0.0.1", self.port), log)

    def _exchange(
        self, method: str, uri: str, headers: _table.table, body: bytes, chunked: bool, leaves: Optional[int]
    ) -> Response:
        target = _exchange.target_of(uri)
        headers = headers.copy()
        cookies = self.cookies.header(target.partition("?")[0], self.https)
        if cookies and "Cookie" not in headers:
            headers["Cookie"] = cookies
        connection = self._connection(self.log_line)
        exchange = _exchange.Exchange(self, connection, leaves)
        connection._log = exchange.log
        request = exchange.request(method, target, headers, body, chunked)
        exchange.run(request)
        if self.raise_errors and exchange.dispatcher.errors:
            raise exchange.dispatcher.errors[0]
        response = Response(exchange, request)
        for name, value in response.headers.items():
            if name.lower() == "set-cookie":
                self.cookies.take(value, target.partition("?")[0])
        return response

    def _headers(self, headers: Optional[Headers], auth: Optional[Tuple[str, str]]) -> _table.table:
        usual = self.port == (443 if self.https else 80)
        sent = _table.table({"Host": self.server_name if usual else f"{self.server_name}:{self.port}"})
        for pairs in (self.headers, _pairs(headers)):
            for name in {name.lower() for name, _ in pairs}:
                del sent[name]
            for name, value in pairs:
                # As bytes: what a client sends need not be Latin-1.
                sent.add(name, value.encode("utf-8", "surrogateescape"))
        if auth is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode("utf-8")).decode("ascii")
        return sent

    @staticmethod
    def _target(location: str, uri: str) -> str:
        parts = urlsplit(location)
        path = parts.path or "/"
        if not path.startswith("/"):
            path = uri.partition("?")[0].rpartition("/")[0] + "/" + path
        return path + ("?" + parts.query if parts.query else "")


def _pairs(headers: Optional[Headers]) -> List[Tuple[str, str]]:
    if headers is None:
        return []
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, value) for name, value in items]


def _has_body(more: Mapping[str, Any]) -> bool:
    return more.get("files") is not None or more.get("json") is not None


def _flat(fields: Fields) -> List[Tuple[str, Any]]:
    """Fields of a form as pairs; a list of values is a pair for each."""
    items = fields.items() if isinstance(fields, Mapping) else fields
    found: List[Tuple[str, Any]] = []
    for name, value in items:
        found += [(name, each) for each in value] if isinstance(value, (list, tuple)) else [(name, value)]
    return found


def _body(data: Any, files: Any, json: Any) -> Tuple[Optional[bytes], Optional[str]]:
    """A request's body and its type."""
    if json is not None:
        return json_.dumps(json).encode("utf-8"), "application/json"
    if files is not None:
        return _multipart(_flat(data or {}), files)
    if data is None or isinstance(data, bytes):
        return data, None
    if isinstance(data, str):
        return data.encode("utf-8"), "text/plain; charset=utf-8"
    return urlencode(_flat(data)).encode("ascii"), "application/x-www-form-urlencoded"


def _multipart(fields: List[Tuple[str, Any]], files: Mapping[str, Any]) -> Tuple[bytes, str]:
    boundary = f"test-{secrets.token_hex(12)}"
    parts: List[bytes] = []

    def part(head: str, content: Any) -> None:
        data = content if isinstance(content, bytes) else str(content).encode("utf-8")
        parts.append(f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n")

    for name, value in fields:
        part(f'name="{_escaped(name)}"', value)
    for name, uploads in files.items():
        for upload in uploads if isinstance(uploads, list) else [uploads]:
            kind = upload[2] if len(upload) > 2 else "application/octet-stream"
            part(f'name="{_escaped(name)}"; filename="{_escaped(upload[0])}"\r\nContent-Type: {kind}', upload[1])
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _escaped(name: str) -> str:
    """As browsers write a name into a part's header."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
