"""One input of a form: :class:`Field` (an uploaded file) and :class:`StringField` (anything else), and their list."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, Optional, Union

#: How text is read if nothing says otherwise.
ENCODING, ERRORS = "utf-8", "replace"


class Field:
    """An uploaded file.

    ===================  =================================================================================
    attribute            is
    ===================  =================================================================================
    name                 the input's name, ``str``
    filename             the file's name as the client gave it, ``str``: never use it as a path unchecked
    file                 a binary file with the content, at its beginning; gone when the field is
    value                the whole content as ``bytes``, read into memory
    type, type_options   the content type (``text/plain`` if the client gave none), and its parameters
    disposition          ``form-data``
    disposition_options  the parameters of ``Content-Disposition``, as a dictionary of ``str``
    headers              the part's headers, a dictionary of ``str`` with names such as ``Content-Type``
    ===================  =================================================================================
    """

    name: str
    filename: Optional[str] = None
    file: Any = None
    type: str = "text/plain"
    disposition: Optional[str] = None
    type_options: Dict[str, str]
    disposition_options: Dict[str, str]
    headers: Dict[str, str]

    def __init__(self, name: str) -> None:
        self.name = name
        self.type_options = {}
        self.disposition_options = {}
        self.headers = {}

    @property
    def value(self) -> bytes:
        """The whole content. Large files are better read from :attr:`file`."""
        if self.file is None:
            return b""
        self.file.seek(0)
        content = self.file.read()
        self.file.seek(0)
        return content  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        size = f", {self.filename!r}" if self.filename is not None else ""
        return f"Field({self.name!r}{size})"

    def __del__(self) -> None:
        # A file that an application's `file_callback` made may do its tidying up here.
        close = getattr(self.__dict__.get("file"), "close", None)
        if close is not None:
            with contextlib.suppress(Exception):
                close()


class StringField(str):
    """The value of an input that is no file: a ``str`` with a few attributes more.

    ``value`` is the plain ``str``, ``file`` a text file with it, ``filename`` is ``None``; the other attributes are
    those of :class:`Field`.
    """

    name: Optional[str] = None
    filename: None = None
    type: str = "text/plain"
    disposition: Optional[str] = None
    type_options: Dict[str, str]
    disposition_options: Dict[str, str]
    headers: Dict[str, str]

    def __new__(
        cls,
        value: Union[str, bytes] = "",
        name: Optional[str] = None,
        encoding: str = ENCODING,
        errors: str = ERRORS,
    ) -> "StringField":
        """A field of text, or of bytes that are decoded."""
        if isinstance(value, (bytes, bytearray)):
            value = bytes(value).decode(encoding, errors)
        made = super().__new__(cls, value)
        made.name = name
        return made

    @property
    def value(self) -> str:
        """The plain string."""
        return str.__str__(self)

    def __str__(self) -> str:
        return str.__str__(self)

    def __getattr__(self, name: str) -> Any:
        """What few programs ask for is made when it is asked for."""
        if name in ("type_options", "disposition_options", "headers"):
            made: Any = {}
        elif name == "file":
            made = io.StringIO(self.value)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        setattr(self, name, made)
        return made

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {self.value!r})"

    def __reduce__(self) -> Any:
        return type(self), (self.value, self.name)


AnyField = Union[Field, StringField]


class FieldList(List[Any]):
    """The fields of a form in order. Looking a name up is quick: an index is kept until the list changes."""

    _index: Optional[Dict[str, List[Any]]] = None

    def named(self, name: str) -> List[Any]:
        """The fields of that name, in order."""
        return self._table().get(name, [])

    def names(self) -> List[str]:
        """Each name once, in order of first appearance."""
        return list(self._table())

    def _table(self) -> Dict[str, List[Any]]:
        if self._index is None:
            table: Dict[str, List[Any]] = {}
            for field in self:
                table.setdefault(field.name, []).append(field)
            self._index = table
        return self._index

    def append(self, field: Any) -> None:
        """Adds a field at the end."""
        super().append(field)
        if self._index is not None:
            self._index.setdefault(field.name, []).append(field)

    def remove_named(self, name: str) -> None:
        """Takes all fields of that name out; ``KeyError`` if there is none."""
        if name not in self._table():
            raise KeyError(name)
        self[:] = [field for field in self if field.name != name]


def _forgetting(method: str) -> Any:
    """A method of ``list`` that changes it, after which the index is made anew."""
    original = getattr(list, method)

    def change(self: FieldList, *args: Any, **kwargs: Any) -> Any:
        self._index = None
        return original(self, *args, **kwargs)

    change.__name__ = method
    change.__doc__ = original.__doc__
    return change


for _method in (
    "__setitem__", "__delitem__", "__iadd__", "__imul__", "extend", "insert", "pop", "remove", "clear", "reverse",
    "sort",
):
    setattr(FieldList, _method, _forgetting(_method))
