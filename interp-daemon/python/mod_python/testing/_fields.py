"""The scalar attributes of the request double: one row for each row of the protocol's field list, tested equal."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from mod_python import _table
from mod_python.testing._objects import FileInfo

#: Name, type, and whether programs may assign it. The types are those of ``protocol/src/fields.rs``.
FIELDS: Tuple[Tuple[str, str, bool], ...] = (
    ("the_request", "OptStr", False),
    ("assbackwards", "Int", True),
    ("header_only", "Int", False),
    ("protocol", "OptStr", False),
    ("proto_num", "Int", False),
    ("hostname", "OptStr", False),
    ("request_time", "Seconds", False),
    ("status_line", "OptStr", True),
    ("status", "Int", True),
    ("method", "OptStr", False),
    ("method_number", "Int", False),
    ("allowed", "Int", False),
    ("allowed_xmethods", "Tuple", False),
    ("allowed_methods", "Tuple", False),
    ("sent_bodyct", "Int", False),
    ("bytes_sent", "Int", False),
    ("mtime", "Seconds", False),
    ("chunked", "Int", True),
    ("range", "OptStr", False),
    ("clength", "Int", False),
    ("remaining", "Int", False),
    ("read_length", "Int", False),
    ("read_body", "Int", False),
    ("read_chunked", "Int", False),
    ("expecting_100", "Int", False),
    ("content_type", "OptStr", True),
    ("handler", "OptStr", True),
    ("content_encoding", "OptStr", False),
    ("content_languages", "Tuple", False),
    ("vlist_validator", "OptStr", False),
    ("user", "OptStr", True),
    ("ap_auth_type", "OptStr", True),
    ("no_cache", "Int", True),
    ("no_local_copy", "Int", True),
    ("unparsed_uri", "OptStr", False),
    ("uri", "OptStr", True),
    ("filename", "OptStr", True),
    ("canonical_filename", "OptStr", True),
    ("path_info", "OptStr", True),
    ("args", "OptStr", True),
    ("parsed_uri", "Tuple", False),
    ("used_path_info", "Int", True),
    ("eos_sent", "Int", False),
    ("proxyreq", "Int", True),
    ("useragent_addr", "Tuple", False),
    ("useragent_ip", "OptStr", False),
    ("finfo", "Tuple", True),
)

_DEFAULTS = {"Int": 0, "Seconds": 0.0, "Tuple": ()}
_MAY_BE_NONE = ("handler", "args")


def defaults() -> Dict[str, Any]:
    """The values of a request of which nothing was said."""
    values = {name: _DEFAULTS.get(kind) for name, kind, _ in FIELDS}
    values["finfo"] = FileInfo()
    return values


class Field:
    """An attribute: reads the request's value, and refuses what the real one refuses."""

    def __init__(self, name: str, kind: str, writable: bool) -> None:
        self._name = name
        self._kind = kind
        self._writable = writable

    def __get__(self, req: Any, owner: Any = None) -> Any:
        return self if req is None else req._values[self._name]

    def __set__(self, req: Any, value: Any) -> None:
        if not self._writable:
            raise AttributeError(f"attribute '{self._name}' of 'mp_request' objects is not writable")
        req._values[self._name] = self._checked(value)
        if self._name == "content_type":
            req._type_set = 1

    def __delete__(self, req: Any) -> None:
        if self._writable:
            raise TypeError("can't delete numeric/char attribute")
        raise AttributeError(f"attribute '{self._name}' of 'mp_request' objects is not writable")

    def _checked(self, value: Any) -> Any:
        if self._name == "finfo":
            if not isinstance(value, FileInfo):
                raise TypeError("finfo must be an mp_finfo, as apache.stat() gives it")
            return value
        if self._kind == "Int":
            if not isinstance(value, int):
                raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
            return int(value)
        if value is None and self._name in _MAY_BE_NONE:
            return None
        if self._name == "user" and isinstance(value, str):
            _table.latin1(value)
            return value
        return _table.latin1(value)
