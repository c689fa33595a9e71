"""How a session becomes bytes: JSON, or pickle where the administrator says so."""

from __future__ import annotations

import pickle
from typing import Any, Dict

from mod_python import _safejson
from mod_python._sessions import options

OPTION = "mod_python.session.serializer"

Record = Dict[str, Any]


class Damaged(ValueError):
    """Bytes that are no session."""


class Json:
    """JSON, see :mod:`mod_python._safejson`."""

    @staticmethod
    def dumps(record: Record) -> bytes:
        """The record as bytes; ``TypeError`` for what JSON does not know, with its place."""
        try:
            return _safejson.dumps(record, "session").encode("ascii")
        except _safejson.NotJson as error:
            where = str(error).replace("session['_data']", "session", 1)
            raise TypeError(
                f"{where}; store something simpler, or set PythonOption {OPTION} pickle if nobody else can write to "
                "the sessions' store"
            ) from None

    @staticmethod
    def loads(data: bytes) -> Record:
        """The record; :class:`Damaged` if it is none."""
        try:
            return _checked(_safejson.loads(data))
        except (ValueError, RecursionError) as error:
            raise Damaged(str(error)) from None


class Pickle:
    """pickle: any object, and code for whoever can write to the store."""

    @staticmethod
    def dumps(record: Record) -> bytes:
        """The record as bytes."""
        return pickle.dumps(record, protocol=4)

    @staticmethod
    def loads(data: bytes) -> Record:
        """The record; :class:`Damaged` if it is none."""
        if not data.startswith(b"\x80"):
            raise Damaged("not a pickle")
        try:
            return _checked(pickle.loads(data))  # noqa: S301 (asked for by option, with a warning in the manual)
        except Exception as error:
            raise Damaged(f"{type(error).__name__}: {error}") from None


def _checked(record: Any) -> Record:
    if not isinstance(record, dict) or not isinstance(record.get("_data"), dict):
        raise Damaged("not a session")
    if not all(isinstance(record.get(name), (int, float)) for name in ("_created", "_accessed", "_timeout")):
        raise Damaged("not a session")
    return record


def of(req: Any) -> Any:
    """The serialiser that the options name."""
    name = (options.text(req, OPTION) or "json").lower()
    if name == "json":
        return Json
    if name == "pickle":
        return Pickle
    raise ValueError(f"PythonOption {OPTION} must be json or pickle, not {name!r}")
