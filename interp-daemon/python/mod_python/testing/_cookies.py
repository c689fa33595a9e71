"""The cookies that a client keeps between its requests."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple


class Kept(NamedTuple):
    """A cookie: its value, where it goes, and until when."""

    value: str
    path: str
    secure: bool
    expires: Optional[float]


class Cookies:
    """A jar: ``client.cookies["name"]`` is a value, assigning sets one for all paths, ``del`` takes it out.

    Domains are not looked at: a client talks to one server. ``details(name)`` gives path, ``Secure`` and expiry.
    """

    def __init__(self) -> None:
        self._kept: Dict[Tuple[str, str], Kept] = {}

    def _of(self, name: str) -> List[Tuple[str, str]]:
        return [key for key in self._kept if key[0] == name and self._alive(key)]

    def _alive(self, key: Tuple[str, str]) -> bool:
        expires = self._kept[key].expires
        return expires is None or expires > time.time()

    def __getitem__(self, name: str) -> str:
        return self.details(name).value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        for key in self._of(name) or [self._missing(name)]:
            del self._kept[key]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._of(name))

    def __iter__(self) -> Iterator[str]:
        return iter([key[0] for key in self._kept if self._alive(key)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"Cookies({ {name: self[name] for name in self} })"

    @staticmethod
    def _missing(name: str) -> Tuple[str, str]:
        raise KeyError(name)

    def get(self, name: str, default: Optional[str] = None) -> Optional[str]:
        """A cookie's value."""
        return self[name] if name in self else default

    def details(self, name: str) -> Kept:
        """All that is known of a cookie."""
        return self._kept[(self._of(name) or [self._missing(name)])[0]]

    def set(
        self, name: str, value: str, path: str = "/", secure: bool = False, expires: Optional[float] = None
    ) -> None:
        """Sets a cookie; ``expires`` is in seconds since the epoch."""
        self._kept[name, path] = Kept(value, path, secure, expires)

    def clear(self) -> None:
        """Takes all out."""
        self._kept.clear()

    def take(self, header: str, uri: str) -> None:
        """Keeps what a ``Set-Cookie`` header of an answer to ``uri`` says."""
        first, *attributes = header.split(";")
        name, equals, value = first.partition("=")
        if not equals or not name.strip():
            return
        path, secure, expires = uri.rpartition("/")[0] or "/", False, None
        age = None
        for attribute in attributes:
            key, _, text = (part.strip() for part in attribute.partition("="))
            key = key.lower()
            if key == "path" and text.startswith("/"):
                path = text
            elif key == "secure":
                secure = True
            elif key == "max-age" and text.lstrip("-").isdigit():
                age = time.time() + int(text)
            elif key == "expires":
                try:
                    expires = parsedate_to_datetime(text.replace("-", " ")).timestamp()
                except (TypeError, ValueError):
                    expires = None
        self.set(name.strip(), value.strip(), path, secure, expires if age is None else age)
        if not self._alive((name.strip(), path)):
            del self._kept[name.strip(), path]

    def header(self, uri: str, https: bool) -> Optional[str]:
        """The ``Cookie`` header for a request of ``uri``."""
        found = [
            f"{key[0]}={kept.value}"
            for key, kept in sorted(self._kept.items(), key=lambda item: -len(item[1].path))
            if self._alive(key) and _below(uri, kept.path) and (https or not kept.secure)
        ]
        return "; ".join(found) or None


def _below(uri: str, path: str) -> bool:
    path = path.rstrip("/")
    return not path or uri == path or uri.startswith(path + "/")
