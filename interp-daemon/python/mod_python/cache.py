"""Caches: of anything, of files, of documents from the web, of modules, of what functions return.

``Cache`` is the base: a subclass says what is built for a key (:meth:`Cache.build`) and whether it is still good
(:meth:`Cache.check`). Each key has a lock of its own, so that many threads that want the same thing have it built
once, and those that want others do not wait. Everything is per worker: nothing is shared between processes.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
import weakref
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any, Callable, Dict, List, Tuple

NOT_INITIALIZED: Any = type("NotInitialized", (), {"__repr__": lambda self: "NOT_INITIALIZED"})()


class Entry:
    """What is kept for a key: the value, and in ``_value`` a way to it where the value itself is not held."""

    __slots__ = ("__weakref__", "_lock", "_value", "key", "name", "stamp")

    def __init__(self, name: Any) -> None:
        self.name = name
        #: Set by ``Cache.key``.
        self.key: Any = name
        #: Whatever ``check`` needs to know about the value: a time, an ETag.
        self.stamp: Any = None
        self._value: Any = NOT_INITIALIZED
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Entry {self.name!r} {self._value!r}>"


class Cache:
    """A cache of at most ``max_size`` values (0: any number); the one that was used longest ago goes first.

    ``cache[name]`` gives the value, building it if need be. Subclasses override:

    ``key(name)``
        the key under which a name is kept: names of one key share a value. Default: the name.
    ``check(name, key, entry)``
        ``None`` if the entry's value is still good; else anything, which ``build`` gets as ``opened``.
    ``build(name, key, opened, entry)``
        makes and returns the value.
    ``commit(name, entry, value)``
        keeps the value in the entry.
    """

    def __init__(self, max_size: int = 0) -> None:
        self.max_size = max_size
        # Dictionaries keep the order of insertion: the first is the one that was used longest ago.
        self._dict: Dict[Any, Entry] = {}
        self._lock = threading.RLock()

    # --- what subclasses say

    def key(self, name: Any) -> Any:
        """The key of a name."""
        return name

    def check(self, name: Any, key: Any, entry: Entry) -> Any:
        """``None`` if the value is still good. Without a subclass it always is, once it is there."""
        return True if entry._value is NOT_INITIALIZED else None

    def build(self, name: Any, key: Any, opened: Any, entry: Entry) -> Any:
        """Makes the value."""
        raise NotImplementedError

    def commit(self, name: Any, entry: Entry, value: Any) -> None:
        """Keeps the value."""
        entry._value = value

    def value(self, entry: Entry) -> Any:
        """What an entry keeps; ``NOT_INITIALIZED`` if it keeps nothing (any more)."""
        return entry._value

    # --- the mapping

    def __getitem__(self, name: Any) -> Any:
        """The value of a name, built if it is not there or no longer good."""
        key = self.key(name)
        entry = self._entry(name, key)
        with entry._lock:
            opened = self.check(name, key, entry)
            if opened is None:
                value = self.value(entry)
                if value is not NOT_INITIALIZED:
                    return value
            try:
                value = self.build(name, key, opened, entry)
            except BaseException:
                if self.value(entry) is NOT_INITIALIZED:
                    self._drop(key, entry)
                raise
            self.commit(name, entry, value)
            return value

    def get(self, name: Any) -> Any:
        """The same."""
        return self[name]

    def __setitem__(self, name: Any, value: Any) -> None:
        """Keeps a value that was built elsewhere."""
        key = self.key(name)
        entry = self._entry(name, key)
        with entry._lock:
            self.commit(name, entry, value)

    def __delitem__(self, name: Any) -> None:
        """Forgets a value; ``KeyError`` if there is none."""
        with self._lock:
            del self._dict[self.key(name)]

    def __contains__(self, name: Any) -> bool:
        return self.key(name) in self._dict

    def __len__(self) -> int:
        return len(self._dict)

    def keys(self) -> List[Any]:
        """The keys, the one used last first."""
        with self._lock:
            return list(self._dict)[::-1]

    def values(self) -> List[Any]:
        """The values of those keys."""
        with self._lock:
            return [self.value(entry) for entry in list(self._dict.values())[::-1]]

    def items(self) -> List[Tuple[Any, Any]]:
        """Keys and values."""
        return list(zip(self.keys(), self.values()))

    def __iter__(self) -> Any:
        return iter(self.keys())

    def mru(self) -> List[Any]:
        """The values, the one used last first."""
        return self.values()

    def lru(self) -> List[Any]:
        """The values, the one used longest ago first."""
        return self.values()[::-1]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._dict.clear()

    def _entry(self, name: Any, key: Any) -> Entry:
        """The entry of a key, now the one used last."""
        with self._lock:
            entry = self._dict.pop(key, None)
            if entry is None:
                entry = Entry(name)
                entry.key = key
            self._dict[key] = entry
            while self.max_size and len(self._dict) > self.max_size:
                del self._dict[next(iter(self._dict))]
            return entry

    def _drop(self, key: Any, entry: Entry) -> None:
        with self._lock:
            if self._dict.get(key) is entry:
                del self._dict[key]


class WeakCache(Cache):
    """Holds its values by weak references: a value that nobody else has any more is built anew."""

    def commit(self, name: Any, entry: Entry, value: Any) -> None:
        """Keeps a reference."""
        entry._value = weakref.ref(value)

    def value(self, entry: Entry) -> Any:
        """The value, if it is still there."""
        if entry._value is NOT_INITIALIZED:
            return NOT_INITIALIZED
        found = entry._value()
        return NOT_INITIALIZED if found is None else found

    def check(self, name: Any, key: Any, entry: Entry) -> Any:
        """Good while it lives."""
        return True if self.value(entry) is NOT_INITIALIZED else None


class FileCache(Cache):
    """Values made of files: ``build`` is called anew when the file's modification time has changed.

    Override :meth:`build`; ``opened`` is the file, open for reading in ``mode``.
    """

    def __init__(self, max_size: int = 0, mode: str = "rb") -> None:
        super().__init__(max_size)
        self.mode = mode

    def check(self, filename: Any, key: Any, entry: Entry) -> Any:
        """The opened file, if it is new or has changed."""
        stamp = os.stat(key).st_mtime_ns
        if entry.stamp == stamp and entry._value is not NOT_INITIALIZED:
            return None
        entry.stamp = stamp
        return open(key, self.mode, encoding=None if "b" in self.mode else "utf-8")  # noqa: SIM115 (build closes it)

    def build(self, filename: Any, key: Any, opened: Any, entry: Entry) -> Any:
        """The file's content."""
        with opened:
            return opened.read()


class HTTPCache(Cache):
    """Values made of documents from the web, as fresh as HTTP says: ``Cache-Control``, ``Expires``, ``ETag``,
    ``Last-Modified``. Override :meth:`build`; ``opened`` is the response.
    """

    #: Seconds that a server may take.
    timeout = 30.0

    def check(self, url: Any, key: Any, entry: Entry) -> Any:
        """The response, if the document is new, has changed, or may have."""
        stamp: Dict[str, Any] = entry.stamp or {}
        known = entry._value is not NOT_INITIALIZED
        if known and time.time() < stamp.get("fresh_until", 0.0):
            return None
        request = urllib.request.Request(key)  # noqa: S310 (the caller says what is to be fetched)
        if known:
            for header, name in (("If-None-Match", "etag"), ("If-Modified-Since", "modified")):
                if stamp.get(name):
                    request.add_header(header, stamp[name])
        try:
            response = urllib.request.urlopen(request, timeout=self.timeout)  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != 304 or not known:
                raise
            error.close()
            entry.stamp = {**stamp, "fresh_until": _fresh_until(error.headers)}
            return None
        headers = response.headers
        entry.stamp = {
            "etag": headers.get("ETag"),
            "modified": headers.get("Last-Modified"),
            "fresh_until": _fresh_until(headers),
        }
        return response

    def build(self, url: Any, key: Any, opened: Any, entry: Entry) -> Any:
        """The document's content."""
        with opened:
            return opened.read()


def _fresh_until(headers: Any) -> float:
    """Until when an answer may be used without asking; 0 if it always has to be asked for."""
    rules: Dict[str, str] = {}
    for part in (headers.get("Cache-Control") or "").split(","):
        name, _, value = part.strip().partition("=")
        rules[name.lower()] = value.strip('"')
    if "no-cache" in rules or "no-store" in rules:
        return 0.0
    if rules.get("max-age", "").isdigit():
        return time.time() + int(rules["max-age"])
    try:
        return parsedate_to_datetime(headers.get("Expires") or "").timestamp()
    except (TypeError, ValueError):
        return 0.0


class ModuleCache(FileCache):
    """Modules made of Python files, run anew when the file has changed. They are not in ``sys.modules``."""

    def build(self, filename: Any, key: Any, opened: Any, entry: Entry) -> ModuleType:
        """The module."""
        with opened:
            return _module(str(key), str(key), opened.read())


class HttpModuleCache(HTTPCache):
    """The same of Python files on the web. Whoever answers for the URL runs code here."""

    def build(self, url: Any, key: Any, opened: Any, entry: Entry) -> ModuleType:
        """The module."""
        with opened:
            return _module(str(url), str(url), opened.read())


#: Its name in capitals, as the others have it.
HTTPModuleCache = HttpModuleCache


def _module(name: str, file: str, source: Any) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = file
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 (what it is for)
    return module


class FunctionCache(Cache):
    """What a function returns, by its arguments, which must be hashable::

    area = FunctionCache(compute_area)
    area(3, 4)
    """

    def __init__(self, function: Callable[..., Any], max_size: int = 0) -> None:
        super().__init__(max_size)
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self[args, tuple(sorted(kwargs.items()))]

    def build(self, name: Any, key: Any, opened: Any, entry: Entry) -> Any:
        """Calls the function."""
        args, kwargs = name
        return self.function(*args, **dict(kwargs))
