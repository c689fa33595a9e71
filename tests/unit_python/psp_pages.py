"""What the tests of PSP share: a request that pages can be run for, and pages made of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import fake_vivarium

from mod_python import _psp_code, _psp_parser


class PageRequest(fake_vivarium.Request):
    """A request for a page."""

    def __init__(self, filename: Any = None, options: Optional[Dict[str, str]] = None, **config: str) -> None:
        super().__init__(config)
        self.filename = None if filename is None else str(filename)
        self.options = fake_vivarium.table(options or {})
        self.root = "/"
        self.method = "GET"
        self.args: Optional[str] = None
        self.sent_bodyct = 0
        self.flushed = 0
        self.err_headers_out = fake_vivarium.table()

    def get_options(self) -> fake_vivarium.table:
        return self.options

    def document_root(self) -> str:
        return self.root

    def flush(self) -> None:
        self.flushed += 1

    @property
    def text(self) -> str:
        """What was written."""
        return self.body.decode("utf-8")


def generated(text: str, autoescape: bool = False, directory: Optional[Path] = None) -> _psp_parser.Generated:
    """The Python of a page; included files are read from the directory."""

    def read(name: str, beside: Any) -> Any:
        path = (directory or Path("/nonexistent")) / name
        return (str(path), path.read_text())

    name = str((directory or Path("/site")) / "page.psp")
    return _psp_parser.Generator(name, text, read, str(directory), autoescape).result()


def python(text: str) -> str:
    """The Python of a page."""
    return generated(text).text


def rendered(text: str, autoescape: bool = False, directory: Optional[Path] = None, **names: Any) -> str:
    """What a page writes."""
    from mod_python import psp

    req = PageRequest()
    page = _psp_code.compile_page(generated(text, autoescape, directory))
    exec(page.code, {"req": req, "_psp_escape": psp.escape, **names})
    return req.text
