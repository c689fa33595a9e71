"""The publisher: functions and variables of modules, by their URLs. ``docs/publisher.md`` is the manual.

    <Directory /srv/www/app>
        SetHandler mod_python
        PythonHandler mod_python.publisher
    </Directory>

``/app/hello/say?name=x`` then is what ``say(req, name)`` in ``/srv/www/app/hello.py`` returns.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, List, NoReturn, Optional, Tuple

from mod_python import apache, util
from mod_python._apache import SERVER_RETURN
from mod_python._publish import Guard, function_of, may_pass, may_show

_METHODS = ("GET", "POST", "HEAD")
_MISSING = object()
#: Functions that return functions, one after the other at most.
_DEEPEST = 20

_HTML_END = re.compile(r"</html\s*>\s*\Z", re.I)
_HTML_BEGIN = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)


def handler(req: Any) -> int:
    """Publishes what the request's URL names."""
    req.allow_methods(list(_METHODS))
    if req.method not in _METHODS:
        raise SERVER_RETURN(apache.HTTP_METHOD_NOT_ALLOWED)
    waiting = _Waiting()
    try:
        path, steps = _locate(req)
        config = req.get_config()
        entry = apache._importer.load_page(path, config.get("PythonAutoReload") != "0", config.get("PythonDebug") == "1")
        found = _walk(req, apache._importer.module(entry), steps, waiting)
        _publish(req, found, waiting)
    finally:
        waiting.close()
    return apache.OK


# --- from the URL to the object ---------------------------------------------------------------------------------------


def _locate(req: Any) -> Tuple[str, List[str]]:
    """The module's file, and the names to follow in it."""
    filename = req.filename
    if not filename:
        raise SERVER_RETURN(apache.HTTP_NOT_FOUND)
    steps = [step for step in (req.path_info or "").split("/") if step]
    directory, name = os.path.split(filename)
    if name:
        name = _stem(req, name)
        path = os.path.join(directory, name + ".py")
        if _is_file(path):
            if name.startswith("_"):
                _refuse(req, [name, *steps], "names with an underscore in front are not published")
            return (path, steps)
        steps.insert(0, name)
    path = os.path.join(directory, "index.py")
    if not _is_file(path):
        raise SERVER_RETURN(apache.HTTP_NOT_FOUND)
    return (path, steps)


def _stem(req: Any, name: str) -> str:
    """The name without the suffix that says that it is Python's."""
    suffixes = {"py", *(req.get_addhandler_exts() or "").replace(".", " ").split()}
    if req.extension:
        suffixes.add(req.extension.lstrip("."))
    for suffix in sorted(suffixes, key=len, reverse=True):
        if name.endswith("." + suffix) and len(name) > len(suffix) + 1:
            return name[: -len(suffix) - 1]
    return name


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:
        return False


def _walk(req: Any, module: Any, steps: List[str], waiting: _Waiting) -> Any:
    """The object that the names lead to. Each one's rules are checked on the way, before anything in it is looked at."""
    guard = Guard(req, waiting.result)
    guard.check(module)
    if any(step.startswith("_") for step in steps):
        _refuse(req, steps, "names with an underscore in front are not published")
    found = module
    for step in steps or ["index"]:
        if found is not module and not may_pass(found):
            _refuse(req, steps, f"there is no way through a {type(found).__name__}")
        found = getattr(found, step, _MISSING)
        if found is _MISSING:
            raise SERVER_RETURN(apache.HTTP_NOT_FOUND)
        guard.check(found)
    if not may_show(found):
        _refuse(req, steps, f"a {type(found).__name__} is not published")
    return found


def _refuse(req: Any, steps: List[str], why: str) -> NoReturn:
    req.log_error(f"publisher: /{'/'.join(steps)}: {why}".replace("\0", "\\0"), apache.APLOG_INFO)
    raise SERVER_RETURN(apache.HTTP_FORBIDDEN)


# --- from the object to the answer ------------------------------------------------------------------------------------


def _publish(req: Any, thing: Any, waiting: _Waiting) -> None:
    """Calls what can be called, and sends what comes of it."""
    for _ in range(_DEEPEST):
        if inspect.isawaitable(thing):
            thing = waiting.result(thing)
        elif callable(thing) and not isinstance(thing, type) and function_of(thing) is not None:
            thing = _call(req, thing)
        else:
            break
    else:
        raise RuntimeError(f"publisher: {_DEEPEST} functions that return a function in a row")
    if thing is None:
        return
    if isinstance(thing, (bytes, bytearray, memoryview)):
        data = bytes(thing)
        _set_type(req, data, b"</html" in data[-100:].lower(), "")
        req.write(data)
    elif isinstance(thing, (Iterator, AsyncIterator)):
        _stream(req, thing, waiting)
    else:
        text = str(thing)
        _set_type(req, text, _HTML_END.search(text[-100:]) is not None, "; charset=utf-8")
        req.write(text)


def _call(req: Any, thing: Any) -> Any:
    """Calls the object with the form's fields."""
    form = getattr(req, "form", None)
    if form is None:
        form = req.form = util.FieldStorage(req, keep_blank_values=1)
    function = function_of(thing)
    parameters = inspect.signature(thing).parameters.values()
    missing = [
        one.name
        for one in parameters
        if one.default is one.empty
        and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        and one.name != "req"
        and one.name not in form
    ]
    if missing:
        where = "?" if function is None else function.__qualname__
        req.log_error(f"publisher: {where}() needs {', '.join(missing)}, which the form has not", apache.APLOG_INFO)
        raise SERVER_RETURN(apache.HTTP_BAD_REQUEST)
    return util.apply_fs_data(thing, form, req=req)


def _stream(req: Any, items: Any, waiting: _Waiting) -> None:
    """Sends the items as they come."""
    try:
        first = True
        for item in waiting.items(items) if isinstance(items, AsyncIterator) else items:
            if item is None:
                continue
            data = item if isinstance(item, (str, bytes)) else bytes(item) if _is_data(item) else str(item)
            if first:
                text = data if isinstance(data, str) else data[:1000].decode("latin-1")
                charset = "; charset=utf-8" if isinstance(data, str) else ""
                _set_type(req, data, _HTML_BEGIN.match(text[:1000]) is not None, charset)
                first = False
            req.write(data)
    finally:
        close = getattr(items, "aclose", None) or getattr(items, "close", None)
        ended = None if close is None else close()
        if inspect.isawaitable(ended):
            waiting.result(ended)


def _is_data(item: Any) -> bool:
    return isinstance(item, (bytearray, memoryview))


def _set_type(req: Any, data: Any, is_html: bool, charset: str) -> None:
    """Says what the answer is, unless the program has."""
    if not req._content_type_set:
        req.content_type = ("text/html" if is_html else "text/plain") + charset


class _Waiting:
    """An event loop for one request, made when it is needed."""

    def __init__(self) -> None:
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def result(self, awaitable: Any) -> Any:
        """What the awaitable gives."""
        loop = self._running()
        if not inspect.iscoroutine(awaitable) and not asyncio.isfuture(awaitable):
            awaitable = _await(awaitable)
        return loop.run_until_complete(awaitable)

    def items(self, iterator: Any) -> Any:
        """The items of an asynchronous iterator."""
        while True:
            try:
                yield self.result(_next(iterator))
            except StopAsyncIteration:
                return

    def close(self) -> None:
        """Ends what is still running in the loop."""
        loop = self._loop
        if loop is None:
            return
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _next(iterator: Any) -> Any:
    # Called in the loop, which then knows of the iterator.
    return await iterator.__anext__()


async def _await(awaitable: Any) -> Any:
    return await awaitable
