"""Header values with parameters: ``form-data; name="a"; filename="b"``."""

from __future__ import annotations

import re
from typing import Any, Dict, Tuple
from urllib.parse import unquote_to_bytes

_NAME = re.compile(r'\s*([^=;\s"]+)\s*=\s*')
_QUOTED = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')


def parse(line: str) -> Tuple[str, Dict[str, str]]:
    """The main value in lower case, and the parameters with their names in lower case.

    A parameter that appears twice counts once, the first time. Backslashes escape quotes and backslashes alone: old
    browsers send whole Windows paths. A quoted value that is never closed goes to the end of the line.
    """
    main, _, _ = line.partition(";")
    found: Dict[str, str] = {}
    at = len(main)
    # Every step goes forward, whatever the line is: it may come from an attacker.
    while at < len(line):
        at += 1
        name = _NAME.match(line, at)
        end = line.find(";", at)
        end = len(line) if end < 0 else end
        if name is not None:
            if line.startswith('"', name.end()):
                quoted = _QUOTED.match(line, name.end() + 1)
                value, at = (quoted.group(), quoted.end()) if quoted else ("", end)
                end = line.find(";", at)
                end = len(line) if end < 0 else end
                value = _ESCAPED.sub(r"\1", value)
            else:
                value = line[name.end() : max(name.end(), end)].strip()
            found.setdefault(name[1].lower(), value)
        at = end
    return main.strip().lower(), found


def extended(value: str) -> str:
    """A parameter of RFC 5987: ``UTF-8''na%C3%AFve.txt``. What has another form is given back as it is."""
    charset, quote, rest = value.partition("'")
    _, second, text = rest.partition("'")
    if not (quote and second) or charset.lower() not in ("utf-8", "iso-8859-1"):
        return value
    return unquote_to_bytes(text).decode(charset, "replace")


def parse_header(line: Any) -> Any:
    """The main value and the parameters of a header.

    ``str`` gives ``(str, {str: str})``. ``bytes`` give ``(bytes, {bytes: str})``, which is what mod_python gives.
    """
    if isinstance(line, str):
        return parse(line)
    if not isinstance(line, (bytes, bytearray)):
        raise TypeError(f"parse_header() takes str or bytes, not {type(line).__name__}")
    main, found = parse(bytes(line).decode("utf-8", "surrogateescape"))
    return (
        main.encode("utf-8", "surrogateescape"),
        {
            name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            for name, value in found.items()
        },
    )
