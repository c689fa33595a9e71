"""How an exception of a handler is shown: in the error log, and on the page of ``PythonDebug On``."""

from __future__ import annotations

import html
import importlib
import os
from traceback import StackSummary, TracebackException
from typing import List, Optional, Set

_HERE = os.path.dirname(os.path.abspath(__file__))
#: Files whose frames say nothing to the author of a handler: the road from the dispatcher to the handler.
_HIDDEN = {os.path.join(_HERE, name) for name in ("_dispatch.py", "_importer.py", "_managed.py", "apache.py")}
_HIDDEN.add(importlib.__file__)

_HEAD = "Traceback (most recent call last):"


def chunks(error: BaseException) -> List[str]:
    """The traceback as :func:`traceback.format_exception` gives it, less the frames of this package and of importlib.

    Never raises: an exception that cannot even be formatted is named by its type.
    """
    try:
        report = TracebackException.from_exception(error)
        _strip(report, set())
        parts = list(report.format())
        if _HEAD not in parts[0]:
            parts.insert(0, _HEAD + "\n")
        return parts
    except Exception as problem:
        return [f"{type(error).__name__} (its traceback cannot be shown: {type(problem).__name__})\n"]


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
