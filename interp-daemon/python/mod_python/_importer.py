"""Finding, importing and reloading the modules of handlers.

What a module is
----------------

A module is named by how it is found. One that is found on ``sys.path`` has its usual name. One that is found in a
section's directory (or a directory given to ``import_module``) is the module *of that file*: it takes its usual name in
``sys.modules`` if that is free, and otherwise, when the name already belongs to another file, a name of its own,
``_mp_<digest>_<name>``. So two sites that both have a ``handler.py`` never see each other's, while ``import handler``
elsewhere goes on to give the one that came first, as in mod_python.

All loading goes through Python's own import system, with its locks: two threads that need a new module run it once,
and a circular import behaves as it always does.

Reloading
---------

A module that was loaded as a handler's or by ``import_module`` is looked at again once a second, when it is used: if its
file, or that of a module which it imported by ``import_module`` while it was being run, or of a package that it is in,
has changed, it is loaded anew, as a new module object. The old one goes on serving other threads until the new one is
ready. A reload that fails raises its error to everyone who asks, and is tried again once a second until it works.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import threading
import time
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from mod_python import _apache
from mod_python._constants import APLOG_NOTICE
from mod_python._managed import (
    Finder,
    Loader,
    Managed,
    Running,
    Stamp,
    is_file,
    root_of,
    same_file,
    stamp_of,
    submodules_of,
)

#: Seconds between two looks at the same file.
CHECK_INTERVAL = 1.0

#: Packages that are never reloaded: our own.
_FIXED = {"mod_python", "vivarium", "_apache", "_vivarium", "__main__"}

class Importer:
    """All managed modules of the process."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, interval: float = CHECK_INTERVAL
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._modules: Dict[str, Managed] = {}
        self._known: Dict[Tuple[str, Tuple[str, ...]], Managed] = {}
        #: The modules of :meth:`load_page`, by path.
        self._pages: Dict[str, Managed] = {}
        self._mutex = threading.Lock()
        self._running = Running()
        self._finder = Finder()
        self._path_lock = threading.RLock()
        self._paths: Set[str] = set()
        #: The sections' directories that were put on ``sys.path``, without a trailing slash.
        self._sections: Set[str] = set()
        sys.meta_path.insert(0, self._finder)

    def close(self) -> None:
        """Takes the importer out of Python's import system."""
        sys.meta_path.remove(self._finder)

    # --- sys.path --------------------------------------------------------------------------------------------------

    def prepare(
        self, expression: Optional[str], directory: Optional[str], is_location: bool
    ) -> Optional[str]:
        """Brings ``sys.path`` into the state that a section asks for; gives the directory to look in first.

        ``expression`` is ``PythonPath``: evaluated once for each distinct string, in a copy of the name space of
        ``mod_python.apache``; the result replaces ``sys.path``. Without it the section's directory is put in front,
        unless it is there or the section is a ``<Location>``.
        """
        if expression:
            if expression not in self._paths:
                with self._path_lock:
                    if expression not in self._paths:
                        sys.path[:] = _evaluate(expression)
                        self._paths.add(expression)
            return None
        if not directory or is_location:
            return None
        if directory not in sys.path:
            with self._path_lock:
                if directory not in sys.path:
                    self._sections.add(os.path.abspath(directory))
                    sys.path.insert(0, directory)
        return directory

    # --- loading ---------------------------------------------------------------------------------------------------

    def load(
        self,
        name: str,
        directories: Iterable[str] = (),
        autoreload: bool = True,
        log: bool = False,
        base: Optional[str] = None,
    ) -> Managed:
        """Gives the module of that name, imported or reloaded as needed.

        ``directories`` are looked through first. A name with a ``/`` is a path, with or without ``.py``: ``~/`` is
        the first of ``directories``, ``./`` and ``../`` start at ``base`` (default: also the first of ``directories``).
        """
        key = (name, tuple(directories))
        entry = self._known.get(key)
        if entry is None or not self._current(entry):
            entry = self._find(name, key[1], base, log)
            if "./" not in name and self._modules.get(entry.name) is entry:
                self._known[key] = entry
        stack = self._running.stack
        try:
            if autoreload:
                self.refresh(entry, log)
        finally:
            if stack:
                stack[-1].pending.append(entry)
        return entry

    def load_page(self, path: str, autoreload: bool = True, log: bool = False) -> Managed:
        """Gives the module of a file, imported or reloaded as needed, under a name of its own: what is served by its
        file's name, such as ``code.py``, must not become what ``import code`` gives."""
        entry = self._pages.get(path)
        if entry is None or not self._current(entry):
            top = os.path.splitext(os.path.basename(path))[0]
            spec = importlib.util.spec_from_file_location(top, path)
            assert spec is not None
            entry = self._pages[path] = self._load_own(top, spec, root_of(spec), log)
        if autoreload:
            self.refresh(entry, log)
        return entry

    def managed(self, name: Optional[str]) -> Optional[Managed]:
        """The managed module of that name, also one that this thread is just running for the first time."""
        for entry in reversed(self._running.stack):
            if entry.name == name:
                return entry
        return self._modules.get(name) if name else None

    def root(self, names: Dict[str, Any]) -> Optional[str]:
        """The directory in which the module of this name space was found, if it is a section's or was given.

        A module of a section's directory may also have come by a plain ``import``, before its handler was needed.
        """
        entry = self.managed(names.get("__name__"))
        if entry is not None:
            return entry.root
        file = names.get("__file__")
        directory = os.path.dirname(os.path.abspath(file)) if isinstance(file, str) else None
        return directory if directory in self._sections else None

    def module(self, entry: Managed) -> Any:
        """The entry's module; to code that it runs itself, in a circle, the one that is just being made."""
        if entry in self._running.stack:
            return sys.modules.get(entry.name, entry.module)
        return entry.module

    def _current(self, entry: Managed) -> bool:
        """Whether the entry still is what ``sys.modules`` says: programs may drop or replace modules there."""
        return sys.modules.get(entry.name) is entry.module or entry.lock.locked()

    def _find(
        self, name: str, directories: Tuple[str, ...], base: Optional[str], log: bool
    ) -> Managed:
        if "/" in name:
            return self._find_path(name, directories, base, log)
        top, _, rest = name.partition(".")
        found = top
        if directories and top and top not in _FIXED:
            spec = PathFinder.find_spec(top, list(directories))
            if spec is not None and spec.has_location and spec.origin:
                root = root_of(spec)
                entry = self._load_file(top, spec, root, log)
                if not rest:
                    return entry
                found = entry.name
        return self._first(f"{found}.{rest}" if rest else found, None, None, log)

    def _find_path(
        self, name: str, directories: Tuple[str, ...], base: Optional[str], log: bool
    ) -> Managed:
        start = directories[0] if directories else None
        given = name
        if name.startswith("~/"):
            name = name[2:]
        elif name.startswith(("./", "../")):
            start = base or start
        if start is None and not name.startswith("/"):
            raise ImportError(f"module {given!r} is a relative path, and there is no directory to start at")
        path = os.path.normpath(os.path.join(start or "/", name))
        if not path.endswith(".py"):
            package = os.path.join(path, "__init__.py")
            path = package if os.path.isfile(package) else path + ".py"
        if not os.path.isfile(path):
            raise ModuleNotFoundError(f"No module at {path!r}", name=name, path=path)
        package_dir = os.path.dirname(path)
        is_package = os.path.basename(path) == "__init__.py"
        top = os.path.basename(package_dir) if is_package else os.path.basename(path)[:-3]
        spec = importlib.util.spec_from_file_location(
            top, path, submodule_search_locations=[package_dir] if is_package else None
        )
        assert spec is not None
        if not top.isidentifier():
            return self._load_own(top, spec, root_of(spec), log)
        return self._load_file(top, spec, root_of(spec), log)

    def _load_file(self, top: str, spec: ModuleSpec, root: str, log: bool) -> Managed:
        """Loads the top-level module of a file, under its usual name if that is free or already this file's."""
        taken = sys.modules.get(top)
        if taken is None or is_file(taken, spec.origin):
            entry = self._first(top, spec, root, log)
            if entry.loaded_here or is_file(entry.module, spec.origin):
                if entry.file is None or same_file(entry.file, spec.origin):
                    return entry
        return self._load_own(top, spec, root, log)

    def _load_own(self, top: str, spec: ModuleSpec, root: str, log: bool) -> Managed:
        origin = spec.origin or top
        digest = sha256(os.path.abspath(origin).encode("utf-8", "surrogateescape")).hexdigest()
        own = f"_mp_{digest[:12]}_{top.replace('.', '_')}"
        places = spec.submodule_search_locations
        locations = None if places is None else list(places)

        def again() -> Optional[ModuleSpec]:
            return importlib.util.spec_from_file_location(
                own, origin, submodule_search_locations=locations
            )

        self._finder.own[own] = again
        return self._first(own, again(), root, log)

    def _first(
        self, name: str, spec: Optional[ModuleSpec], root: Optional[str], log: bool
    ) -> Managed:
        """Loads a module unless it is there. ``spec`` says where it is, if that is not what the name says."""
        known = self._modules.get(name)
        if known is not None and known.module is not None and self._current(known):
            return known
        parent_name = name.rpartition(".")[0]
        parent = None
        if parent_name and not parent_name.startswith("."):
            parent = self._first(parent_name, None, root, log)
        if name in sys.modules:
            spec = getattr(sys.modules[name], "__spec__", None)
        else:
            if log:
                _announce(name)
            if spec is None:
                spec = _look(name)
        fixed = name.partition(".")[0] in _FIXED
        source = None
        if spec is not None and not fixed and type(spec.loader) in (SourceFileLoader, Loader):
            source = spec.origin
        entry = Managed(name, source, root if root or parent is None else parent.root)
        entry.parent = parent
        entry.settle()
        if spec is not None and source is not None and name not in sys.modules:
            spec.loader = Loader(entry, source, self._running)
            self._finder.wanted[name] = spec
        try:
            module = importlib.import_module(name)
        except BaseException:
            # What was missing may be there by the next request: let the next try list the directories again.
            importlib.invalidate_caches()
            raise
        finally:
            self._finder.forget(name, spec)
        return self._register(entry, module)

    def _register(self, entry: Managed, module: Any) -> Managed:
        """Makes the module a managed one, unless another thread has done so meanwhile."""
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if isinstance(loader, Loader) and loader.entry.name == entry.name:
            entry = loader.entry
        elif entry.file is not None and not entry.loaded_here and not is_file(module, entry.file):
            entry.file = getattr(module, "__file__", None)
            entry.stamp = entry.loaded = stamp_of(entry.file)
        if entry in self._running.stack:
            # A circular import, from code that the module runs: not yet anybody else's.
            entry.adopt(module)
            return entry
        with self._mutex:
            now = self._modules.get(entry.name)
            if now is not None and now.module is module:
                return now
            entry.adopt(module)
            entry.due = entry.stat_due = self._clock() + self._interval
            self._modules[entry.name] = entry
            return entry

    # --- reloading -------------------------------------------------------------------------------------------------

    def refresh(self, entry: Managed, log: bool = False) -> None:
        """Looks whether the module has changed, if it is time to, and reloads it then.

        Raises the error of the reload, or of the last one if that has failed and it is not yet time to try again.
        """
        now = self._clock()
        held = self._running.held
        if now < entry.due or not entry.lock.acquire(blocking=False):
            # Not yet, or another thread is at it (or this one, in a circle): the module as it is now.
            if entry not in held and entry not in self._running.stack:
                entry.check()
            return
        held.append(entry)
        try:
            due = now + self._interval
            entry.due = due
            stale = entry.error is not None
            for dep in entry.deps:
                try:
                    self.refresh(dep, log)
                except BaseException:  # noqa: BLE001, S110 (the reload of this module meets it again, and reports it)
                    pass
                if now < dep.due < due:
                    due = dep.due
            entry.due = due
            stamp = entry.stamp
            if now >= entry.stat_due:
                entry.stat_due = now + self._interval
                stamp = stamp_of(entry.file) or entry.stamp
            if not stale:
                stale = stamp != entry.stamp or any(d.state() != s for d, s in entry.seen.items())
            if stale:
                self._reload(entry, stamp, log)
        finally:
            held.pop()
            entry.lock.release()

    def _reload(self, entry: Managed, stamp: Optional[Stamp], log: bool) -> None:
        if entry.file is None:
            return
        name, old = entry.name, entry.module
        if log:
            _announce(name)
        loader = Loader(entry, entry.file, self._running)
        loader.renew(submodules_of(name, old))
        places = getattr(old, "__path__", None)
        spec = importlib.util.spec_from_file_location(
            name,
            entry.file,
            loader=loader,
            submodule_search_locations=None if places is None else list(places),
        )
        assert spec is not None
        entry.stamp = stamp
        self._finder.wanted[name] = spec
        sys.modules.pop(name, None)
        try:
            new = importlib.import_module(name)
        except BaseException as error:
            sys.modules.setdefault(name, old)
            entry.fail(error)
            raise
        else:
            entry.adopt(new)
            entry.error = None
            entry.loaded = stamp
        finally:
            self._finder.forget(name, spec)


def _evaluate(expression: str) -> List[str]:
    names = dict(vars(sys.modules["mod_python.apache"]))
    names["apache"] = sys.modules["mod_python.apache"]
    path = eval(expression, names)  # noqa: S307 (the administrator's own expression)
    if isinstance(path, (str, bytes)) or not hasattr(path, "__iter__"):
        raise TypeError(f"PythonPath must be a list of directories, not {type(path).__name__}: {expression}")
    return list(path)


def _look(name: str) -> Optional[ModuleSpec]:
    """Where Python would find the module; ``None`` also where importing it is to say what is wrong with the name."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _announce(name: str) -> None:
    usual = re.sub(r"^_mp_[0-9a-f]{12}_", "", name)
    _apache.log_error(f"mod_python: (Re)importing module '{usual}'", APLOG_NOTICE)
