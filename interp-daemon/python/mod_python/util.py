"""Forms, and a few other things that handlers need: ``from mod_python import util``.

================================  ==================================================================================
:class:`FieldStorage`             the fields of a request: query string, urlencoded and multipart bodies
:class:`Field`                    an uploaded file
:class:`StringField`              any other field: a ``str``
:func:`parse_qs`, `parse_qsl`     query strings
:func:`parse_header`              header values with parameters
:func:`redirect`                  sends the client elsewhere
:func:`apply_fs_data`             calls something with the fields as arguments
================================  ==================================================================================

The manual has a page: docs/forms.md.
"""

from __future__ import annotations

import inspect
from html import escape
from typing import Any, Callable, Dict, NoReturn, Optional
from urllib.parse import quote

from mod_python._apache import SERVER_RETURN, parse_qs as parse_qs, parse_qsl as parse_qsl
from mod_python._constants import DONE, HTTP_MOVED_PERMANENTLY, HTTP_MOVED_TEMPORARILY
from mod_python._fields import Field as Field, FieldList as FieldList, StringField as StringField
from mod_python._forms import FieldStorage as FieldStorage, readBlockSize as readBlockSize
from mod_python._headers import parse_header as parse_header

# Everything of printable ASCII stays as it is in a location; the rest, and spaces, are escaped.
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def redirect(req: Any, location: str, permanent: Any = 0, text: Optional[str] = None) -> NoReturn:
    """Sends the client to another place: 302, or 301 if ``permanent``; ends the handler.

    ``text`` is the body, for clients that do not follow. Cookies and other ``err_headers_out`` are sent along.

    Raises ``SERVER_RETURN`` always; ``OSError`` if the answer has begun; ``ValueError`` for a location with a line
    break or another control character in it, so that what a client sent can be used as a part of one.
    """
    if req.sent_bodyct:
        raise OSError("Cannot redirect after headers have already been sent.")
    if any(character < " " or character == "\x7f" for character in location):
        raise ValueError(f"a location must not have control characters in it: {location!r}")
    location = quote(location, safe=_PRINTABLE)
    req.err_headers_out["Location"] = location
    req.status = HTTP_MOVED_PERMANENTLY if permanent else HTTP_MOVED_TEMPORARILY
    if text is None:
        req.write(f'<p>The document has moved <a href="{escape(location)}">here</a></p>\n')
    else:
        req.write(text)
    raise SERVER_RETURN(DONE)


def apply_fs_data(object: Callable[..., Any], fs: FieldStorage, **args: Any) -> Any:  # noqa: A002 (mod_python's name)
    """Calls ``object`` with the fields that it has parameters for, and with ``args``; returns what it returns.

    A field is given as ``str``, an uploaded file as :class:`Field`, fields of one name as a list. Fields and ``args``
    without a parameter are left out, unless the object takes ``**kwargs``. A field never replaces one of ``args``.
    """
    given: Dict[str, Any] = {}
    for name in fs.keys():
        values = [field if isinstance(field, Field) else field.value for field in fs.getlist(name)]
        given[name] = values[0] if len(values) == 1 else values
    given.update(args)
    wanted = _parameters(object)
    if wanted is not None:
        given = {name: value for name, value in given.items() if name in wanted}
    return object(**given)


def _parameters(callee: Callable[..., Any]) -> Optional[Dict[str, Any]]:
    """The names that it can be called with; ``None`` if it takes any."""
    try:
        parameters = inspect.signature(callee).parameters
    except (TypeError, ValueError):
        # Built in, and silent about its parameters.
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in named}
