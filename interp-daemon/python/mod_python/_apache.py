"""mod_python's built-in names, also importable as the top-level module ``_apache``.

What needs httpd comes from the extension ``_vivarium``. Outside a worker there is none: names exist all the same, and
calling them raises :class:`RuntimeError`.
"""

from __future__ import annotations

import sys
from operator import index as whole
from typing import Any, Callable, Dict, List, Optional, Tuple, Union
from urllib.parse import unquote_to_bytes

from mod_python import _constants, _locks
from mod_python._constants import APLOG_DEBUG, APLOG_EMERG, APLOG_ERR
from mod_python._constants import (
    AP_CONN_CLOSE as AP_CONN_CLOSE,
    AP_CONN_KEEPALIVE as AP_CONN_KEEPALIVE,
    AP_CONN_UNKNOWN as AP_CONN_UNKNOWN,
    APR_BLK as APR_BLK,
    APR_CHR as APR_CHR,
    APR_DIR as APR_DIR,
    APR_LNK as APR_LNK,
    APR_NOFILE as APR_NOFILE,
    APR_PIPE as APR_PIPE,
    APR_REG as APR_REG,
    APR_SOCK as APR_SOCK,
    APR_UNKFILE as APR_UNKFILE,
)

#: The extension; ``None`` outside a worker.
_vivarium: Any
try:
    import _vivarium  # type: ignore[import-not-found, no-redef]
except ImportError:
    _vivarium = None

#: httpd's module magic number: the running server's where the extension knows it.
MODULE_MAGIC_NUMBER_MAJOR: int = getattr(
    _vivarium, "MODULE_MAGIC_NUMBER_MAJOR", _constants.MODULE_MAGIC_NUMBER_MAJOR
)
MODULE_MAGIC_NUMBER_MINOR: int = getattr(
    _vivarium, "MODULE_MAGIC_NUMBER_MINOR", _constants.MODULE_MAGIC_NUMBER_MINOR
)

_LEVEL_MASK = 15


def _extension(name: str) -> Any:
    """The extension's ``name``; :class:`RuntimeError` where there is none."""
    found = getattr(_vivarium, name, None)
    if found is None:
        if _vivarium is None:
            why = "this process is not a Vivarium worker (the extension _vivarium is not loaded)"
        else:
            why = "this build of the extension _vivarium does not offer it"
        raise RuntimeError(f"mod_python: {name} is not available: {why}")
    return found


if _vivarium is not None and hasattr(_vivarium, "SERVER_RETURN"):
    SERVER_RETURN = _vivarium.SERVER_RETURN
else:

    class SERVER_RETURN(Exception):  # type: ignore[no-redef]  # noqa: N801, N818 (mod_python's name)
        """Ends a phase from anywhere: ``SERVER_RETURN(result)`` or ``SERVER_RETURN(result, status)``."""

    SERVER_RETURN.__module__ = "_apache"

if _vivarium is not None and hasattr(_vivarium, "table"):
    table = _vivarium.table
else:
    from mod_python._table import table as table


def log_error(message: Optional[str], level: int = APLOG_ERR, server: Any = None) -> None:
    """Writes one line to the error log of ``server`` (default: the main server).

    A message of ``None`` is ignored. Level 0 (``APLOG_EMERG``) counts as unset and means ``APLOG_ERR``.
    """
    if message is not None and not isinstance(message, str):
        raise TypeError(f"argument 1 must be str or None, not {type(message).__name__}")
    level = whole(level) & _LEVEL_MASK
    if message is None:
        return
    if "\0" in message:
        raise ValueError("embedded null character")
    if level == APLOG_EMERG:
        level = APLOG_ERR
    log = _extension("log") if server is None else _server(server, 3).log_error
    log(message, min(level, APLOG_DEBUG))


def _server(value: Any, place: int) -> Any:
    """The argument at that place, which must be a server object."""
    kind = getattr(_vivarium, "mp_server", None)
    if kind is not None and not isinstance(value, kind):
        raise TypeError(f"argument {place} must be mp_server, not {type(value).__name__}")
    return value


def config_tree() -> List[Any]:
    """The parsed configuration: a list of ``(directive, arguments)``, each container followed by a list."""
    return list(_extension("config_tree")())


def server_root() -> str:
    """``ServerRoot``."""
    return _text(_extension("op")("server_root"))


def mpm_query(code: int) -> int:
    """What the MPM says to one of the ``AP_MPMQ_*`` questions."""
    return int(_extension("op")("mpm_query", whole(code)))


def exists_config_define(name: str) -> bool:
    """Whether httpd was started with ``-D name``."""
    if not isinstance(name, str):
        raise TypeError(f"argument 1 must be str, not {type(name).__name__}")
    return bool(_extension("op")("exists_config_define", 0, name.encode("utf-8", "surrogateescape")))


def stat(fname: str, wanted: int) -> Any:
    """An ``mp_finfo`` about a file, as this worker sees it; ``filetype`` is ``APR_NOFILE`` if it is missing."""
    return _extension("stat")(fname, wanted)


def _text(value: Union[str, bytes, None]) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value or "")


# --- clean-ups at the end of the worker -----------------------------------------------------------------------------

def register_cleanup(
    interpreter: str, server: Any, callback: Callable[[Any], Any], data: Any = None
) -> None:
    """Has ``callback(data)`` called when this worker ends."""
    if not callable(callback):
        raise ValueError("third argument must be a callable object")
    _extension("register_cleanup")(callback, data)


# --- locks that span the workers of a tenant -------------------------------------------------------------------------

def _lock_server(value: Any) -> Any:
    try:
        return _server(value, 1)
    except TypeError:
        raise TypeError("First argument must be a server object") from None


def _global_lock(server: Any, key: Any, index: int = -1) -> None:
    """Takes the lock of ``key`` (or number ``index``), waiting for it."""
    _locks.lock(_lock_server(server), key, whole(index))


def _global_trylock(server: Any, key: Any, index: int = -1) -> bool:
    """Takes the lock if it is free; says whether it did."""
    return _locks.trylock(_lock_server(server), key, whole(index))


def _global_unlock(server: Any, key: Any, index: int = -1) -> None:
    """Gives the lock back."""
    _locks.unlock(_lock_server(server), key, whole(index))


# --- query strings ---------------------------------------------------------------------------------------------------

Text = Union[str, bytes]


def parse_qsl(
    qs: Text, keep_blank_values: int = 0, strict_parsing: int = 0
) -> List[Tuple[Any, Any]]:
    """The fields of a query string in order: split at ``&`` and ``;``, ``+`` is a space, cut at NUL.

    ``str`` gives ``str`` (decoded as UTF-8, what is not UTF-8 replaced), ``bytes`` gives ``bytes``. Fields without a
    value are left out unless ``keep_blank_values``. ``strict_parsing`` is accepted and changes nothing.
    """
    return _pairs(qs, bool(keep_blank_values), 0)


def parse_qs(qs: Text, keep_blank_values: int = 0, strict_parsing: int = 0) -> Dict[Any, List[Any]]:
    """The same as a dictionary of lists."""
    fields: Dict[Any, List[Any]] = {}
    for name, value in _pairs(qs, bool(keep_blank_values), 0):
        fields.setdefault(name, []).append(value)
    return fields


def _pairs(qs: Text, keep_blank: bool, most: int) -> List[Tuple[Any, Any]]:
    """The fields; ``OverflowError`` if they are more than ``most`` (0: any number)."""
    fast = getattr(_vivarium, "parse_qsl", None)
    if fast is not None:
        return fast(qs, keep_blank, most)  # type: ignore[no-any-return]
    if isinstance(qs, str):
        pairs = _fields(qs.encode("utf-8", "surrogateescape"), keep_blank, most)
        return [(n.decode("utf-8", "replace"), v.decode("utf-8", "replace")) for n, v in pairs]
    if isinstance(qs, bytes):
        return _fields(qs, keep_blank, most)
    raise TypeError("not an ISO-8859-1 string")


def _fields(qs: bytes, keep_blank: bool, most: int) -> List[Tuple[bytes, bytes]]:
    found: List[Tuple[bytes, bytes]] = []
    for field in qs.replace(b";", b"&").split(b"&"):
        if not field:
            continue
        name, _, value = (_unquote(part) for part in field.replace(b"+", b" ").partition(b"="))
        if value or keep_blank:
            if most and len(found) >= most:
                raise OverflowError(f"more than {most} fields")
            found.append((name, value))
    return found


def _unquote(part: bytes) -> bytes:
    return unquote_to_bytes(part).partition(b"\0")[0]


sys.modules.setdefault("_apache", sys.modules[__name__])
