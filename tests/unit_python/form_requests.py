"""Requests for tests of forms, cookies and sessions: no httpd, no extension unless a test loads the real one."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import fake_vivarium

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "lib_vivarium.so"


def real_extension() -> Any:
    """The built extension, of which the parsers work without httpd; ``None`` if it is not built."""
    name = "built_extension._vivarium"
    if name not in sys.modules:
        if not EXTENSION.exists():
            return None
        loader = importlib.machinery.ExtensionFileLoader(name, str(EXTENSION))
        spec = importlib.util.spec_from_file_location(name, str(EXTENSION), loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        _kept.append(module)
        sys.modules[name] = module
    return sys.modules[name]


# A module of this kind is never loaded twice.
_kept: List[Any] = []


class FormRequest(fake_vivarium.Request):
    """A request with a query string, a body and options."""

    def __init__(
        self,
        method: str = "GET",
        args: Optional[str] = None,
        body: bytes = b"",
        kind: Optional[str] = None,
        cookie: Optional[str] = None,
        piece: int = 0,
        **options: str,
    ) -> None:
        super().__init__()
        self.method = method
        self.args = args
        self.input = body
        #: The most that one read gives.
        self.piece = piece
        self.server = fake_vivarium.Server()
        self.options = fake_vivarium.table({k.replace("__", "."): v for k, v in options.items()})
        self.err_headers_out = fake_vivarium.table()
        self.sent_bodyct = 0
        self.cleanups: List[Tuple[Callable[[Any], Any], Any]] = []
        self.prev = self.main = None
        self.https = 0
        self.root = "/srv/www"
        if kind is not None:
            self.headers_in["Content-Type"] = kind
        if cookie is not None:
            self.headers_in["Cookie"] = cookie

    def get_options(self) -> Any:
        return self.options

    def is_https(self) -> int:
        return self.https

    def document_root(self) -> str:
        return self.root

    def read(self, n: int = -1) -> bytes:
        if self.piece and (n < 0 or n > self.piece):
            n = self.piece
        return super().read(n)

    def register_cleanup(self, function: Callable[[Any], Any], data: Any = None) -> None:
        self.cleanups.append((function, data))

    def end(self) -> None:
        """The end of the request: runs what was registered for it."""
        while self.cleanups:
            function, data = self.cleanups.pop(0)
            function(data)

    def cookies_set(self) -> List[str]:
        """The headers ``Set-Cookie``."""
        return [v for k, v in self.headers_out.items() if k == "Set-Cookie"]

    def log(self) -> str:
        """What was logged."""
        return "\n".join(text for _, text in self.lines)


def multipart(*parts: Tuple[str, bytes], boundary: str = "XbX") -> bytes:
    """A body with these parts: header lines, content."""
    body = b"".join(
        b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary.encode(), head.encode("utf-8"), content) for head, content in parts
    )
    return body + b"--%s--\r\n" % boundary.encode()


def text_part(name: str, value: bytes) -> Tuple[str, bytes]:
    """A part that is no file."""
    return f'Content-Disposition: form-data; name="{name}"', value


def file_part(name: str, filename: str, content: bytes, kind: str = "text/plain") -> Tuple[str, bytes]:
    """A part that is one."""
    return f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {kind}', content


MULTIPART = "multipart/form-data; boundary=XbX"
URLENCODED = "application/x-www-form-urlencoded"
