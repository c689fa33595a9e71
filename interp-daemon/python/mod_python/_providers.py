"""Asking Python on behalf of httpd's modules: ``AuthBasicProvider python``, ``AuthDigestProvider python``,
``Require python-group``.

Only a clear yes is a grant; whatever else comes is a refusal or an error.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from mod_python import apache

#: What httpd is told: a number, and the realm hash if that was asked for.
Verdict = Tuple[int, Optional[bytes]]

NO: Verdict = (0, None)
YES: Verdict = (1, None)
NO_SUCH_USER: Verdict = (2, None)
FAILED: Verdict = (3, None)

#: The directive that names the provider, by the name of its function.
DIRECTIVES = {
    "checkpassword": "PythonAuthnProvider",
    "realmhash": "PythonAuthnProvider",
    "groups": "PythonAuthzProvider",
}

#: The longest realm hash that httpd takes.
_LONGEST = 4096

#: A word of a ``Require`` line, maybe in quotes.
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|' r"'((?:[^'\\]|\\.)*)'|(\S+)")


def find(module: Any, name: str, named: bool, kind: str, req: Any) -> Callable[..., Any]:
    """The function to call: the module's own of that name, or, for ``module::object``, the object's method.

    A class is instantiated with the request. ``PythonAuthzProvider`` may also name a function itself.
    """
    found = apache.resolve_object(module, name, req)
    if not named:
        return found  # type: ignore[no-any-return]
    if isinstance(found, type):
        found = found(req)
    elif kind == "groups" and not hasattr(found, kind):
        return found  # type: ignore[no-any-return]
    return getattr(found, kind)  # type: ignore[no-any-return]


def ask(function: Callable[..., Any], kind: str, req: Any, arguments: Sequence[str]) -> Verdict:
    """Calls the function, and says what its answer means."""
    return _ASK[kind](function, req, arguments)


def _check_password(function: Callable[..., Any], req: Any, arguments: Sequence[str]) -> Verdict:
    answer = function(req, arguments[0], arguments[1])
    if answer is True:
        return YES
    if answer is False:
        return NO
    if answer is None:
        return NO_SUCH_USER
    raise TypeError(f"checkpassword must return True, False or None (no such user), not {_kind(answer)}")


def _realm_hash(function: Callable[..., Any], req: Any, arguments: Sequence[str]) -> Verdict:
    answer = function(req, arguments[0], arguments[1])
    if answer is None:
        return NO_SUCH_USER
    if not isinstance(answer, str):
        raise TypeError(f"realmhash must return a string or None (no such user), not {_kind(answer)}")
    found = answer.encode("ascii")
    if not 0 < len(found) <= _LONGEST or b"\0" in found:
        raise ValueError("realmhash has returned a string that is no hash")
    return YES[0], found


def _groups(function: Callable[..., Any], req: Any, arguments: Sequence[str]) -> Verdict:
    wanted = words(arguments[0])
    answer = function(req, req.user)
    if isinstance(answer, (str, bytes)):
        raise TypeError("groups must return the names of groups, not one string")
    for name in answer:
        if not isinstance(name, str):
            raise TypeError(f"groups must return names that are strings, not {_kind(name)}")
        if name in wanted:
            return YES
    return NO


_ASK: Dict[str, Callable[[Callable[..., Any], Any, Sequence[str]], Verdict]] = {
    "checkpassword": _check_password,
    "realmhash": _realm_hash,
    "groups": _groups,
}


def words(line: str) -> List[str]:
    """The words of a ``Require`` line, as httpd splits it."""
    found = []
    for double, single, plain in _WORD.findall(line):
        found.append(plain or re.sub(r"\\(.)", r"\1", double or single))
    return found


def _kind(value: Any) -> str:
    return type(value).__name__
