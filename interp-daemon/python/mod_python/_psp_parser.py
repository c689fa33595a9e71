"""Turns PSP pages into Python: what a page consists of, and the Python text that is made of it.

A page is text with blocks in it: ``<% code %>``, ``<%= expression %>``, ``<%== expression %>`` (never escaped),
``<%@ directive %>`` and ``<%-- comment --%>``. Text becomes ``req.write(\"\"\"...\"\"\",0)``, and code is copied. How deep
text is indented follows from the code before it:

* A code block with a line end in it says where it stands: text after it has the indentation of the block's last line,
  one level more if that line opens one (``for x in y:``). Two line ends at its end, or nothing but white space in it,
  are the page's margin.
* A code block in one line stands where the text around it does. If it opens a level, what follows is one level deeper,
  until ``<% end %>`` or until ``<% else: %>`` and its like; code of several lines counts from that level then.
* A statement of several lines in a block that has nothing else stands, like a short block, where the text does.

Statements of one source line are joined by ``;`` where Python allows that, so the Python mostly has the line numbers of
the page. Where it has not, :class:`Generated` knows where each piece came from, which is also how included files are
told apart.
"""

from __future__ import annotations

import bisect
import io
import keyword
import os
import re
import tokenize
from typing import Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

#: Includes within includes at most.
DEEPEST = 50
#: Bytes of all sources of a page at most: a page that includes the same file again and again is a mistake.
LARGEST = 64 << 20

_BLOCK = re.compile(r"<%(--|@|==|=|)")
_ENDS = {"--": "--%>"}
_DIRECTIVE = re.compile(r"\s*(\w+)\s*(.*)\Z", re.S)
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')\s*")
_COMPOUND = re.compile(
    r"[ \t]*(?:@|(?:if|for|while|try|with|def|class|async|else|elif|except|finally)\b|(?:match|case)\b[^=;]*:)"
)
_CONTINUES = re.compile(r"(?:else|elif|except|finally)\b")
_END = re.compile(r"end(?:\s+(\w+))?\s*(?:#.*)?\Z")
_MARGIN = re.compile(r"[ \t]*")
_SWITCH = {"on": True, "1": True, "true": True, "yes": True, "off": False, "0": False, "false": False, "no": False}


class PSPSyntaxError(SyntaxError):
    """A page that is wrong as such, before its Python is looked at. It says the file and the line as any syntax error."""


class Source(NamedTuple):
    """A file that a page was made of, the page itself first."""

    name: str
    text: str
    #: What its lines' numbers are counted from: those of all sources are one sequence.
    offset: int


class Mark(NamedTuple):
    """From here on (line, column in bytes) the Python was made of a source at that line (in the sequence) and column."""

    line: int
    column: int
    source_line: int
    source_column: int


class Generated(NamedTuple):
    """A page's Python, and where it came from."""

    text: str
    marks: List[Mark]
    sources: List[Source]


class _Level(NamedTuple):
    """A level that a block in one line has opened."""

    base: str
    indent: str
    opener: Optional[str]
    line: int
    source: Source
    #: How much Python there was when it began: if there is no more at its end, it needs a ``pass``.
    begun: int


def normal(text: str) -> str:
    """The text with line feeds only, and without the mark of UTF-8 at its beginning."""
    text = text.replace("\r\n", "\n")
    return text[1:] if text.startswith("\ufeff") else text


class Generator:
    """Makes the Python of one page.

    ``read(name, beside)`` gives the path and the text of an included file; ``beside`` are the directories in which a
    relative name is looked for.
    """

    def __init__(
        self,
        name: str,
        text: str,
        read: Callable[[str, List[str]], Tuple[str, str]],
        directory: Optional[str],
        autoescape: bool = False,
    ) -> None:
        self._read = read
        self._directory = directory
        self._autoescape = autoescape
        self._out: List[str] = []
        self._line = 1
        self._column = 0
        self._marks: List[Mark] = []
        self._sources: List[Source] = []
        #: Where each source's lines begin, by its offset.
        self._starts: Dict[int, List[int]] = {}
        #: Whether something stands in this line of the Python, and whether a ``;`` can follow it.
        self._begun = False
        #: The indentation of the innermost level of blocks in one line, and what the last long block added to it.
        self._base = ""
        self._indent = ""
        #: Where the line stood that opened the level of the last long block.
        self._opener: Optional[str] = None
        self._levels: List[_Level] = []
        self._total = 0
        self._including: List[str] = []
        self._page(name, text)

    def result(self) -> Generated:
        """What was made."""
        if self._begun:
            self._put("\n")
        return Generated("".join(self._out), self._marks, self._sources)

    # --- reading a source ------------------------------------------------------------------------------------------

    def _page(self, name: str, text: str) -> None:
        offset = 0
        if self._sources:
            last = self._sources[-1]
            offset = last.offset + last.text.count("\n") + 1
        text = normal(text)
        self._total += len(text)
        source = Source(name, text, offset)
        self._sources.append(source)
        self._starts[offset] = [0, *(found.end() for found in re.finditer("\n", text))]
        if self._total > LARGEST:
            raise self._error(source, 0, "the page and what it includes are too large")
        self._including.append(name)
        at = 0
        while True:
            found = _BLOCK.search(text, at)
            if found is None:
                self._text(source, at, text[at:])
                break
            if found.start() > at:
                self._text(source, at, text[at : found.start()])
            kind, begin = found.group(1), found.end()
            end_mark = _ENDS.get(kind, "%>")
            end = text.find(end_mark, begin)
            if end < 0:
                if kind:
                    raise self._error(source, found.start(), f"'<%{kind}' without its '{end_mark}'")
                # As in mod_python, the last block need not be closed.
                end = len(text)
            self._block(kind, source, begin, text[begin:end])
            at = end + len(end_mark)
            if at >= len(text):
                break
        del self._including[-1]
        if self._levels and not self._including:
            level = self._levels[-1]
            raise PSPSyntaxError(
                "this block opens a level that no '<% end %>' ends", (level.source.name, level.line, None, None)
            )

    def _block(self, kind: str, source: Source, at: int, body: str) -> None:
        if kind in ("=", "=="):
            self._expression(source, at, body, self._autoescape and kind == "=")
        elif kind == "@":
            self._directive(source, at, body)
        elif not kind and "\n" in body:
            self._long(source, at, body)
        elif not kind:
            self._short(source, at, body)

    def _directive(self, source: Source, at: int, body: str) -> None:
        found = _DIRECTIVE.match(body)
        word = found.group(1) if found else ""
        rest = found.group(2) if found else ""
        given = {}
        while rest:
            one = _ATTRIBUTE.match(rest)
            if one is None:
                raise self._error(source, at, f"cannot read the directive: {rest.strip()!r}")
            given[one.group(1).lower()] = one.group(2) if one.group(2) is not None else one.group(3)
            rest = rest[one.end() :]
        if word == "include":
            if not given.get("file"):
                raise self._error(source, at, "an include needs file=\"...\"")
            self._include(source, at, given["file"])
        elif word == "page":
            if "autoescape" in given:
                value = _SWITCH.get(given["autoescape"].lower())
                if value is None:
                    raise self._error(source, at, f"autoescape is on or off, not {given['autoescape']!r}")
                self._autoescape = value
        else:
            raise self._error(source, at, f"unknown directive {word!r}: there are include and page")

    def _include(self, source: Source, at: int, name: str) -> None:
        if len(self._including) > DEEPEST:
            raise self._error(source, at, f"more than {DEEPEST} includes in each other")
        beside = [] if self._directory is None else [self._directory]
        if os.path.dirname(source.name) not in beside and self._including[1:]:
            beside.append(os.path.dirname(source.name))
        try:
            path, text = self._read(name, beside)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                error.errno, f"{error.strerror} (included by {source.name}, line {self._line_of(source, at)})",
                error.filename,
            ) from None
        if path in self._including:
            raise self._error(source, at, f"{path} includes itself")
        autoescape = self._autoescape
        self._page(path, text)
        self._autoescape = autoescape

    # --- writing Python --------------------------------------------------------------------------------------------

    def _put(self, text: str) -> None:
        self._out.append(text)
        ends = text.count("\n")
        if ends:
            self._line += ends
            text = text[text.rindex("\n") + 1 :]
            self._column = 0
        self._column += len(text.encode("utf-8", "surrogatepass"))

    def _mark(self, source: Source, at: int) -> None:
        line = self._line_of(source, at)
        start = self._starts[source.offset][line - 1]
        column = len(source.text[start:at].encode("utf-8", "surrogatepass"))
        self._marks.append(Mark(self._line, self._column, line + source.offset, column))

    def _statement(self) -> None:
        """Brings the Python to where a simple statement can stand."""
        if self._begun:
            self._put("; ")
        else:
            self._put(self._base + self._indent)
            self._begun = True

    def _fresh(self) -> None:
        """Brings the Python to the beginning of a line."""
        if self._begun:
            self._put("\n")
            self._begun = False

    def _text(self, source: Source, at: int, text: str) -> None:
        if not text:
            return
        self._statement()
        self._mark(source, at)
        self._put(f'req.write("""{_quoted(text)}""",0)')

    def _expression(self, source: Source, at: int, body: str, escaped: bool) -> None:
        self._statement()
        self._put("req.write(" + ("_psp_escape(" if escaped else "str("))
        self._mark(source, at)
        self._put(body)
        # A comment ends with its line.
        self._put("\n),0)" if _ends_in_comment(body) else "),0)")

    def _short(self, source: Source, at: int, body: str) -> None:
        """A code block in one line."""
        code = body.strip(" \t")
        if not code or code.startswith("#"):
            return
        end = _END.match(code)
        if end and (not end.group(1) or keyword.iskeyword(end.group(1))):
            self._end(source, at)
            return
        opens = _last_statement([code]).opens
        at += body.index(code)
        if opens and _CONTINUES.match(code):
            self._end(source, at)
        alone = opens or _COMPOUND.match(code) is not None
        if alone:
            self._fresh()
            self._put(self._base + self._indent)
            self._begun = True
        else:
            self._statement()
        self._mark(source, at)
        self._put(code)
        if alone or _ends_in_comment(code):
            self._fresh()
        if opens:
            line = self._line_of(source, at)
            begun = len(self._out)
            self._levels.append(_Level(self._base, self._indent, self._opener, line, source, begun))
            self._base, self._indent, self._opener = self._base + self._indent + "\t", "", None

    def _end(self, source: Source, at: int) -> None:
        """Ends the innermost level."""
        if self._opener is not None:
            self._indent, self._opener = self._opener, None
        elif self._levels and not self._indent:
            level = self._levels.pop()
            if len(self._out) == level.begun:
                self._put(self._base + "pass\n")
            self._base, self._indent, self._opener = level.base, level.indent, level.opener
        elif self._levels:
            raise self._error(source, at, "the code above ends deeper than the level that this would end")
        else:
            raise self._error(source, at, "there is no level here that this could end")
        self._fresh()

    def _long(self, source: Source, at: int, body: str) -> None:
        """A code block with line ends in it."""
        lines = body.split("\n")
        first, last = lines[0], lines[-1]
        found = _last_statement(lines)
        inside = _inside_strings(lines) if self._base else frozenset()
        place = at + len(first) + 1
        if first.strip(" \t"):
            if _COMPOUND.match(first):
                self._fresh()
                self._put(self._base)
                self._begun = True
            else:
                self._statement()
            code = first.lstrip(" \t")
            self._mark(source, at + len(first) - len(code))
            self._put(code)
        for number, line in enumerate(lines[1:], 1):
            self._put("\n")
            if line.strip(" \t") or number in inside:
                self._put("" if number in inside else self._base)
                self._mark(source, place)
                self._put(line)
            place += len(line) + 1
        self._begun = bool(last.strip(" \t"))
        self._settle(lines, found)
        if self._begun and (found.opens or _COMPOUND.match(lines[found.line]) or _ends_in_comment(body)):
            self._fresh()

    def _settle(self, lines: List[str], found: _Statement) -> None:
        """Sets the indentation that text has after a long block."""
        self._opener = None
        ended = not lines[-1].strip(" \t")
        margin = _margin(lines[found.line]) if found.line > 0 else ""
        if found.opens:
            self._opener = margin
            self._indent = margin + "\t"
        elif found.line == 0 and not ended and not _COMPOUND.match(lines[0]):
            # One statement, from where the text before stands: so does the text after.
            pass
        elif found.line < 0 or (ended and len(lines) > 2 and not lines[-2].strip(" \t")):
            self._indent = ""
        else:
            self._indent = margin

    def _line_of(self, source: Source, at: int) -> int:
        return bisect.bisect_right(self._starts[source.offset], at)

    def _error(self, source: Source, at: int, message: str) -> PSPSyntaxError:
        start = source.text.rfind("\n", 0, at) + 1
        end = source.text.find("\n", at)
        line = source.text[start : end if end >= 0 else None]
        return PSPSyntaxError(message, (source.name, self._line_of(source, at), at - start + 1, line + "\n"))


def _quoted(text: str) -> str:
    """Text as it stands between triple quotes."""
    body = text.rstrip('"')
    quotes = len(text) - len(body)
    body = body.replace("\\", "\\\\").replace('"""', '\\"\\"\\"').replace("\r", "\\r").replace("\0", "\\x00")
    return body + '\\"' * quotes


def _margin(line: str) -> str:
    found = _MARGIN.match(line)
    return found.group() if found else ""


class _Statement(NamedTuple):
    """The last statement of a block, or the comment after it."""

    #: The line that it begins in; -1 if there is none.
    line: int
    #: Whether it opens a level: its last word is a colon outside of brackets.
    opens: bool


_NOT_CODE = frozenset((tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.NEWLINE))


def _tokens(lines: List[str]) -> Iterator[tokenize.TokenInfo]:
    """Python's words in the lines, whatever their indentation; ends early where they make no sense."""
    # The indentation may be that of code before.
    text = "\n".join(line.strip(" \t") for line in lines) + "\n"
    try:
        yield from tokenize.generate_tokens(io.StringIO(text).readline)
    except (tokenize.TokenError, SyntaxError):
        # Python says what is wrong when it compiles it.
        yield tokenize.TokenInfo(tokenize.ERRORTOKEN, "", (0, 0), (0, 0), "")


def _last_statement(lines: List[str]) -> _Statement:
    found = _Statement(-1, False)
    fresh = True
    for token in _tokens(lines):
        if token.type == tokenize.ERRORTOKEN and not token.string:
            return _Statement(max(number for number, line in enumerate(lines) if line.strip()), False)
        if token.type == tokenize.NEWLINE:
            fresh = True
        elif token.type == tokenize.COMMENT:
            if fresh:
                found = _Statement(token.start[0] - 1, False)
        elif token.type not in _NOT_CODE:
            found = _Statement(token.start[0] - 1 if fresh else found.line, token.string == ":")
            fresh = False
    return found


def _ends_in_comment(code: str) -> bool:
    """Whether what follows the code in its line would be a part of a comment."""
    if "#" not in code.rpartition("\n")[2]:
        return False
    last = False
    for token in _tokens(code.split("\n")):
        if token.type == tokenize.ERRORTOKEN and not token.string:
            return True
        if token.type not in _NOT_CODE:
            last = token.type == tokenize.COMMENT
    return last


def _inside_strings(lines: List[str]) -> FrozenSet[int]:
    """The lines whose beginnings are parts of strings."""
    found: Set[int] = set()
    begun: List[int] = []
    for token in _tokens(lines):
        kind = tokenize.tok_name[token.type]
        if kind in ("FSTRING_START", "TSTRING_START"):
            begun.append(token.start[0])
        elif kind in ("FSTRING_END", "TSTRING_END") and begun:
            found.update(range(begun.pop(), token.end[0]))
        elif kind == "STRING":
            found.update(range(token.start[0], token.end[0]))
    return frozenset(found)
