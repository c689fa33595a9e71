"""Directives given as Python values: what a section of httpd's configuration is."""

from __future__ import annotations

import itertools
import os
import sys
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

from mod_python.testing._objects import Item

#: A handler: ``"module"``, ``"module::object"``, a function or class, or a module.
Handler = Union[str, Callable[..., Any], ModuleType]

PHASES = (
    "PythonPostReadRequestHandler", "PythonTransHandler", "PythonInitHandler", "PythonHeaderParserHandler",
    "PythonAccessHandler", "PythonAuthenHandler", "PythonAuthzHandler", "PythonTypeHandler", "PythonFixupHandler",
    "PythonHandler", "PythonLogHandler", "PythonCleanupHandler",
)  # fmt: skip
_FLAGS = ("PythonAutoReload", "PythonDebug", "PythonInterpPerDirectory", "PythonInterpPerDirective", "PythonEnablePdb")
_VALUES = ("PythonPath", "PythonInterpreter")
_PROVIDERS = ("PythonAuthnProvider", "PythonAuthzProvider")
_OTHERS = (
    "PythonHandlerModule", "PythonConnectionHandler", "PythonInputFilter", "PythonOutputFilter", "PythonOption",
    "PythonImport", "SetHandler", "SetInputFilter", "SetOutputFilter", "AuthType", "AuthName", "Require",
)  # fmt: skip
#: All directives that a client takes.
DIRECTIVES = (*PHASES, *_FLAGS, *_VALUES, *_PROVIDERS, *_OTHERS)

_numbers = itertools.count(1)


class Section:
    """The directives that hold for a request."""

    def __init__(self, directory: Optional[str] = None, location: Optional[str] = None) -> None:
        #: Equal for requests of equal configuration.
        self.number = next(_numbers)
        self.location = location
        #: The URIs that it is for, of a section that was added to a client.
        self.below = ""
        self.directory = None if directory is None else os.path.join(os.path.abspath(directory), "")
        self.config: Dict[str, str] = {}
        self.options: Dict[str, str] = {}
        #: (phase, extension or "") -> handlers
        self.handlers: Dict[Tuple[str, str], List[Item]] = {}
        #: (name in lower case, is input) -> handler
        self.filters: Dict[Tuple[str, bool], Item] = {}
        self.providers: Dict[str, Item] = {}
        self.active: Dict[bool, List[str]] = {False: [], True: []}
        self.handler: Optional[str] = "mod_python"
        self.auth_type: Optional[str] = None
        self.auth_name: Optional[str] = None
        self.require: List[str] = []

    def inside(self, location: Optional[str], directives: Dict[str, Any]) -> Section:
        """A section inside this one: its values hold, the others of this one stay."""
        made = Section(self.directory, self.location if location is None else location)
        made.config.update(self.config)
        made.options.update(self.options)
        made.handlers.update(self.handlers)
        made.filters.update(self.filters)
        made.providers.update(self.providers)
        made.active = {key: list(names) for key, names in self.active.items()}
        made.handler, made.auth_type, made.auth_name = self.handler, self.auth_type, self.auth_name
        made.require = list(self.require)
        made.take(directives)
        return made

    @property
    def debug(self) -> bool:
        """``PythonDebug``."""
        return self.config.get("PythonDebug") == "1"

    def take(self, directives: Dict[str, Any]) -> None:
        """Applies directives."""
        for name, value in directives.items():
            if name not in DIRECTIVES:
                known = ", ".join(sorted(DIRECTIVES))
                raise TypeError(f"{name} is no directive that the test client knows; it knows {known}")
            self._take(name, value)
        guarded = "PythonAuthenHandler" in directives or "PythonAuthnProvider" in directives
        if guarded and not self.require and "Require" not in directives:
            self.require = ["valid-user"]
        if self.require:
            self.auth_type = self.auth_type or "Basic"
            self.auth_name = self.auth_name or "test"

    def _take(self, name: str, value: Any) -> None:
        if name in PHASES:
            for extension, items in self.items(value).items():
                self.handlers[name, extension] = items
        elif name == "PythonHandlerModule":
            for phase in PHASES:
                self.handlers[phase, ""] = [(n, d, True, loc) for n, d, _, loc in self.items(value)[""]]
        elif name in _FLAGS:
            self.config[name] = "1" if str(value).lower() in ("1", "on", "true") else "0"
        elif name in _VALUES:
            self.config[name] = str(value)
        elif name == "PythonOption":
            for key, option in dict(value).items():
                self.options[key] = "" if option is None else str(option)
            self.options = {key: option for key, option in self.options.items() if option != ""}
        elif name in ("PythonInputFilter", "PythonOutputFilter"):
            filters = value if isinstance(value, dict) else {handler_name(value): value}
            for filter_name, handler in filters.items():
                self.filters[filter_name.lower(), name == "PythonInputFilter"] = self._item(handler_name(handler))
        elif name in ("SetInputFilter", "SetOutputFilter"):
            self.active[name == "SetInputFilter"] = value.split(";") if isinstance(value, str) else list(value)
        elif name in _PROVIDERS:
            self.providers[name] = self._item(handler_name(value))
        elif name == "Require":
            self.require = [value] if isinstance(value, str) else list(value or ())
        elif name in ("AuthType", "AuthName", "SetHandler"):
            attribute = {"AuthType": "auth_type", "AuthName": "auth_name", "SetHandler": "handler"}[name]
            setattr(self, attribute, value)

    def items(self, value: Any) -> Dict[str, List[Item]]:
        """The lists that a handler directive's value stands for: the plain one is that of ``""``."""
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        found: Dict[str, List[Item]] = {}
        for each in values:
            text, bar, extensions = handler_name(each).partition("|")
            items = [self._item(name) for name in text.split()]
            if not items:
                raise ValueError("a handler directive without a handler")
            for extension in extensions.split() if bar else [""]:
                found.setdefault(extension, []).extend(items)
        return found

    def _item(self, name: str) -> Item:
        if self.location is not None:
            return (name, self.location, False, True)
        return (name, self.directory, False, False)


def handler_name(handler: Handler) -> str:
    """The ``module::object`` by which the dispatcher finds a handler."""
    if isinstance(handler, str):
        return handler
    if isinstance(handler, ModuleType):
        if sys.modules.get(handler.__name__) is handler:
            return handler.__name__
        return _stand_in(handler.__name__, handler)
    if not callable(handler):
        raise TypeError(f"no handler: {handler!r}")
    module = getattr(handler, "__module__", None) or ""
    name = getattr(handler, "__qualname__", "")
    found: Any = sys.modules.get(module)
    for step in name.split("."):
        found = getattr(found, step, None)
    if found is handler and "<" not in name:
        return f"{module}::{name}"
    made = ModuleType("handler")
    made.__dict__["handler"] = handler
    return _stand_in(name or type(handler).__name__, made) + "::handler"


def _stand_in(name: str, module: ModuleType) -> str:
    """Makes something that no import finds a module of a name of its own."""
    plain = "".join(c if c.isalnum() else "_" for c in name.rpartition(".")[2]).strip("_")
    own = f"mod_python_testing_{next(_numbers)}_{plain}"
    sys.modules[own] = module
    return own


def config_tree(directives: Dict[str, Any]) -> List[Tuple[str, str]]:
    """The directives as ``apache.config_tree()`` gives them."""
    lines: List[Tuple[str, str]] = []
    for name, value in directives.items():
        if isinstance(value, dict):
            lines += [(name, f"{key} {_shown(each)}") for key, each in value.items()]
        else:
            values: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
            lines += [(name, _shown(each)) for each in values]
    return lines


def _shown(value: Any) -> str:
    return handler_name(value) if callable(value) or isinstance(value, ModuleType) else str(value)
