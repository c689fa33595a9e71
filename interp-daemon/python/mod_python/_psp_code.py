"""Compiles the Python of PSP pages so that tracebacks and syntax errors show the lines of the pages themselves."""

from __future__ import annotations

import ast
import bisect
import itertools
import linecache
import re
import sys
import threading
from collections import OrderedDict
from types import CodeType, TracebackType
from typing import Any, List, Optional, Tuple

from mod_python._psp_parser import Generated, Mark, PSPSyntaxError, Source

#: Sources that are no files, kept for tracebacks at most.
_SHOWN = 64

_shown: "OrderedDict[str, None]" = OrderedDict()
_lock = threading.Lock()


class Page:
    """A compiled page."""

    __slots__ = ("code", "names", "sources")

    def __init__(self, code: CodeType, sources: List[Source]) -> None:
        self.code = code
        self.sources = sources
        #: All names that its code uses, functions in it included.
        self.names = _names(code)


def compile_page(made: Generated) -> Page:
    """The page's code. A syntax error names the file and the line in which it is."""
    sources = made.sources
    name = sources[0].name
    try:
        tree = ast.parse(made.text, name)
        _move(tree, made.marks)
        code = compile(tree, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        _correct(error, made)
        raise error.with_traceback(None) from None
    except ValueError as error:
        # What no Python can have in it: NUL, half a surrogate pair.
        raise PSPSyntaxError(str(error), (name, 1, None, None)) from None
    except (RecursionError, MemoryError):
        raise PSPSyntaxError("too deep for Python's compiler", (name, 1, None, None)) from None
    return Page(code, sources)


def _names(code: CodeType) -> frozenset:  # type: ignore[type-arg]
    found = set(code.co_names)
    for value in code.co_consts:
        if isinstance(value, CodeType):
            found |= _names(value)
    return frozenset(found)


# --- places -----------------------------------------------------------------------------------------------------------


def _place(marks: List[Mark], line: int, column: int) -> Tuple[int, int]:
    """Where (line and column in bytes, in the sequence of all sources) a place in the Python came from."""
    at = bisect.bisect_right(marks, (line, column, sys.maxsize, 0)) - 1
    if at < 0:
        return (line, column)
    mark = marks[at]
    if mark.line == line:
        column += mark.source_column - mark.column
    return (mark.source_line + line - mark.line, max(column, 0))


def _move(tree: ast.AST, marks: List[Mark]) -> None:
    """Gives every node the place that it came from."""
    for node in ast.walk(tree):
        any_node: Any = node
        if not hasattr(node, "lineno"):
            continue
        begin = _place(marks, any_node.lineno, any_node.col_offset)
        any_node.lineno, any_node.col_offset = begin
        if getattr(node, "end_lineno", None) is not None:
            # A level that was opened in an included file may end before it, by number.
            end = max(begin, _place(marks, any_node.end_lineno, any_node.end_col_offset))
            any_node.end_lineno, any_node.end_col_offset = end


def source_of(sources: List[Source], line: int) -> Tuple[Source, int]:
    """The source that has the line of the sequence, and the line's number there."""
    at = bisect.bisect_left([source.offset for source in sources], line) - 1
    source = sources[max(at, 0)]
    return (source, line - source.offset)


def _correct(error: SyntaxError, made: Generated) -> None:
    """Makes a syntax error one of the page."""
    if error.lineno is None:
        return
    lines = made.text.split("\n")

    def found(line: int, offset: Optional[int]) -> Tuple[Source, int, int]:
        text = lines[line - 1] if 0 < line <= len(lines) else ""
        column = len(text[: (offset or 1) - 1].encode("utf-8", "surrogatepass"))
        source, number = source_of(made.sources, (place := _place(made.marks, line, column))[0])
        return (source, number, place[1])

    def number_of(match: Any) -> str:
        source, number, _ = found(int(match.group(1)), 1 << 30)
        return f"on line {number}" if source is made.sources[0] else f"on line {number} of {source.name}"

    source, number, column = found(error.lineno, error.offset)
    text = _line(source, number)
    at = len(text.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "ignore")) + 1
    error.msg = re.sub(r"on line (\d+)", number_of, error.msg)
    end = getattr(error, "end_lineno", None)
    if end == error.lineno and error.offset and getattr(error, "end_offset", None):
        error.end_offset = at + max(error.end_offset - error.offset, 0)  # type: ignore
        error.end_lineno = number  # type: ignore[attr-defined]
    elif end is not None:
        error.end_lineno, error.end_offset = number, at  # type: ignore[attr-defined]
    error.filename, error.lineno, error.offset, error.text = source.name, number, at, text + "\n"


def _line(source: Source, number: int) -> str:
    lines = source.text.split("\n")
    return lines[number - 1] if 0 < number <= len(lines) else ""


# --- tracebacks -------------------------------------------------------------------------------------------------------


def show_lines(sources: List[Source]) -> None:
    """Has tracebacks show the lines of sources that are no files."""
    for source in sources:
        if not source.name.startswith("<"):
            continue
        lines = [line + "\n" for line in source.text.split("\n")]
        with _lock:
            linecache.cache[source.name] = (len(source.text), None, lines, source.name)
            _shown.pop(source.name, None)
            _shown[source.name] = None
            if len(_shown) > _SHOWN:
                linecache.cache.pop(_shown.popitem(last=False)[0], None)


def correct_traceback(error: BaseException, page: Page) -> None:
    """Takes the caller's frame off an error, and makes those that ran included files name these, with their own lines."""
    show_lines(page.sources)
    name = page.sources[0].name
    frames = []
    walk = None if error.__traceback__ is None else error.__traceback__.tb_next
    while walk is not None:
        frames.append(walk)
        walk = walk.tb_next
    rest: Optional[TracebackType] = None
    for frame in reversed(frames):
        one: TracebackType = frame
        if frame.tb_frame.f_code.co_filename == name:
            source, line = source_of(page.sources, frame.tb_lineno)
            if source is not page.sources[0]:
                one = _stand_in(frame, source.name, line) or frame
        if one.tb_next is not rest:
            one.tb_next = rest
        rest = one
    error.__traceback__ = rest


def _stand_in(frame: TracebackType, filename: str, line: int) -> Optional[TracebackType]:
    """A traceback entry as the frame's, but in that file and line."""
    code = frame.tb_frame.f_code
    begin, end = 0, 0
    if hasattr(code, "co_positions"):
        places = next(itertools.islice(code.co_positions(), frame.tb_lasti // 2, None), None)
        if places and places[0] == places[1] and places[2] is not None and places[3] is not None:
            begin, end = places[2], places[3]
    made = ast.parse("raise _error")
    for node in ast.walk(made):
        any_node: Any = node
        if hasattr(node, "lineno"):
            any_node.lineno = any_node.end_lineno = line
            any_node.col_offset, any_node.end_col_offset = begin, end
    stand_in = compile(made, filename, "exec")
    if hasattr(stand_in, "replace"):
        stand_in = stand_in.replace(co_name=code.co_name)
    # The frame's variables are not copied: they may be large, and are of no use to a log.
    try:
        exec(stand_in, {"_error": _StandInError()})  # noqa: S102 (the line above)
    except _StandInError as error:
        own = error.__traceback__
        return None if own is None else own.tb_next
    return None


class _StandInError(Exception):
    """Raised to get a traceback entry."""
