"""Python Server Pages: text with Python in it. ``docs/psp.md`` is the manual.

Pages are served by ``PythonHandler mod_python.psp``, or by any program::

    page = psp.PSP(req, filename="template.html", vars={"who": "world"})
    page.run()
"""

from __future__ import annotations

import errno
import hashlib
import html
import os
import sys
import threading
from collections import OrderedDict
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from mod_python import Session, _psp_display, apache, util
from mod_python._managed import Stamp, stamp_of
from mod_python._psp_code import Page, compile_page, correct_traceback
from mod_python._psp_parser import Generated, Generator
from mod_python._psp_parser import PSPSyntaxError as PSPSyntaxError

#: Pages that are kept, of files and of strings each.
CACHED = 512

AUTOESCAPE = "mod_python.psp.autoescape"
ENCODING = "mod_python.psp.encoding"

#: Errors that mean that there is no such file.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)

_ON = frozenset(("on", "1", "true", "yes"))
_OFF = frozenset(("", "off", "0", "false", "no"))


class _Settings(NamedTuple):
    """What the configuration says about pages."""

    autoescape: bool
    encoding: str
    autoreload: bool


class _Kept(NamedTuple):
    """A page in the cache, and what its files were when it was made."""

    page: Page
    files: Tuple[Tuple[str, Optional[Stamp]], ...]


class _Cache:
    """The pages that were used last."""

    def __init__(self, size: int = CACHED) -> None:
        self._size = size
        self._pages: "OrderedDict[Any, _Kept]" = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, look: bool) -> Optional[Page]:
        """The page, unless one of its files has changed (if ``look``)."""
        with self._lock:
            kept = self._pages.get(key)
            if kept is None:
                return None
            self._pages.move_to_end(key)
        if look and any(stamp_of(file) != stamp for file, stamp in kept.files):
            return None
        return kept.page

    def put(self, key: Any, kept: _Kept) -> None:
        """Keeps a page."""
        with self._lock:
            self._pages[key] = kept
            self._pages.move_to_end(key)
            while len(self._pages) > self._size:
                self._pages.popitem(last=False)

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._pages.clear()

    def __len__(self) -> int:
        return len(self._pages)


_files = _Cache()
_strings = _Cache()


# --- reading ----------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads the files of one page and notes what they were."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self.files: List[Tuple[str, Optional[Stamp]]] = []

    def read(self, path: str) -> str:
        """A file's text."""
        # First the stamp: a change in between then shows as one.
        self.files.append((path, stamp_of(path)))
        with open(path, "rb") as file:
            return decoded(file.read(), path, self._encoding)

    def include(self, name: str, beside: List[str]) -> Tuple[str, str]:
        """The path and the text of an included file."""
        if os.path.isabs(name) or not beside:
            paths = [name]
        else:
            paths = [os.path.normpath(os.path.join(directory or ".", name)) for directory in beside]
        for path in paths[:-1]:
            if os.path.exists(path):
                return (path, self.read(path))
            # When it comes to be, it is the one that is meant.
            self.files.append((path, None))
        return (paths[-1], self.read(paths[-1]))


def decoded(data: bytes, name: str, encoding: str = "utf-8") -> str:
    """The text of a page."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        shown = data[error.start : error.start + 1].hex()
        raise PSPSyntaxError(
            f"byte 0x{shown} is not {encoding}: save the file as UTF-8, or set PythonOption {ENCODING}",
            (name, line, None, None),
        ) from None


def _generate(name: str, text: str, directory: Optional[str], settings: _Settings, reader: _Reader) -> Generated:
    return Generator(name, text, reader.include, directory, settings.autoescape).result()


_PLAIN = _Settings(False, "utf-8", True)


def parse(filename: str, dir: Optional[str] = None) -> str:  # noqa: A002 (mod_python's name)
    """The Python that the page of that file becomes.

    The file is ``dir + filename``. Without ``dir``, included files must have absolute names.
    """
    path = filename if dir is None else dir + filename
    reader = _Reader("utf-8")
    return _generate(path, reader.read(path), dir, _PLAIN, reader).text


def parsestring(string: Union[str, bytes]) -> str:
    """The Python that a page becomes."""
    text = decoded(bytes(string), "<psp string>") if not isinstance(string, str) else string
    return _generate("<psp string>", text, None, _PLAIN, _Reader("utf-8")).text


# --- running ----------------------------------------------------------------------------------------------------------


def escape(value: Any) -> str:
    """A value's text for HTML. What has the method ``__html__`` says itself what it is in HTML."""
    own = getattr(type(value), "__html__", None)
    return str(own(value)) if own is not None else html.escape(str(value))


def _settings(req: Any, autoescape: Optional[bool]) -> _Settings:
    options = req.get_options()
    if autoescape is None:
        said = (options.get(AUTOESCAPE) or "").lower()
        if said not in _ON and said not in _OFF:
            raise ValueError(f"PythonOption {AUTOESCAPE} is On or Off, not {said!r}")
        autoescape = said in _ON
    encoding = options.get(ENCODING) or "utf-8"
    return _Settings(bool(autoescape), encoding, req.get_config().get("PythonAutoReload") != "0")


class PSP:
    """A page.

    ``filename`` (default: ``req.filename``; a relative one is beside that) or ``string`` (text, or bytes in UTF-8) is
    its source. ``vars`` are global variables of the page. ``autoescape`` overrides the option
    ``mod_python.psp.autoescape``.

    A page that does not exist raises ``SERVER_RETURN(HTTP_NOT_FOUND)``, one that may not be read
    ``SERVER_RETURN(HTTP_FORBIDDEN)``.
    """

    def __init__(
        self,
        req: Any,
        filename: Optional[str] = None,
        string: Union[str, bytes, None] = None,
        vars: Optional[Dict[str, Any]] = None,  # noqa: A002 (mod_python's name)
        autoescape: Optional[bool] = None,
    ) -> None:
        if filename and string is not None:
            raise ValueError("Must specify either filename or string")
        self.req = req
        self.vars: Dict[str, Any] = {} if vars is None else vars
        self.string = string
        self._settings = _settings(req, autoescape)
        self.filename: Optional[str] = None
        if string is None:
            filename = filename or req.filename
            if not filename:
                raise ValueError("Must specify filename or string: the request has no file")
            self.filename = os.path.join(os.path.dirname(req.filename or ""), filename)
            self._page = self._of_file(self.filename)
        else:
            self._page = self._of_string(string)
        self.code = self._page.code

    def _of_file(self, path: str) -> Page:
        if "\0" in path:
            raise apache.SERVER_RETURN(apache.HTTP_NOT_FOUND)
        key = (path, self._settings)
        page = _files.get(key, self._settings.autoreload)
        if page is None:
            reader = _Reader(self._settings.encoding)
            try:
                text = reader.read(path)
            except PermissionError as error:
                self.req.log_error(f"psp: {path}: {error.strerror}", apache.APLOG_ERR)
                raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN) from None
            except OSError as error:
                if error.errno in _NO_FILE:
                    raise apache.SERVER_RETURN(apache.HTTP_NOT_FOUND) from None
                raise
            page = compile_page(_generate(path, text, os.path.dirname(path), self._settings, reader))
            _files.put(key, _Kept(page, tuple(reader.files)))
        return page

    def _of_string(self, string: Union[str, bytes]) -> Page:
        data = string.encode("utf-8", "surrogatepass") if isinstance(string, str) else bytes(string)
        directory = os.path.dirname(self.req.filename) if self.req.filename else None
        name = f"<psp string {hashlib.sha256(data).hexdigest()[:12]}>"
        key = (data, directory, self._settings)
        page = _strings.get(key, self._settings.autoreload)
        if page is None:
            text = string if isinstance(string, str) else decoded(data, name)
            reader = _Reader(self._settings.encoding)
            page = compile_page(_generate(name, text, directory, self._settings, reader))
            _strings.put(key, _Kept(page, tuple(reader.files)))
        return page

    def run(self, vars: Optional[Dict[str, Any]] = None, flush: Any = 0) -> None:  # noqa: A002 (mod_python's name)
        """Runs the page, with ``vars`` over those that the page was made with; sends what it wrote if ``flush``.

        A session that the page names is saved and unlocked at its end, also when it failed.
        """
        req = self.req
        space, session, made = self._space(vars)
        interface = space["psp"]
        try:
            try:
                exec(self.code, space)  # noqa: S102 (the page)
            except apache.SERVER_RETURN:
                raise
            except BaseException as error:
                correct_traceback(error, self._page)
                page = getattr(interface, "error_page", None)
                if page is None or not isinstance(error, Exception):
                    raise error
                exception = (type(error), error, error.__traceback__)
                page.run({**self.vars, **(vars or {}), "exception": exception}, flush)
            if flush:
                req.flush()
        finally:
            if session is not None:
                try:
                    session.save()
                finally:
                    if made:
                        session.unlock()

    def _space(self, more: Optional[Dict[str, Any]]) -> Tuple[Dict[str, Any], Any, bool]:
        """The name space to run the page in, the session that the page gets, and whether that was made for it."""
        req = self.req
        names = self._page.names
        space: Dict[str, Any] = {
            "PSP": PSP, "PSPInterface": PSPInterface, "Session": Session, "__file__": self.filename, "__name__": __name__,
            "_psp_escape": escape, "apache": apache, "escape": escape, "form": None, "os": os, "parse": parse,
            "parsestring": parsestring, "req": req, "session": None, "sys": sys, "util": util,
        }
        if "form" in names:
            space["form"] = _form(req)
        space["psp"] = PSPInterface(req, self.filename)
        session, made = None, False
        if "session" in names and not ("session" in self.vars or "session" in (more or {})):
            session = getattr(req, "session", None)
            if session is None:
                session = req.session = Session.Session(req)
                made = True
            space["session"] = session
        space.update(self.vars)
        if more:
            space.update(more)
        return space, session, made

    def __str__(self) -> str:
        """Runs the page; the text is empty. So a page may be an expression in another."""
        self.req.content_type = _TYPE
        self.run()
        return ""

    def display_code(self) -> str:
        """The page and its Python side by side, as HTML. For debugging only: it shows the source."""
        reader = _Reader(self._settings.encoding)
        if self.filename is None:
            source = self.string if isinstance(self.string, str) else decoded(bytes(self.string or b""), "<psp string>")
            directory = os.path.dirname(self.req.filename) if self.req.filename else None
            made = _generate("<psp string>", source, directory, self._settings, reader)
        else:
            source = reader.read(self.filename)
            made = _generate(self.filename, source, os.path.dirname(self.filename), self._settings, reader)
        return _psp_display.page(made)


class PSPInterface:
    """What a page sees as ``psp``."""

    def __init__(self, req: Any, filename: Optional[str]) -> None:
        self.req = req
        self.filename = filename
        self.error_page: Optional[PSP] = None

    def set_error_page(self, page: str) -> None:
        """Names the page that is run if this one raises an exception.

        A name with a ``/`` in front is below the document root, any other beside this page.
        """
        if page and page.startswith("/"):
            path = self.req.document_root() + page
        else:
            path = os.path.join(os.path.dirname(self.filename or self.req.filename or ""), page)
        self.error_page = PSP(self.req, path)

    def apply_data(self, object: Callable[..., Any], **keywords: Any) -> Any:  # noqa: A002 (mod_python's name)
        """Calls the object with the form's fields as its arguments, and gives what it returns."""
        return util.apply_fs_data(object, _form(self.req), **keywords)

    def redirect(self, location: str, permanent: Any = 0) -> None:
        """Sends the browser elsewhere, and ends the page. An ``OSError`` if something has been sent already."""
        util.redirect(self.req, location, permanent)


_TYPE = "text/html; charset=utf-8"


def _form(req: Any) -> Any:
    """The request's form, made if nobody has made it yet."""
    form = getattr(req, "form", None)
    if form is None:
        form = req.form = util.FieldStorage(req, keep_blank_values=1)
    return form


def handler(req: Any) -> int:
    """Serves the page ``req.filename``. With ``PythonDebug On``, a ``_`` after the name shows it and its Python."""
    req.content_type = _TYPE
    name = req.filename or ""
    if name.endswith("_") and req.get_config().get("PythonDebug") == "1":
        req.write(PSP(req, name[:-1]).display_code())
        return apache.OK
    PSP(req).run()
    return apache.OK
