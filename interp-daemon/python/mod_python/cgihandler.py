"""The handler for CGI scripts: ``PythonHandler mod_python.cgihandler``.

A script is run in the worker, as a module of its own and from the start at each request, with a CGI program's
environment: ``os.environ`` has the CGI variables, ``sys.stdin`` the request's body, ``sys.stdout`` takes headers and
body of the answer, and the current directory is the script's. All of this is put back when it ends, however it ends.

The environment and, where threads cannot have one of their own, the current directory belong to the whole process:
each worker runs one script at a time. The standard streams are the script's in its own thread only; what other threads
print goes where it always goes. docs/cgihandler.md has the details.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import threading
from types import CodeType, ModuleType
from typing import Any, Dict, Iterator, Optional, Set, Tuple

from mod_python._cgi import CGIStdin, CGIStdout, build_cgi_env
from mod_python._constants import (
    APLOG_ERR,
    HTTP_FORBIDDEN,
    HTTP_INTERNAL_SERVER_ERROR,
    HTTP_NOT_FOUND,
    OK,
)

#: One script at a time.
_lock = threading.Lock()
#: Compiled scripts by path: their modification time, size, and code.
_codes: Dict[str, Tuple[int, int, CodeType]] = {}
_MOST_CODES = 256
#: ``unshare``'s flag for a current directory and a file creation mask of the thread's own.
_CLONE_FS = 0x200
_own = threading.local()


def handler(req: Any) -> int:
    """Runs the script that the request maps to."""
    path = req.filename
    if not path or not os.path.isfile(path):
        return HTTP_NOT_FOUND
    try:
        code = _code(path)
    except PermissionError as error:
        req.log_error(f"mod_python.cgihandler: {error}", APLOG_ERR)
        return HTTP_FORBIDDEN
    out = CGIStdout(req)
    ended = 0
    with _lock, _environment(req, path, out):
        try:
            _run(path, code)
        except SystemExit as end:
            ended = _status(end)
    if ended:
        req.log_error(f"mod_python.cgihandler: {path} has exited with status {ended}", APLOG_ERR)
    if not out.begun:
        req.log_error(f"mod_python.cgihandler: {path} has ended before its headers did", APLOG_ERR)
        return HTTP_INTERNAL_SERVER_ERROR
    return OK


def _status(end: SystemExit) -> int:
    """The exit status that ``sys.exit`` stands for; a text goes to the error log, as on a terminal."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    print(end.code, file=sys.stderr)
    return 1


def _code(path: str) -> CodeType:
    """The compiled script, compiled anew when its file has changed."""
    found = os.stat(path)
    known = _codes.get(path)
    if known is not None and known[:2] == (found.st_mtime_ns, found.st_size):
        return known[2]
    with io.open_code(path) as file:
        code: CodeType = compile(file.read(), path, "exec", dont_inherit=True)
    if len(_codes) >= _MOST_CODES:
        _codes.clear()
    _codes[path] = (found.st_mtime_ns, found.st_size, code)
    return code


def _run(path: str, code: CodeType) -> None:
    """Runs a script as a module that is named after its file. What it imports from its own directory is forgotten."""
    directory, base = os.path.split(path)
    name = os.path.splitext(base)[0]
    module = ModuleType(name)
    module.__file__ = path
    taken = name in sys.modules
    before = set(sys.modules)
    sys.path.insert(0, directory)
    if not taken:
        sys.modules[name] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 (running scripts is what this is for)
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(directory)
        if sys.modules.get(name) is module:
            del sys.modules[name]
        _forget(before, directory)


def _forget(before: Set[str], directory: str) -> None:
    """Takes the modules out that a script has brought from beside it: the next one starts afresh."""
    place = os.path.join(directory, "")
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name not in before and isinstance(file, str) and file.startswith(place):
            sys.modules.pop(name, None)


@contextlib.contextmanager
def _environment(req: Any, path: str, out: CGIStdout) -> Iterator[None]:
    """Gives the thread a CGI program's environment, and takes it away again."""
    variables = {name: value for name, value in build_cgi_env(req).items() if value is not None}
    _own_directory()
    environ, stdin, stdout = dict(os.environ), sys.stdin, sys.stdout
    where = _here()
    try:
        os.chdir(os.path.dirname(path) or "/")
        os.environ.update(variables)
        mine: Tuple[Any, Any] = (_Mine(CGIStdin(req), stdin), _Mine(out, stdout))
        sys.stdin, sys.stdout = mine
        yield
    finally:
        sys.stdin, sys.stdout = stdin, stdout
        for name in [name for name in os.environ if name not in environ]:
            del os.environ[name]
        os.environ.update(environ)
        os.fchdir(where)
        os.close(where)


def _here() -> int:
    """The current directory, to come back to; the root if it is not there (any more)."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(".", flags)
    except OSError:
        return os.open("/", flags)


def _own_directory() -> None:
    """Gives this thread a current directory of its own, where the system lets it: others keep theirs."""
    if not getattr(_own, "tried", False):
        _own.tried = True
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).unshare(_CLONE_FS)


class _Mine:
    """A stream that is one thing to the thread that runs the script, and another to all others."""

    def __init__(self, mine: Any, others: Any) -> None:
        self.__dict__.update(_thread=threading.get_ident(), _mine=mine, _others=others)

    def _stream(self) -> Any:
        return self._mine if threading.get_ident() == self._thread else self._others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stream(), name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._stream())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> Optional[bool]:
        return None
