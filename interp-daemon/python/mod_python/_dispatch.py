"""The dispatcher: what the extension ``_vivarium`` calls to run a phase.

This page is also the contract between the two. ``_vivarium`` is the extension module (Rust), "the request" its
``mp_request``.

What the extension calls
------------------------

One :class:`Dispatcher` is made by :func:`install`, which hands it over with ``_vivarium.set_dispatcher(obj)``. It may
be called from any number of threads at once. Only ``handler`` and ``connection`` return something that matters, and
none of the methods raises for an error of a handler.

``obj.handler(req, phase, handlers, debug) -> int``
    Runs the handlers of one phase. ``phase`` is the directive (``"PythonAccessHandler"``). ``handlers`` is the running
    list: tuples ``(name: str, directory: str | None, silent: bool, is_location: bool)``, possibly none, with what
    ``req.add_handler`` registered earlier for this phase at its end; ``req.add_handler`` for the running phase appends
    to this very list. ``directory`` is the section's directory; with ``is_location`` it may be the argument of
    ``<Location>``, and is never searched. The result fits an ``i32``.
``obj.filter(filter, handlers, debug) -> None``
    Runs a filter for one brigade; ``handlers`` has one item.
``obj.connection(conn, handlers, debug) -> int``
    Runs the first connection handler.
``obj.cleanup(req_or_None, callable, data) -> None``
    Runs one registered clean-up: ``callable(data)``, or ``callable(*data)`` if that is a tuple.
``obj.ssi(filter, what, code, debug) -> int``
    Runs an element of an SSI page: ``what`` is ``"eval"`` or ``"exec"``, ``filter`` what it writes into the page by.
``obj.provider(req, kind, handlers, arguments) -> (int, bytes | None)``
    Asks a provider; ``handlers`` has one item. ``kind`` is ``"checkpassword"`` (arguments: user, password),
    ``"realmhash"`` (user, realm) or ``"groups"`` (the words of the ``Require`` line). Results: 0 no, 1 yes (with the
    hash), 2 no such user, 3 failed.
``obj.python_import(spec, server=None, debug=False) -> bool``
    Carries out one ``PythonImport`` (``module`` or ``module::function``); false if it failed (which is logged).

What the request offers beyond mod_python's interface
-----------------------------------------------------

``req.hlist``
    Set by the extension before it calls ``obj.handler``: it stands at the first handler of ``handlers``. The dispatcher
    goes on by ``req.hlist.next()``, as programs may: a handler that calls it skips the one after it.
``req._config_id`` (read-only int, optional)
    Equal for requests whose ``get_config()`` has equal contents, for example a hash of the encoded table. Resolved
    handlers are remembered for (phase, handler, ``_config_id``), so that ``get_config()`` is read only when one of
    these is new, and then once a second. Without the attribute a change of ``PythonPath`` between two sections that
    share a handler and a directory is noticed up to a second late.
``req.log_error(text, level)``, ``conn.log_error(text, level)``
    As in mod_python, one line each.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple

from mod_python import _apache, _errors, _providers, _ssi, apache
from mod_python._apache import SERVER_RETURN
from mod_python._constants import APLOG_ERR, DECLINED, DONE, HTTP_INTERNAL_SERVER_ERROR, OK
from mod_python._importer import Importer
from mod_python._managed import Managed

#: One handler of a list: name, directory, silent, is_location.
Item = Tuple[str, Optional[str], bool, bool]

_ALL_RUN = frozenset((OK, DECLINED))
_FIRST_DECIDES = frozenset((DECLINED,))
_WHILE_OK = frozenset((OK,))

#: Results after which a phase goes on to its next handler.
_GO_ON: Dict[str, FrozenSet[int]] = {
    "PythonPostReadRequestHandler": _ALL_RUN,
    "PythonTransHandler": _FIRST_DECIDES,
    "PythonInitHandler": _ALL_RUN,
    "PythonHeaderParserHandler": _ALL_RUN,
    "PythonAccessHandler": _ALL_RUN,
    "PythonAuthenHandler": _FIRST_DECIDES,
    "PythonAuthzHandler": _FIRST_DECIDES,
    "PythonTypeHandler": _FIRST_DECIDES,
    "PythonFixupHandler": _ALL_RUN,
    "PythonHandler": _WHILE_OK,
    "PythonLogHandler": _ALL_RUN,
    "PythonCleanupHandler": _WHILE_OK,
}

#: Phases that run when the answer is out: no page can be shown any more.
_AFTER_ANSWER = frozenset(("PythonLogHandler", "PythonCleanupHandler"))


#: At most so many handlers are remembered as resolved; then all are forgotten. Only programs that make up directories
#: in ``req.add_handler`` ever come here.
_MOST_PLANS = 4096


class _Plan:
    """A handler whose module has been found."""

    __slots__ = ("due", "entry", "object")

    def __init__(self, entry: Managed, name: str, due: float) -> None:
        self.entry = entry
        #: What to look for in its name space, each time: programs may assign it anew, and so does a reload.
        self.object = name
        #: When the configuration and the module have to be looked at again.
        self.due = due


class _Skipped(Exception):  # noqa: N818
    """A silent handler's function does not exist."""


class Dispatcher:
    """Runs handlers, filters and clean-ups for the extension. See the module's text for what it is called with."""

    def __init__(
        self,
        importer: Optional[Importer] = None,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 1.0,
    ) -> None:
        self._importer = apache._importer if importer is None else importer
        self._clock = clock
        self._interval = interval
        self._plans: Dict[Tuple[str, Item, Any], _Plan] = {}

    # --- requests --------------------------------------------------------------------------------------------------

    def handler(self, req: Any, phase: str, handlers: Sequence[Item], debug: bool) -> int:
        """Runs the handlers of a phase, also those that are added while it runs; gives the last result."""
        if not handlers:
            return DECLINED
        config_id = getattr(req, "_config_id", None)
        go_on = _GO_ON.get(phase, _WHILE_OK)
        result = DECLINED
        item = handlers[0]
        while True:
            try:
                key = (phase, item, config_id)
                plan = self._plans.get(key)
                if plan is None or self._clock() >= plan.due:
                    plan = self._plan(key, req, phase[6:].lower(), debug)
                function = plan.entry.names.get(plan.object)
                if function is None:
                    function = self._object(plan, req, item[2])
                try:
                    result = function(req)
                except SERVER_RETURN as end:
                    result = _server_return(req, end)
                if result.__class__ is not int:
                    raise AssertionError(_NOT_AN_INT.format(type(result)))
                if not (DONE <= result <= OK or 100 <= result < 600):
                    result = _odd(req, phase, item[0], result)
            except _Skipped:
                pass
            except BaseException as error:
                return self._failed(req, phase, item[0], error, debug)
            else:
                if result not in go_on:
                    return result
            if len(handlers) == 1:
                return result
            walk = req.hlist
            walk.next()
            name = walk.handler
            if name is None:
                return result
            item = (name, walk.directory, bool(walk.silent), bool(walk.is_location))

    def _plan(self, key: Tuple[str, Item, Any], source: Any, default: str, debug: bool) -> _Plan:
        """Finds the module of a handler, or looks again whether it is still right."""
        (name, directory, _, is_location) = key[1]
        config = source.get_config()
        root = self._importer.prepare(config.get("PythonPath"), directory, is_location)
        module_name, colons, object_name = name.partition("::")
        autoreload = config.get("PythonAutoReload") != "0"
        directories = (root,) if root else ()
        entry = self._importer.load(module_name, directories, autoreload, debug, root)
        due = self._clock() + self._interval
        if autoreload:
            due = min(due, entry.due)
        plan = _Plan(entry, object_name if colons else default, due)
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    @staticmethod
    def _object(plan: _Plan, arg: Any, silent: bool) -> Any:
        """The object to call, where it is not simply a name in the module, or is missing there."""
        found = apache.resolve_object(plan.entry.module, plan.object, arg, silent)
        if found is None and silent:
            raise _Skipped
        return found

    def _failed(self, req: Any, phase: str, name: str, error: BaseException, debug: bool) -> int:
        """Logs an error of a handler and, if debugging, shows it; gives the phase's result."""
        title = f"{phase} {name}"
        parts = _errors.chunks(error)
        _log_all(req.log_error, title, parts)
        if not debug or phase in _AFTER_ANSWER or _client_is_gone(error):
            return HTTP_INTERNAL_SERVER_ERROR
        try:
            req.status = HTTP_INTERNAL_SERVER_ERROR
            req.content_type = "text/html"
            req.write(_errors.page(title, parts))
        except Exception as problem:
            if not _client_is_gone(problem):
                _log_all(req.log_error, title, _errors.chunks(problem))
            return HTTP_INTERNAL_SERVER_ERROR
        return DONE

    # --- filters ---------------------------------------------------------------------------------------------------

    def filter(self, filter: Any, handlers: Sequence[Item], debug: bool) -> None:  # noqa: A002
        """Runs a filter for a brigade. What it returns is ignored; what it wrote is flushed unless it closed itself.

        An error disables it: what comes after passes unchanged.
        """
        item = handlers[0]
        req = filter.req
        try:
            default = "inputfilter" if filter.is_input else "outputfilter"
            key = (default, item, getattr(req, "_config_id", None))
            plan = self._plans.get(key)
            if plan is None or self._clock() >= plan.due:
                plan = self._plan(key, req, default, debug)
            try:
                self._object(plan, filter, False)(filter)
            except SERVER_RETURN as end:
                _end_filter(filter, req, end)
            if not filter.closed:
                filter.flush()
        except BaseException as error:
            title = f"{filter.name} {item[0]}"
            parts = _errors.chunks(error)
            _log_all(req.log_error, title, parts)
            show = debug and not filter.is_input and not _client_is_gone(error)
            self._disable(filter, req, title, parts if show else None)

    @staticmethod
    def _disable(filter: Any, req: Any, title: str, parts: Optional[List[str]]) -> None:  # noqa: A002
        """Takes a failed filter out of the chain, after the page that shows its error."""
        try:
            if parts is not None and not filter.closed:
                req.status = HTTP_INTERNAL_SERVER_ERROR
                req.content_type = "text/html"
                filter.write(_errors.page(title, parts))
            if not filter.closed:
                filter.flush()
        except Exception as problem:
            if not _client_is_gone(problem):
                _log_all(req.log_error, title, _errors.chunks(problem))
        finally:
            try:
                filter.disable()
            except Exception as problem:
                _log_all(req.log_error, title, _errors.chunks(problem))

    # --- pages and providers -----------------------------------------------------------------------------------------

    def ssi(self, filter: Any, what: str, code: str, debug: bool) -> int:  # noqa: A002
        """Runs an element of an SSI page; anything but ``OK`` has httpd write its error text there."""
        req = filter.req
        try:
            self._importer.prepare(req.get_config().get("PythonPath"), None, False)
            _ssi.run(filter, what, code)
        except BaseException as error:
            title = f"includes {req.filename}"
            parts = _errors.chunks(error)
            _log_all(req.log_error, title, parts)
            if not debug or _client_is_gone(error):
                return HTTP_INTERNAL_SERVER_ERROR
            try:
                filter.write(_errors.page(title, parts))
            except Exception as problem:
                if not _client_is_gone(problem):
                    _log_all(req.log_error, title, _errors.chunks(problem))
                return HTTP_INTERNAL_SERVER_ERROR
        return OK

    def provider(
        self, req: Any, kind: str, handlers: Sequence[Item], arguments: Sequence[str]
    ) -> _providers.Verdict:
        """Asks a provider: whether a password is right, for a realm's hash, whether the user is in one of some groups.

        An error is logged, and never a grant.
        """
        item = handlers[0]
        try:
            key = (kind, item, getattr(req, "_config_id", None))
            plan = self._plans.get(key)
            if plan is None or self._clock() >= plan.due:
                plan = self._plan(key, req, kind, False)
            named = "::" in item[0]
            function = _providers.find(plan.entry.module, plan.object, named, kind, req)
            return _providers.ask(function, kind, req, arguments)
        except BaseException as error:
            title = f"{_providers.DIRECTIVES[kind]} {item[0]}"
            _log_all(req.log_error, title, _errors.chunks(error))
            return _providers.FAILED

    # --- connections -----------------------------------------------------------------------------------------------

    def connection(self, conn: Any, handlers: Sequence[Item], debug: bool) -> int:
        """Runs the first connection handler of the list."""
        if not handlers:
            return DECLINED
        item = handlers[0]
        try:
            server = conn.base_server
            key = ("connectionhandler", item, server.get_config().get("PythonPath"))
            plan = self._plans.get(key)
            if plan is None or self._clock() >= plan.due:
                plan = self._plan(key, server, "connectionhandler", debug)
            result = self._object(plan, conn, item[2])(conn)
            if result.__class__ is not int:
                raise AssertionError(f"ConnectionHandler '{item[0]}' returned invalid return code.")
            if not (DONE <= result <= OK or 100 <= result < 600):
                return _odd(conn, "ConnectionHandler", item[0], result)
            return int(result)
        except _Skipped:
            return DECLINED
        except BaseException as error:
            _log_all(conn.log_error, f"ConnectionHandler {item[0]}", _errors.chunks(error))
            return HTTP_INTERNAL_SERVER_ERROR

    # --- clean-ups and imports -------------------------------------------------------------------------------------

    def cleanup(self, req: Any, callback: Callable[[Any], Any], data: Any) -> None:
        """Runs one clean-up; an error of it is only logged. A tuple is the arguments, as in mod_python."""
        try:
            callback(*(data if isinstance(data, tuple) else (data,)))
        except BaseException as error:
            log = _apache.log_error if req is None else req.log_error
            shown = f"python_cleanup: Error calling cleanup object {_str(callback)}"
            for line in (shown, f"    {type(error)}: {_str(error)}"):
                _log(log, _errors.loggable(line))

    def python_import(self, spec: str, server: Any = None, debug: bool = False) -> bool:
        """Carries out one ``PythonImport``: imports the module and calls its function, if one is named."""
        try:
            if server is not None:
                self._importer.prepare(server.get_config().get("PythonPath"), None, False)
            module_name, colons, name = spec.partition("::")
            module = self._importer.load(module_name, log=debug).module
            if colons:
                getattr(module, name)()
        except BaseException as error:
            title = f"PythonImport {spec}"
            _log_all(_apache.log_error, title, _errors.chunks(error))
            _log(_apache.log_error, _errors.loggable(f"directive_PythonImport: error importing {spec}"))
            return False
        return True


_NOT_AN_INT = (
    "Handler has returned result or raised SERVER_RETURN\n"
    "exception with argument having non integer type. Type of value returned\n"
    "was {}, whereas expected <class 'int'>."
)


def _server_return(req: Any, end: BaseException) -> Any:
    """The result that a ``SERVER_RETURN`` carries; its status, if there is one, goes to the request."""
    args = end.args
    if len(args) != 2:
        return args[0]
    result, status = args
    if status:
        req.status = status
    return result


def _end_filter(filter: Any, req: Any, end: BaseException) -> None:  # noqa: A002
    """``SERVER_RETURN`` in a filter ends the stream: what follows is not sent, as in mod_python."""
    args = end.args
    code = args[1] if len(args) == 2 else args[0] if args else None
    if isinstance(code, int) and code.__class__ is int and code >= 400:
        req.status = code
    if not filter.closed:
        filter.close()


def _odd(owner: Any, phase: str, name: str, result: int) -> int:
    """A result that is no status. It does not go to httpd, to which some would mean something else (-3: suspended)."""
    _log(owner.log_error, _errors.loggable(f"{phase} {name}: invalid result code {result}"))
    return HTTP_INTERNAL_SERVER_ERROR


def _client_is_gone(error: BaseException) -> bool:
    return isinstance(error, OSError) and str(error).startswith("Write failed")


def _log_all(log: Callable[[str, int], None], title: str, parts: List[str]) -> None:
    title = _errors.loggable(title)
    for line in _errors.log_lines(parts):
        _log(log, f"{title}: {line}")


def _log(log: Callable[[str, int], None], line: str) -> None:
    """Logs a line; where that is not possible any more (httpd is gone), the worker's stderr gets it."""
    try:
        log(line, APLOG_ERR)
    except Exception:
        stderr = sys.__stderr__
        if stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                stderr.write(line + "\n")


def _str(value: Any) -> str:
    try:
        return str(value)
    except Exception as problem:
        return f"<{type(value).__name__}: str() failed with {type(problem).__name__}>"


_lock = threading.Lock()
_dispatcher: Optional[Dispatcher] = None


def dispatcher() -> Dispatcher:
    """The dispatcher of this process."""
    global _dispatcher
    with _lock:
        if _dispatcher is None:
            _dispatcher = Dispatcher()
        return _dispatcher


def install(interpreter: Optional[str] = None) -> Dispatcher:
    """Makes the dispatcher and hands it to the extension. For the worker's main program.

    ``interpreter`` is the worker's interpreter name, for ``apache.interpreter``.
    """
    found = dispatcher()
    if interpreter is not None:
        apache.interpreter = interpreter
    _apache._extension("set_dispatcher")(found)
    return found
