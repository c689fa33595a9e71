"""The pieces that the importer works with: modules, and their loader and finder in Python's import system."""

from __future__ import annotations

import os
import sys
import threading
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from mod_python import _errors

Stamp = Tuple[int, int, int]
State = Tuple[Optional[Stamp], bool]


class Managed:
    """A module that the importer looks after."""

    __slots__ = (
        "deps",
        "due",
        "error",
        "file",
        "loaded",
        "loaded_here",
        "lock",
        "module",
        "name",
        "names",
        "parent",
        "pending",
        "root",
        "seen",
        "stamp",
        "stat_due",
    )

    def __init__(self, name: str, file: Optional[str], root: Optional[str]) -> None:
        #: Its name in ``sys.modules``.
        self.name = name
        #: Its source file, if it can be reloaded.
        self.file = file
        #: The directory that it was found in by ``root``, for the relative imports of ``import_module``.
        self.root = root
        self.module: Any = None
        #: The module's name space: callers that keep this object always see the latest.
        self.names: Dict[str, Any] = {}
        #: The file when it was last looked at, and when the module was last loaded from it.
        self.stamp: Optional[Stamp] = stamp_of(file)
        self.loaded = self.stamp
        #: What it imported while it ran, and what is being noted while it runs.
        self.deps: List[Managed] = []
        self.pending: List[Managed] = []
        #: All that it depends on, those modules' own imports included, as they were when it ran.
        self.seen: Dict[Managed, State] = {}
        #: The package that it is in.
        self.parent: Optional[Managed] = None
        self.loaded_here = False
        #: The error of the last reload, until one works. It has no traceback, which would keep requests alive, but the
        #: text of it.
        self.error: Optional[BaseException] = None
        #: When to look again, and when to look at the file again.
        self.due = 0.0
        self.stat_due = 0.0
        #: Held by the thread that looks or reloads. Nobody ever waits for it.
        self.lock = threading.Lock()

    def adopt(self, module: Any) -> None:
        """Makes this the module."""
        self.module = module
        self.names = getattr(module, "__dict__", {})

    def check(self) -> None:
        """Raises the error of a failed reload."""
        error = self.error
        if error is not None:
            raise _errors.copy_of(error)

    def fail(self, error: BaseException) -> None:
        """Keeps the error of a reload."""
        self.error = _errors.copy_of(error)

    def state(self) -> State:
        """What makes those that depend on this module load again when it changes."""
        return (self.loaded, self.error is not None)

    def settle(self) -> None:
        """Takes what was noted while the module was run as its dependencies."""
        self.deps = ([] if self.parent is None else [self.parent]) + self.pending
        found: Dict[Managed, State] = {}
        ahead = list(self.deps)
        while ahead:
            dep = ahead.pop()
            if dep is not self and dep not in found:
                found[dep] = dep.state()
                ahead += dep.deps
        self.seen = found


class Loader(SourceFileLoader):
    """Runs a managed module and notes what it imports by ``import_module``."""

    def __init__(self, entry: Managed, path: str, running: Running) -> None:
        super().__init__(entry.name, path)
        self.entry = entry
        self._running = running
        #: For a reload: the attributes that the old package's submodules are.
        self._submodules: Optional[Dict[str, Any]] = None

    def renew(self, submodules: Dict[str, Any]) -> None:
        """Makes this the loader of a reload, which trusts no byte code: that is compared by whole seconds only."""
        self._submodules = submodules

    def get_code(self, fullname: str) -> Optional[CodeType]:
        """The module's code."""
        if self._submodules is None:
            return super().get_code(fullname)
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module."""
        entry = self.entry
        entry.pending = []
        entry.loaded_here = True
        for name, value in (self._submodules or {}).items():
            setattr(module, name, value)
        try:
            with Run(self._running.stack, entry):
                super().exec_module(module)
        finally:
            entry.settle()


class Finder:
    """Answers Python's import system for the modules that the importer has already found."""

    def __init__(self) -> None:
        self.wanted: Dict[str, ModuleSpec] = {}
        #: Own names of top-level modules: where they are, for good.
        self.own: Dict[str, Callable[[], Optional[ModuleSpec]]] = {}

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        """What the import system asks every finder."""
        spec = self.wanted.get(name)
        if spec is None and name in self.own:
            spec = self.own[name]()
        return spec

    def forget(self, name: str, spec: Optional[ModuleSpec]) -> None:
        """The module has been loaded, or not; another thread's answer for the same name stays."""
        if self.wanted.get(name) is spec:
            self.wanted.pop(name, None)

    def invalidate_caches(self) -> None:
        """There is nothing to forget."""


class Running(threading.local):
    """What this thread is in the middle of."""

    def __init__(self) -> None:
        #: The managed modules that it is running, innermost last.
        self.stack: List[Managed] = []
        #: Those whose lock it holds, because it looks at or reloads them.
        self.held: List[Managed] = []


class Run:
    """A context in which the thread runs a module's code."""

    __slots__ = ("_entry", "_stack")

    def __init__(self, stack: List[Managed], entry: Managed) -> None:
        self._stack = stack
        self._entry = entry

    def __enter__(self) -> None:
        self._stack.append(self._entry)

    def __exit__(self, *_: object) -> None:
        self._stack.pop()


def stamp_of(file: Optional[str]) -> Optional[Stamp]:
    """What changes when a file does; ``None`` if there is no file (a deleted one is no reason to reload)."""
    if file is None:
        return None
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def root_of(spec: ModuleSpec) -> str:
    """The directory that a top-level module was found in."""
    directory = os.path.dirname(os.path.abspath(spec.origin or ""))
    return directory if spec.submodule_search_locations is None else os.path.dirname(directory)


def is_file(module: Any, origin: Optional[str]) -> bool:
    spec = getattr(module, "__spec__", None)
    return same_file(getattr(spec, "origin", None) or getattr(module, "__file__", None), origin)


def same_file(one: Optional[str], other: Optional[str]) -> bool:
    if not one or not other:
        return False
    if one == other:
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def submodules_of(name: str, package: Any) -> Dict[str, Any]:
    """The attributes of a package that are its submodules: a reloaded package must have them too."""
    if not hasattr(package, "__path__"):
        return {}
    prefix = name + "."
    found = {}
    for key, module in list(sys.modules.items()):
        tail = key[len(prefix) :]
        if key.startswith(prefix) and "." not in tail and getattr(package, tail, None) is module:
            found[tail] = module
    return found
