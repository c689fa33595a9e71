"""The handler for WSGI applications: ``PythonHandler mod_python.wsgi``.

::

    <Location "/app">
        SetHandler mod_python
        PythonHandler mod_python.wsgi
        PythonPath "['/srv/app'] + sys.path"
        PythonOption mod_python.wsgi.application site.wsgi::application
    </Location>

``mod_python.wsgi.application`` is ``module[::object]``, the object being ``application`` if none is named, and found
as handlers are: in the section's directory or along ``PythonPath``, and loaded anew when its file changes.
``mod_python.wsgi.base_uri`` is the URI below which the application lives (``SCRIPT_NAME``), without a slash at its
end; without the option that is the path of the ``<Location>``, elsewhere the server's root. Requests above it are
declined.

docs/wsgi.md says what applications get and what they may do.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Optional, Tuple

from mod_python import _errors, apache
from mod_python._constants import AP_CONN_CLOSE, APLOG_ERR, DECLINED, DONE, OK
from mod_python._wsgi import Response, complete, environment

_APPLICATION = "mod_python.wsgi.application"
_BASE = "mod_python.wsgi.base_uri"
#: Seconds between two looks at the same application.
_INTERVAL = 1.0
#: At most so many applications are remembered; then all are forgotten.
_MOST = 1024

#: An application's name, the section's directory and whether it is a Location, the configuration's number.
_Key = Tuple[str, Optional[str], bool, Any]


class _Plan:
    """An application whose module has been found."""

    __slots__ = ("due", "entry", "name")

    def __init__(self, entry: Any, name: str, due: float) -> None:
        self.entry = entry
        #: Looked for in the module's name space each time: programs may assign it anew, and so does a reload.
        self.name = name
        #: When the configuration and the module have to be looked at again.
        self.due = due


_plans: Dict[_Key, _Plan] = {}


def handler(req: Any) -> int:
    """Runs the application that ``PythonOption mod_python.wsgi.application`` names."""
    options = req.get_options()
    name = options.get(_APPLICATION)
    if not name:
        raise RuntimeError(f"mod_python.wsgi: PythonOption {_APPLICATION} is not set: name a module[::callable]")
    env = environment(req, options.get(_BASE))
    if env is None:
        return DECLINED
    complete(req, env)
    return run(req, _application(req, name), env)


def run(req: Any, application: Any, env: Dict[str, Any]) -> int:
    """Runs an application for a request and sends its answer; gives the phase's result.

    An error of the application before the answer has begun is raised, and is a 500 like that of any handler. After
    that, the error is logged and, where a Content-Length was announced, the connection is closed in the midst of the
    body, so that the client cannot take a part for the whole.
    """
    response = Response(req)
    result = None
    try:
        result = application(env, response.start)
        response.send(result)
    except BaseException as error:
        _close(req, result)
        if response.gone is not None:
            if error is not response.gone and error.__context__ is not response.gone:
                _log(req, error)
            return OK
        if not response.short:
            raise
        _log(req, error)
        req.connection.keepalive = AP_CONN_CLOSE
        return DONE
    _close(req, result)
    if response.short:
        req.log_error("mod_python.wsgi: less body than the Content-Length says: the connection is closed", APLOG_ERR)
        req.connection.keepalive = AP_CONN_CLOSE
        return DONE
    return OK


def _close(req: Any, result: Any) -> None:
    """Calls the ``close`` of what an application has returned. Its errors come too late for the client."""
    close = getattr(result, "close", None)
    if close is not None:
        try:
            close()
        except Exception as error:
            _log(req, error)


def _log(req: Any, error: BaseException) -> None:
    for line in _errors.log_lines(_errors.chunks(error)):
        req.log_error(f"mod_python.wsgi: {line}", APLOG_ERR)


def _application(req: Any, name: str) -> Any:
    walk = req.hlist
    directory = walk.directory if walk is not None else None
    is_location = bool(walk is not None and walk.is_location)
    key = (name, directory, is_location, getattr(req, "_config_id", None))
    plan = _plans.get(key)
    if plan is None or time.monotonic() >= plan.due:
        plan = _find(key, req)
    found = plan.entry.names.get(plan.name)
    if found is not None:
        return found
    found = apache._importer.module(plan.entry)
    for step in plan.name.split("."):
        found = getattr(found, step)
    return found


def _find(key: _Key, req: Any) -> _Plan:
    """Finds an application's module, or looks again whether it is still right."""
    name, directory, is_location, _ = key
    config = req.get_config()
    importer = apache._importer
    root = importer.prepare(config.get("PythonPath"), directory, is_location)
    module, colons, attribute = name.partition("::")
    autoreload = config.get("PythonAutoReload") != "0"
    debug = config.get("PythonDebug") == "1"
    entry = importer.load(module, (root,) if root else (), autoreload, debug, root)
    due = time.monotonic() + _INTERVAL
    if autoreload:
        due = min(due, entry.due)
    plan = _Plan(entry, attribute if colons else "application", due)
    if len(_plans) >= _MOST:
        _plans.clear()
    _plans[key] = plan
    return plan
