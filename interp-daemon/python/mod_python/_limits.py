"""How large a form may be, and how a form that cannot be taken is refused."""

from __future__ import annotations

import re
from typing import Any, Dict, NoReturn, Optional

from mod_python._apache import SERVER_RETURN
from mod_python._constants import APLOG_WARNING, HTTP_BAD_REQUEST, HTTP_REQUEST_ENTITY_TOO_LARGE

#: The first part of the names of options.
PREFIX = "mod_python.forms."

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SIZE = re.compile(r"([0-9]{1,15})\s*([KMG]?)B?", re.IGNORECASE | re.ASCII)

#: Limits by name: what is meant, and how much it is if nothing is said. 0 means: no limit.
DEFAULTS: Dict[str, int] = {
    # Fields of all kinds, from the query string and the body together.
    "max_fields": 1000,
    # Bytes of the value of one field that is no file.
    "max_field_size": 4 * 1024**2,
    # Bytes of all that is no file: query string, urlencoded body, values of a multipart body.
    "max_text_size": 16 * 1024**2,
    # Bytes of one uploaded file.
    "max_file_size": 0,
    # Bytes of the headers of one part of a multipart body.
    "max_header_size": 16 * 1024,
}


class Limits:
    """The limits that hold for one form: keyword arguments before options before the defaults."""

    max_fields: int
    max_field_size: int
    max_text_size: int
    max_file_size: int
    max_header_size: int

    def __init__(self, req: Any, given: Dict[str, Optional[int]]) -> None:
        self.req = req
        options = options_of(req)
        for name, default in DEFAULTS.items():
            value = given.get(name)
            if value is None:
                said = options.get(PREFIX + name)
                value = size(PREFIX + name, said) if said else default
            elif value < 0:
                raise ValueError(f"{name} must not be negative: {value!r}")
            setattr(self, name, value)
        #: Where uploaded files are until the request ends; ``None``: where Python's ``tempfile`` puts them.
        self.upload_directory: Optional[str] = options.get(PREFIX + "upload_directory") or None
        #: How text is read if the client does not say.
        self.encoding: Optional[str] = options.get(PREFIX + "encoding") or None

    def too_large(self, name: str, what: str) -> NoReturn:
        """Refuses the form: a limit is exceeded."""
        limit = getattr(self, name)
        refuse(self.req, HTTP_REQUEST_ENTITY_TOO_LARGE, f"{what}; PythonOption {PREFIX}{name} is {limit}")

    def malformed(self, why: str) -> NoReturn:
        """Refuses the form: it is not what it says it is."""
        refuse(self.req, HTTP_BAD_REQUEST, why)


def options_of(req: Any) -> Any:
    """The options that hold for a request."""
    get = getattr(req, "get_options", None)
    return {} if get is None else get()


def size(name: str, text: str) -> int:
    """A number of bytes or things as an option says it: ``4194304`` or ``4M``."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"PythonOption {name} must be a number, with K, M or G behind it or without, not {text!r}")
    return int(found[1]) * _UNITS[found[2].upper()]


def refuse(req: Any, status: int, why: str) -> NoReturn:
    """Ends the request with a status, and says why in the error log."""
    req.log_error(f"VIV0060: a form was refused with {status}: {why}", APLOG_WARNING)
    raise SERVER_RETURN(status)
