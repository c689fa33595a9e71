"""JSON for values that must come back as they were, and without the power of pickle.

What JSON knows is written as JSON has it. ``tuple``, ``set``, ``frozenset``, ``bytes``, ``datetime``, ``date``,
``timedelta``, ``Decimal``, ``UUID`` and dictionaries whose keys are no strings are written as ``{"": [name, value]}``;
a dictionary with the single key ``""`` is written that way too. Anything else is a :class:`NotJson` that says where it
is. Reading builds nothing but these types: text from a stranger cannot run code.
"""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Callable, Dict, List, Tuple
from uuid import UUID

#: How deep values may be nested.
DEPTH = 100


class NotJson(TypeError):
    """A value that this JSON cannot represent."""


def dumps(value: Any, root: str = "value") -> str:
    """The value as text. ``root`` is what the value is called in an error: ``session['cart'][2]``."""
    return json.dumps(_plain(value, root, 0), separators=(",", ":"))


def loads(text: Any) -> Any:
    """The value; ``ValueError`` if it is none."""
    try:
        return _rich(json.loads(text), 0)
    except (TypeError, KeyError, IndexError, ArithmeticError, RecursionError, AttributeError) as error:
        raise ValueError(f"no such JSON: {error}") from error


# --- writing

_WRITERS: List[Tuple[type, str, Callable[[Any], Any]]] = [
    # In this order: a datetime is a date.
    (datetime, "datetime", lambda value: value.isoformat()),
    (date, "date", lambda value: value.isoformat()),
    (timedelta, "timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    (bytes, "bytes", lambda value: base64.b64encode(value).decode("ascii")),
    (Decimal, "decimal", str),
    (UUID, "uuid", str),
]


def _plain(value: Any, where: str, depth: int) -> Any:
    if depth > DEPTH:
        raise NotJson(f"{where} is nested more than {DEPTH} deep")
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and list(value) != [""]:
            return {
                str.__str__(key): _plain(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()
            }
        pairs = [
            [_plain(key, f"a key of {where}", depth + 1), _plain(item, f"{where}[{key!r}]", depth + 1)]
            for key, item in value.items()
        ]
        return {"": ["dict", pairs]}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_plain(item, f"{where}[{number}]", depth + 1) for number, item in enumerate(value)]
        for kind in (tuple, set, frozenset):
            if isinstance(value, kind):
                return {"": [kind.__name__, items]}
        return items
    for known, name, write in _WRITERS:
        if isinstance(value, known):
            return {"": [name, write(value)]}
    raise NotJson(f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which JSON cannot represent")


# --- reading

_READERS: Dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "decimal": Decimal,
    "uuid": UUID,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}


def _rich(value: Any, depth: int) -> Any:
    if depth > 3 * DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, list):
        return [_rich(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if list(value) != [""]:
            return {key: _rich(item, depth + 1) for key, item in value.items()}
        name, content = value[""]
        return _READERS[name](_rich(content, depth + 1))
    return value
