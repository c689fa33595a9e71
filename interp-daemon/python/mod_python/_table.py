"""A table of headers or options in plain Python: what ``apache.table`` is where there is no httpd.

Same behaviour as the extension's ``mp_table``: ordered pairs of strings, keys compared without case, duplicates kept.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple


def latin1(value: Any) -> str:
    """A key, a value or an attribute as httpd keeps it: ``str`` within Latin-1, or ``bytes``; cut at a zero byte.

    Read back, bytes are UTF-8 if they can be, else Latin-1.
    """
    if isinstance(value, str):
        try:
            raw = value.encode("latin-1")
        except UnicodeEncodeError:
            raise TypeError("not an ISO-8859-1 string") from None
    elif isinstance(value, bytes):
        raw = value
    else:
        raise TypeError("not an ISO-8859-1 string")
    raw = raw.partition(b"\0")[0]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


class table:  # noqa: N801 (mod_python's name)
    """``table()``, ``table(mapping)`` or ``table(pairs)``."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            raise TypeError(f"'{name}' is an invalid keyword argument for mp_table()")
        if len(args) > 1:
            raise TypeError(f"mp_table() takes at most 1 argument ({len(args)} given)")
        self._pairs: List[Tuple[str, str]] = []
        if args:
            self._fill(args[0])

    def _fill(self, source: Any) -> None:
        if isinstance(source, table):
            self._pairs += source._pairs
        elif hasattr(source, "keys"):
            self.update(source)
        else:
            for n, item in enumerate(source):
                try:
                    pair = list(item)
                except TypeError:
                    raise TypeError(f"cannot convert table update sequence element #{n} to a sequence") from None
                if len(pair) != 2:
                    raise ValueError(f"table update sequence element #{n} has length {len(pair)}; 2 is required")
                self[str(pair[0])] = str(pair[1])

    def _values(self, key: Any) -> List[str]:
        wanted = latin1(key).lower()
        return [v for k, v in self._pairs if k.lower() == wanted]

    def __getitem__(self, key: Any) -> Any:
        """The value; a list if there are several."""
        values = self._values(key)
        if not values:
            raise KeyError(key)
        return values if len(values) > 1 else values[0]

    def __setitem__(self, key: Any, value: Any) -> None:
        key, value = latin1(key), latin1(value)
        wanted = key.lower()
        places = [n for n, (k, _) in enumerate(self._pairs) if k.lower() == wanted]
        if not places:
            self._pairs.append((key, value))
            return
        # As apr_table_set: the first pair keeps its place and its spelling, others go.
        self._pairs[places[0]] = (self._pairs[places[0]][0], value)
        for n in reversed(places[1:]):
            del self._pairs[n]

    def __delitem__(self, key: Any) -> None:
        wanted = latin1(key).lower()
        self._pairs = [(k, v) for k, v in self._pairs if k.lower() != wanted]

    def __contains__(self, key: Any) -> bool:
        return bool(self._values(key))

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[str]:
        return self._walk(self.keys())

    def _walk(self, items: List[Any]) -> Iterator[Any]:
        size = len(self)
        for item in items:
            if len(self) != size:
                raise RuntimeError("table changed size during iteration")
            yield item

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{k!r}: {v!r}" for k, v in reversed(self._pairs)) + "}"

    def _dict(self) -> Dict[str, Any]:
        return {k: self[k] for k, _ in self._pairs}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, table):
            return self._dict() == other._dict()
        if hasattr(other, "keys"):
            return bool(self._dict() == dict(other))  # type: ignore[call-overload]
        return NotImplemented

    def add(self, key: Any, value: Any) -> None:
        """Appends a pair, beside others of the same key."""
        self._pairs.append((latin1(key), latin1(value)))

    def get(self, key: Any, default: Any = None) -> Any:
        """The first value of a key."""
        values = self._values(key)
        return values[0] if values else default

    def has_key(self, key: Any) -> int:
        """1 or 0."""
        return int(key in self)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The first value of the key; if there is none, ``default`` (``""``) is set and returned."""
        if key not in self:
            self[key] = "" if default is None else default
        return self._values(key)[0]

    def popitem(self) -> Tuple[str, str]:
        """Takes out and returns the first pair."""
        if not self._pairs:
            raise KeyError("popitem(): table is empty")
        return self._pairs.pop(0)

    def clear(self) -> None:
        """Takes out all pairs."""
        self._pairs = []

    def copy(self) -> table:
        """A table of its own with the same pairs."""
        made = table()
        made._pairs = list(self._pairs)
        return made

    def update(self, source: Any) -> None:
        """Sets every key of a mapping, keys and values as text."""
        for key in source.keys():  # noqa: SIM118 (any object with keys() will do)
            self[str(key)] = str(source[key])

    def keys(self) -> List[str]:
        """The keys, one for each pair."""
        return [k for k, _ in self._pairs]

    def values(self) -> List[str]:
        """The values."""
        return [v for _, v in self._pairs]

    def items(self) -> List[Tuple[str, str]]:
        """The pairs."""
        return list(self._pairs)

    def iterkeys(self) -> Iterator[str]:
        """An iterator over the keys."""
        return self._walk(self.keys())

    def itervalues(self) -> Iterator[str]:
        """An iterator over the values."""
        return self._walk(self.values())

    def iteritems(self) -> Iterator[Tuple[str, str]]:
        """An iterator over the pairs."""
        return self._walk(self.items())


table.__name__ = table.__qualname__ = "mp_table"
table.__module__ = "builtins"

#: For annotations: a table, or nothing.
MaybeTable = Optional[table]
