"""How an exception of a handler is shown: in the error log, and on the page of ``PythonDebug On``."""

from __future__ import annotations

import copy
import html
import importlib
import os
from traceback import StackSummary, TracebackException
from typing import Any, List, Optional, Set

_HERE = os.path.dirname(os.path.abspath(__file__))
#: Files whose frames say nothing to the author of a handler: the road from the dispatcher to the handler.
_ROAD = (
    "_cgi.py",
    "_dispatch.py",
    "_importer.py",
    "_managed.py",
    "_providers.py",
    "_psp_code.py",
    "_publish.py",
    "_ssi.py",
    "_wsgi.py",
    "apache.py",
    "cgihandler.py",
    "psp.py",
    "publisher.py",
    "wsgi.py",
)
_HIDDEN = {os.path.join(_HERE, name) for name in _ROAD}
_HIDDEN.add(importlib.__file__)

#: The attribute of an error that has the chunks of its traceback.
_KEPT = "_vivarium_traceback"
_HEAD = "Traceback (most recent call last):"
_CHAINED = {
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
}


def chunks(error: BaseException) -> List[str]:
    """The traceback as :func:`traceback.format_exception` gives it, less the frames of this package and of importlib.

    Never raises: an exception that cannot even be formatted is named by its type.
    """
    kept = getattr(error, "__dict__", {}).get(_KEPT)
    if kept is not None:
        return list(kept)
    try:
        report = TracebackException.from_exception(error)
        _strip(report, set())
        return _with_heads(list(report.format()))
    except Exception as problem:
        return [f"{type(error).__name__} (its traceback cannot be shown: {type(problem).__name__})\n"]


def copy_of(error: BaseException) -> BaseException:
    """The same error without its traceback, and with the text of it for :func:`chunks`.

    For errors that are kept: a traceback keeps all that its frames, and the frames that called these, hold. An error
    that cannot be copied is emptied instead.
    """
    parts = chunks(error)
    kind: Any = type(error)
    made = error
    ways: Any = (lambda: copy.copy(error), lambda: kind.__new__(kind, *error.args))
    for way in ways:
        try:
            found = way()
        except Exception:
            continue
        if type(found) is kind:
            made = found
            break
    made.__cause__ = made.__context__ = None
    made.__traceback__ = None
    made.__dict__[_KEPT] = parts
    return made


def _with_heads(parts: List[str]) -> List[str]:
    """Puts back the line that Python leaves out above an exception without frames: tools look for it."""
    found: List[str] = []
    begins = True
    for part in parts:
        if begins and _HEAD not in part:
            found.append(_HEAD + "\n")
        found.append(part)
        begins = part.strip() in _CHAINED
    return found


def _strip(report: Optional[TracebackException], seen: Set[int]) -> None:
    if report is None or id(report) in seen:
        return
    seen.add(id(report))
    if report.stack:
        report.stack = StackSummary.from_list([f for f in report.stack if _shown(f.filename)])
    _strip(report.__cause__, seen)
    _strip(report.__context__, seen)
    for member in getattr(report, "exceptions", None) or ():
        _strip(member, seen)


def _shown(filename: str) -> bool:
    return filename not in _HIDDEN and not filename.startswith("<frozen importlib")


def log_lines(parts: List[str]) -> List[str]:
    """The lines of the chunks, without empty ones, fit for an error log."""
    return [loggable(line) for part in parts for line in part.split("\n") if line]


def loggable(text: str) -> str:
    """The text with what a log line cannot hold written as escapes."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def page(title: str, parts: List[str]) -> bytes:
    """The page that ``PythonDebug On`` shows. ``title`` is the directive and the handler."""
    shown = "".join(html.escape(part) + "\n" for part in parts)
    text = f'\n<pre>\nMod_python error: "{title}"\n\n{shown}</pre>\n'
    return text.encode("utf-8", "backslashreplace")
