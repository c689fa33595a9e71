"""The fields of a request: :class:`FieldStorage`."""

from __future__ import annotations

import codecs
import io
import tempfile
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from mod_python import _apache, _headers, _multipart
from mod_python._constants import APLOG_WARNING, HTTP_BAD_REQUEST, HTTP_NOT_IMPLEMENTED
from mod_python._fields import ENCODING, ERRORS, Field, FieldList, StringField
from mod_python._limits import Limits, refuse
from mod_python._multipart import Event, Headers

#: How much of a body is read at once, in bytes.
readBlockSize = 65368  # noqa: N816 (mod_python's name)

URLENCODED = "application/x-www-form-urlencoded"

#: The encodings that a client may ask for. Others are expensive to decode, or are no text encodings at all.
_CLIENT_ENCODINGS = {"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"}


class FieldStorage:
    """The fields of a request's query string and, if it is a ``POST``, of its body.

    ==================  ===============================================================================================
    argument            means
    ==================  ===============================================================================================
    keep_blank_values   fields without a value count; else they are left out (query string and urlencoded body)
    strict_parsing      accepted, without effect
    file_callback       called with the file name of an upload, gives the binary file that its content is written to
    field_callback      called without arguments for every other field of a multipart body, gives a binary file likewise
    encoding, errors    how bytes become ``str``, as for ``bytes.decode``
    max_...             limits, see docs/forms.md; 0 means none; without them the ``PythonOption`` holds
    ==================  ===============================================================================================

    Every ``POST`` body is read whole, so that there is one object for a request: keep it as ``req.form``.

    Raises ``SERVER_RETURN`` with 413 if a limit is exceeded, 400 for a malformed body, 501 for a body of another type.
    """

    list: FieldList

    def __init__(
        self,
        req: Any,
        keep_blank_values: Any = 0,
        strict_parsing: Any = 0,
        file_callback: Optional[Callable[[str], Any]] = None,
        field_callback: Optional[Callable[[], Any]] = None,
        *,
        encoding: Optional[str] = None,
        errors: str = ERRORS,
        max_fields: Optional[int] = None,
        max_field_size: Optional[int] = None,
        max_text_size: Optional[int] = None,
        max_file_size: Optional[int] = None,
        max_header_size: Optional[int] = None,
    ) -> None:
        self.list = FieldList()
        limits = Limits(
            req,
            {
                "max_fields": max_fields,
                "max_field_size": max_field_size,
                "max_text_size": max_text_size,
                "max_file_size": max_file_size,
                "max_header_size": max_header_size,
            },
        )
        encoding = encoding or limits.encoding or ENCODING
        codecs.lookup(encoding)
        reader = _Reader(req, self.list, limits, encoding, errors, bool(keep_blank_values))
        reader.query()
        if req.method == "POST":
            reader.body(file_callback, field_callback)

    # --- one name

    def __getitem__(self, key: str) -> Any:
        """The field of that name; a list if there are several."""
        found = self.list.named(key)
        if not found:
            raise KeyError(key)
        return found[0] if len(found) == 1 else list(found)

    def get(self, key: str, default: Any = None) -> Any:
        """The same; ``default`` if there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def getfirst(self, key: str, default: Any = None) -> Any:
        """The first field of that name; ``default`` if there is none."""
        found = self.list.named(key)
        return found[0] if found else default

    def getlist(self, key: str) -> List[Any]:
        """All fields of that name: a list, which may be empty."""
        return [*self.list.named(key)]

    def has_key(self, key: str) -> bool:
        """Whether there is a field of that name."""
        return bool(self.list.named(key))

    __contains__ = has_key

    def __setitem__(self, key: str, value: Any) -> None:
        """Replaces the fields of that name by one."""
        made = _field(key, value)
        if key in self:
            del self[key]
        self.list.append(made)

    def __delitem__(self, key: str) -> None:
        """Takes the fields of that name out; ``KeyError`` if there is none."""
        self.list.remove_named(key)

    def add_field(self, key: str, value: Any) -> None:
        """Adds a field: ``str``, ``bytes``, or a :class:`Field`."""
        self.list.append(_field(key, value))

    # --- all of them

    def keys(self) -> List[str]:
        """Each name once, in order of first appearance."""
        return self.list.names()

    def items(self) -> List[Tuple[str, Any]]:
        """``(name, field)`` for every field, in the form's order: a name may be there more than once."""
        return [(field.name, field) for field in self.list]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        """How many different names there are."""
        return len(self.list.names())

    def clear(self) -> None:
        """Takes all fields out."""
        self.list.clear()

    def __repr__(self) -> str:
        return f"FieldStorage({self.list!r})"


def _field(name: str, value: Any) -> Any:
    if isinstance(value, (Field, StringField)):
        value.name = name
        return value
    if isinstance(value, (str, bytes, bytearray)):
        return StringField(bytes(value) if isinstance(value, bytearray) else value, name)
    raise TypeError(f"a form's field is str, bytes or Field, not {type(value).__name__}")


def _encoding(asked: Optional[str], default: str) -> str:
    """The encoding that a client asks for, if it is one of those that it may ask for."""
    if asked:
        try:
            name = codecs.lookup(asked).name
        except (LookupError, ValueError):
            return default
        if name in _CLIENT_ENCODINGS:
            return name
    return default


class _Reader:
    """Reads the fields of a request into a list, within limits."""

    def __init__(
        self, req: Any, fields: FieldList, limits: Limits, encoding: str, errors: str, keep_blank: bool
    ) -> None:
        self.req = req
        self.fields = fields
        self.limits = limits
        self.encoding = encoding
        self.errors = errors
        self.keep_blank = keep_blank
        self.text_size = 0

    # --- query strings and urlencoded bodies

    def query(self) -> None:
        """The query string."""
        args = self.req.args
        if args:
            self._pairs(args.encode("utf-8", "surrogateescape"), self.encoding)

    def _pairs(self, text: bytes, encoding: str) -> None:
        limits = self.limits
        self._count_text(len(text))
        room = 0
        if limits.max_fields:
            room = limits.max_fields - len(self.fields)
        try:
            if limits.max_fields and not room:
                # No room is not the parser's "no limit": one field is one too many.
                pairs = _apache._pairs(text, self.keep_blank, 1)
                if pairs:
                    raise OverflowError
            else:
                pairs = _apache._pairs(text, self.keep_blank, room)
        except OverflowError:
            limits.too_large("max_fields", "it has too many fields")
        for name, value in pairs:
            if limits.max_field_size and max(len(value), len(name)) > limits.max_field_size:
                limits.too_large("max_field_size", "the value of a field is too large")
            field = StringField(value, name.decode(encoding, self.errors), encoding, self.errors)
            self.fields.append(field)

    def _count_text(self, more: int) -> None:
        self.text_size += more
        if self.limits.max_text_size and self.text_size > self.limits.max_text_size:
            self.limits.too_large("max_text_size", "its text is too large")

    # --- bodies

    def body(self, file_callback: Any, field_callback: Any) -> None:
        """The body, whatever it is."""
        header = self.req.headers_in.get("Content-Type") or URLENCODED
        kind, options = _headers.parse(header)
        if kind == URLENCODED:
            self._urlencoded(_encoding(options.get("charset"), self.encoding))
        elif kind.startswith("multipart/"):
            boundary = options.get("boundary")
            if not boundary:
                self.limits.malformed("the type of its body names no boundary")
            self._multipart(boundary, file_callback, field_callback)
        else:
            self.req.log_error(f"VIV0060: a form was refused with 501: its body is {kind!r}", APLOG_WARNING)
            raise _apache.SERVER_RETURN(HTTP_NOT_IMPLEMENTED)

    def _pieces(self) -> Iterator[bytes]:
        while True:
            piece = self.req.read(readBlockSize)
            if not piece:
                return
            yield piece

    def _urlencoded(self, encoding: str) -> None:
        body = io.BytesIO()
        most = self.limits.max_text_size
        for piece in self._pieces():
            body.write(piece)
            if most and self.text_size + body.tell() > most:
                break
        self._pairs(body.getvalue(), encoding)

    def _multipart(self, boundary: str, file_callback: Any, field_callback: Any) -> None:
        limits = self.limits
        part: Optional[_Part] = None
        for event in self._events(boundary):
            if event is None:
                assert part is not None
                self.fields.append(part.field())
                part = None
            elif isinstance(event, bytes):
                assert part is not None
                if part.is_file:
                    if limits.max_file_size and part.size + len(event) > limits.max_file_size:
                        limits.too_large("max_file_size", "an uploaded file is too large")
                else:
                    self._count_text(len(event))
                    if limits.max_field_size and part.size + len(event) > limits.max_field_size:
                        limits.too_large("max_field_size", "the value of a field is too large")
                part.write(event)
            else:
                if limits.max_fields and len(self.fields) >= limits.max_fields:
                    limits.too_large("max_fields", "it has too many fields")
                part = _Part(self, event, file_callback, field_callback)

    def _events(self, boundary: str) -> Iterator[Event]:
        limits = self.limits
        try:
            parser = _multipart.parser(boundary, limits.max_header_size or 1 << 62)
            for piece in self._pieces():
                yield from parser.feed(piece)
            yield from parser.end()
        except OverflowError:
            limits.too_large("max_header_size", "the headers of a part are too long")
        except ValueError as error:
            limits.malformed(f"its body is no valid multipart body: {error}")


class _Part:
    """One part of a multipart body while it is read."""

    def __init__(
        self, reader: _Reader, headers: Headers, file_callback: Any, field_callback: Any
    ) -> None:
        encoding, errors = reader.encoding, reader.errors
        self.size = 0
        self.errors = errors
        self.headers: Dict[str, str] = {}
        for name, value in headers:
            title = "-".join(word.capitalize() for word in name.split("-"))
            self.headers.setdefault(title, value.decode(encoding, errors))
        self.disposition, self.options = _headers.parse(self.headers.get("Content-Disposition", ""))
        self.type, self.type_options = _headers.parse(self.headers.get("Content-Type", "text/plain"))
        if "name" not in self.options:
            refuse(reader.req, HTTP_BAD_REQUEST, "a part of its body has no name")
        self.name = self.options["name"]
        if "filename*" in self.options and "filename" not in self.options:
            self.options["filename"] = _headers.extended(self.options["filename*"])
        self.filename = self.options.get("filename")
        self.is_file = self.filename is not None
        self.encoding = _encoding(self.type_options.get("charset"), encoding)
        if self.is_file:
            if callable(file_callback):
                self.file = file_callback(self.filename)
            else:
                self.file = tempfile.TemporaryFile("w+b", dir=reader.limits.upload_directory)
        else:
            self.own = not callable(field_callback)
            self.file = io.BytesIO() if self.own else field_callback()

    def write(self, data: bytes) -> None:
        """Takes some of the data."""
        self.file.write(data)
        self.size += len(data)

    def field(self) -> Any:
        """The field that it has become."""
        self.file.seek(0)
        made: Any
        if self.is_file:
            made = Field(self.name)
            made.filename = self.filename
            made.file = self.file
        else:
            value = self.file.read()
            made = StringField(value, self.name, self.encoding, self.errors)
            if not self.own:
                self.file.seek(0)
                made.file = self.file
        made.type, made.type_options = self.type, self.type_options
        made.disposition, made.disposition_options = self.disposition, self.options
        made.headers = self.headers
        return made
