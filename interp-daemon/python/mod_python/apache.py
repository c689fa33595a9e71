"""The interface that handlers program against: ``from mod_python import apache``.

Constants (:mod:`mod_python._constants`), the exception :class:`SERVER_RETURN`, and functions. It can be imported
outside a worker: there the constants work, and what needs httpd raises :class:`RuntimeError`.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, Callable, List, Optional, Sequence

from mod_python import _apache
from mod_python._apache import (
    MODULE_MAGIC_NUMBER_MAJOR as MODULE_MAGIC_NUMBER_MAJOR,
    MODULE_MAGIC_NUMBER_MINOR as MODULE_MAGIC_NUMBER_MINOR,
    SERVER_RETURN as SERVER_RETURN,
    config_tree as config_tree,
    exists_config_define as exists_config_define,
    log_error as log_error,
    mpm_query as mpm_query,
    server_root as server_root,
    stat as stat,
    table as table,
)
from mod_python._cgi import (
    CGIStdin as CGIStdin,
    CGIStdout as CGIStdout,
    NullIO as NullIO,
    build_cgi_env as build_cgi_env,
    restore_nocgi as restore_nocgi,
    setup_cgi as setup_cgi,
)
from mod_python._constants import *  # noqa: F403
from mod_python._constants import M_INVALID
from mod_python._importer import Importer

#: An empty table, or one from a mapping or pairs: the same as ``table``.
make_table = table

#: The importer of this process.
_importer = Importer()

_MISSING = object()

#: The names of methods by their number.
_METHODS = {
    value: name[2:].replace("_", "-")
    for name, value in list(globals().items())
    if name.startswith("M_") and value != M_INVALID
}


def import_module(
    module_name: str,
    autoreload: Any = 1,
    log: Any = 0,
    path: Optional[Sequence[str]] = None,
) -> ModuleType:
    """Imports a module, or reloads it if its file or something that it imports by this function has changed.

    Files are looked at once a second at most. ``log`` writes a line for every import or reload. ``path`` is a list of
    directories to look in first; without it that is the directory in which the calling handler module was found. Names
    with a ``/`` are paths: ``~/`` starts there too, ``./`` and ``../`` beside the calling module's file.
    """
    caller = sys._getframe(1).f_globals
    directories: Sequence[str] = ()
    if path is not None:
        directories = tuple(path)
    else:
        root = _importer.root(caller)
        if root:
            directories = (root,)
    base = None
    if "./" in module_name:
        base = os.path.dirname(os.path.abspath(caller.get("__file__") or "x"))
    found = _importer.load(module_name, directories, bool(autoreload), bool(log), base)
    return _importer.module(found)  # type: ignore[no-any-return]


def module_mtime(module: ModuleType) -> float:
    """When the module's source file was last changed; 0 if it has none."""
    file = getattr(module, "__file__", None)
    if not file:
        return 0
    if file.endswith((".pyc", ".pyo")):
        file = file[:-1]
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0


def resolve_object(module: Any, obj_str: str, arg: Any = None, silent: Any = 0) -> Any:
    """The object that ``obj_str`` names in the module, walking its dots.

    Where a step's parent is a class, the class is called with ``arg`` and the attribute taken from the instance. A
    missing object is an :class:`AttributeError`, or ``None`` if ``silent``.
    """
    names = obj_str.split(".")
    found = getattr(module, names[0], _MISSING)
    if found is _MISSING:
        if silent:
            return None
        where = getattr(module, "__file__", None) or getattr(module, "__name__", module)
        raise AttributeError(f"module '{where}' contains no '{names[0]}'")
    for name in names[1:]:
        parent = found
        try:
            found = getattr(parent, name)
        except AttributeError:
            if silent:
                return None
            raise
        if isinstance(parent, type):
            found = getattr(parent(arg), name)
    return found


def register_cleanup(callback: Callable[[Any], Any], data: Any = None) -> None:
    """Has ``callback(data)`` called when this worker ends."""
    _apache.register_cleanup("", None, callback, data)


def allow_methods(*methods: int) -> None:
    """Adds ``M_*`` methods to the ``Allow`` header of the request that this thread is serving."""
    req = _current_request()
    if req is None:
        raise RuntimeError("mod_python: apache.allow_methods() outside a request")
    unknown = [method for method in methods if method not in _METHODS]
    if unknown:
        raise ValueError(f"not a method number: {unknown[0]!r}")
    req.allow_methods([_METHODS[method] for method in methods])


def _current_request() -> Any:
    """The request that this thread is serving, if any."""
    current = getattr(_apache._vivarium, "current_request", None)
    return None if current is None else current()


def init(name: str, server: Any) -> Any:
    """Names this interpreter and gives the object that runs its handlers."""
    from mod_python import _dispatch

    globals()["interpreter"] = name
    if server is not None:
        globals()["main_server"] = server
    return _dispatch.dispatcher()


def __getattr__(name: str) -> Any:
    """``interpreter``, ``main_server`` and ``CallBack``, which are known only in a worker."""
    if name == "interpreter":
        return getattr(_current_request(), "interpreter", "main_interpreter")
    if name == "main_server":
        return _apache._extension("main_server")()
    if name == "CallBack":
        from mod_python._dispatch import Dispatcher

        return Dispatcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), "CallBack", "interpreter", "main_server"})
