"""The publisher's rules: what may be walked through and shown, and who may."""

from __future__ import annotations

import base64
import binascii
import dis
import functools
import hmac
import inspect
import types
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from mod_python import apache
from mod_python._apache import SERVER_RETURN

_NAMES = ("__auth__", "__access__", "__auth_realm__")
_MISSING = object()

#: Types of the standard library, not of ``builtins``, whose attributes lead to code.
_CLOSED = (functools.partial, functools.partialmethod, type(functools.lru_cache(len)), property)

_FUNCTIONS = (types.FunctionType, types.MethodType)
_NOT_SHOWN = (types.ModuleType, type, types.BuiltinFunctionType, staticmethod, classmethod, types.MethodWrapperType)


def may_pass(thing: Any) -> bool:
    """Whether a path may go on to an attribute of the object.

    Objects of a program's own classes may be walked through, and those of most classes that are written in C; not
    modules, classes, functions, methods, and not what is built into Python, such as strings, lists and generators.
    """
    kind = type(thing)
    if kind.__module__ in ("builtins", "types") and not isinstance(thing, BaseException):
        return kind is types.SimpleNamespace
    return not isinstance(thing, (types.ModuleType, type, *_FUNCTIONS, *_CLOSED))


def may_show(thing: Any) -> bool:
    """Whether an object that a path leads to may be shown or called.

    Not modules, classes, built-in functions and methods, nor any other thing that can be called but is no Python
    function, no method of one and no object of a class with a method ``__call__`` written in Python.
    """
    if isinstance(thing, _NOT_SHOWN):
        return False
    return not callable(thing) or function_of(thing) is not None


def function_of(thing: Any) -> Optional[types.FunctionType]:
    """The Python function that calling the object comes down to, if it is one."""
    if isinstance(thing, type(functools.lru_cache(len))):
        thing = getattr(thing, "__wrapped__", None)
    if isinstance(thing, types.MethodType):
        thing = thing.__func__
    elif not isinstance(thing, types.FunctionType):
        thing = getattr(type(thing), "__call__", None)
    return thing if isinstance(thing, types.FunctionType) else None


# --- who may ----------------------------------------------------------------------------------------------------------


class Refused(RuntimeError):
    """A rule that cannot be applied: nobody is let in."""


class Guard:
    """Checks the rules of the objects along one path."""

    def __init__(self, req: Any, wait: Callable[[Any], Any]) -> None:
        self._req = req
        #: Gives the result of something that is to be awaited.
        self._wait = wait
        self._realm = "unknown"
        self._credentials: Any = _MISSING

    def check(self, thing: Any) -> None:
        """Raises ``SERVER_RETURN`` (401, 403, 400) unless the client may."""
        for rules in _rules(thing):
            realm = rules.get("__auth_realm__")
            if realm is not None:
                self._realm = str(realm)
            if "__auth__" in rules:
                self._authenticate(rules["__auth__"])
            if "__access__" in rules:
                self._permit(rules["__access__"])

    def _authenticate(self, rule: Any) -> None:
        found = self._given()
        if found is None:
            raise self._unauthorized()
        user, password = found
        if isinstance(rule, dict):
            known = rule.get(user, _MISSING)
            # As long for a user who does not exist.
            text = isinstance(known, (str, bytes))
            allowed = _same(known if text else "", password) and text
        elif callable(rule):
            allowed = self._ask(rule, user, password)
        else:
            allowed = bool(rule)
        if not allowed:
            raise self._unauthorized()
        self._req.user = user
        self._req.ap_auth_type = "Basic"

    def _permit(self, rule: Any) -> None:
        # The name counts once httpd or a rule has seen the password; a name alone is what anybody may send.
        user = self._req.user
        if user is None:
            self._given()
        if callable(rule):
            allowed = self._ask(rule, user)
        elif isinstance(rule, (list, tuple, set, frozenset)):
            allowed = user in rule
        else:
            allowed = bool(rule)
        if not allowed:
            raise SERVER_RETURN(apache.HTTP_FORBIDDEN)

    def _ask(self, rule: Callable[..., Any], *arguments: Any) -> bool:
        answer = rule(self._req, *arguments)
        if inspect.isawaitable(answer):
            answer = self._wait(answer)
        if inspect.isgenerator(answer) or inspect.isasyncgen(answer):
            # It is true whatever is in it.
            raise Refused(f"{rule!r} is a generator, not a rule")
        return bool(answer)

    def _given(self) -> Optional[Tuple[str, str]]:
        """The user and the password that came with the request; ``None`` if there are none."""
        if self._credentials is _MISSING:
            headers = self._req.headers_in
            given = headers.get("Authorization")
            # With two of them, it would be the first.
            self._credentials = _credentials(None if given is None else headers["Authorization"])
        return self._credentials  # type: ignore[no-any-return]

    def _unauthorized(self) -> SERVER_RETURN:
        realm = self._realm.replace("\\", "\\\\").replace('"', '\\"')
        realm = "".join(c if c >= " " and c != "\x7f" else " " for c in realm)
        challenge = f'Basic realm="{realm}"'
        if not challenge.isascii():
            challenge += ', charset="UTF-8"'
            challenge = challenge.encode("utf-8").decode("latin-1")
        self._req.err_headers_out["WWW-Authenticate"] = challenge
        return SERVER_RETURN(apache.HTTP_UNAUTHORIZED)


def _credentials(header: Any) -> Optional[Tuple[str, str]]:
    if header is None:
        return None
    if isinstance(header, list):
        raise SERVER_RETURN(apache.HTTP_BAD_REQUEST)
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        raise SERVER_RETURN(apache.HTTP_BAD_REQUEST)
    try:
        data = base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SERVER_RETURN(apache.HTTP_BAD_REQUEST) from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    user, colon, password = text.partition(":")
    if not colon or "\0" in text:
        raise SERVER_RETURN(apache.HTTP_BAD_REQUEST)
    return (user, password)


def _same(known: Any, given: str) -> bool:
    data = known if isinstance(known, bytes) else known.encode("utf-8", "surrogatepass")
    return hmac.compare_digest(data, given.encode("utf-8", "surrogatepass"))


# --- rules of an object -----------------------------------------------------------------------------------------------


def _rules(thing: Any) -> List[Dict[str, Any]]:
    """The rules of an object: its attributes, and those that are written into the function that it is."""
    found = []
    own = {name: getattr(thing, name, _MISSING) for name in _NAMES}
    own = {name: value for name, value in own.items() if value is not _MISSING}
    if own:
        found.append(own)
    function = function_of(thing) if callable(thing) and not isinstance(thing, type) else None
    seen = set()
    while isinstance(function, types.FunctionType) and id(function) not in seen:
        # A decorator hides the function that it was put on, but not its rules.
        seen.add(id(function))
        inner = _inner(function)
        if inner:
            found.append(inner)
        following = function.__dict__.get("__wrapped__")
        function = following if isinstance(following, types.FunctionType) else None
    return found


def _inner(function: types.FunctionType) -> Dict[str, Any]:
    """The rules that the function's own code assigns to local variables."""
    code = function.__code__
    locals_ = {*code.co_varnames, *code.co_cellvars}
    if not locals_.intersection(_NAMES):
        return {}
    values = _assigned(code)
    found: Dict[str, Any] = {}
    for name in _NAMES:
        if name not in locals_:
            continue
        value = values.get(name, _UNKNOWN)
        if isinstance(value, _Function):
            value = types.FunctionType(value.code, function.__globals__, value.code.co_name, value.defaults)
        if value is _UNKNOWN:
            raise Refused(
                f"{name} in {function.__qualname__}() must be a function without variables of the functions around it, "
                "or a constant, a dictionary or a list of constants, assigned once: make it one, or an attribute of the "
                "function or of its module"
            )
        found[name] = value
    return found


class _Function(NamedTuple):
    """A function that the code makes."""

    code: types.CodeType
    defaults: Optional[Tuple[Any, ...]]


class _Unknown:
    """A value that is known only when the code runs."""


_UNKNOWN = _Unknown()
_LOADS = ("LOAD_CONST", "LOAD_CONST_IMMORTAL", "LOAD_CONST_MORTAL", "LOAD_SMALL_INT")
_STORES = ("STORE_FAST", "STORE_DEREF", "STORE_NAME")
_NO_EFFECT = ("NOP", "RESUME", "CACHE", "EXTENDED_ARG", "PRECALL", "MAKE_CELL", "COPY_FREE_VARS", "NOT_TAKEN")


def _assigned(code: types.CodeType) -> Dict[str, Any]:
    """What the code assigns to the rules' names, as far as that can be told without running it.

    A name that is assigned twice, or a value that is not made of constants alone, is ``_UNKNOWN``.
    """
    found: Dict[str, Any] = {}
    stack: List[Any] = []

    def pop() -> Any:
        return stack.pop() if stack else _UNKNOWN

    def pops(count: int) -> List[Any]:
        return [pop() for _ in range(count)][::-1]

    def store(name: Any) -> None:
        value = pop()
        if name in _NAMES:
            found[name] = _UNKNOWN if name in found else value

    for step in dis.get_instructions(code):
        if step.is_jump_target:
            # What is on the stack depends on the way that led here.
            stack.clear()
        name, number = step.opname, step.arg or 0
        if name in _LOADS:
            stack.append(step.argval)
        elif name in _STORES:
            store(step.argval)
        elif name == "STORE_FAST_STORE_FAST":
            for one in step.argval:
                store(one)
        elif name == "STORE_FAST_LOAD_FAST":
            store(step.argval[0])
            stack.append(_UNKNOWN)
        elif name == "MAKE_FUNCTION":
            stack.append(_made(pops, number, code))
        elif name == "SET_FUNCTION_ATTRIBUTE":
            value, function = pops(2)
            stack.append(_with(function, value, number))
        elif name in ("BUILD_LIST", "BUILD_SET", "BUILD_TUPLE"):
            values = pops(number)
            kind = {"BUILD_LIST": list, "BUILD_SET": set, "BUILD_TUPLE": tuple}[name]
            stack.append(_whole(kind, values, values))
        elif name in ("LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE") and number == 1:
            target, values = pops(2)
            kinds = {"LIST_EXTEND": list, "SET_UPDATE": set, "DICT_UPDATE": dict}
            joined = isinstance(target, kinds[name]) and isinstance(values, (tuple, frozenset, dict))
            if joined and name == "LIST_EXTEND":
                stack.append([*target, *values])
            elif joined:
                target.update(values)
                stack.append(target)
            else:
                stack.append(_UNKNOWN)
        elif name == "BUILD_MAP":
            values = pops(2 * number)
            stack.append(_whole(dict, values, list(zip(values[::2], values[1::2]))))
        elif name == "BUILD_CONST_KEY_MAP":
            keys = pop()
            values = pops(number)
            stack.append(_whole(dict, values, list(zip(keys, values)) if isinstance(keys, tuple) else []))
        elif name not in _NO_EFFECT:
            stack.clear()
    return found


def _whole(kind: Any, parts: List[Any], items: Any) -> Any:
    """The collection, unless a part of it is not known or no constant."""
    if any(part is _UNKNOWN or isinstance(part, (types.CodeType, _Function)) for part in parts):
        return _UNKNOWN
    return kind(items)


def _made(pops: Callable[[int], List[Any]], flags: int, _: types.CodeType) -> Any:
    """The function of a MAKE_FUNCTION."""
    top = pops(1)[0]
    if not isinstance(top, types.CodeType):
        # Before Python 3.11 the qualified name is on top.
        top = pops(1)[0]
    values = {flag: pops(1)[0] for flag in (8, 4, 2, 1) if flags & flag}
    if not isinstance(top, types.CodeType):
        return _UNKNOWN
    made: Any = _Function(top, None)
    for flag, value in values.items():
        made = _with(made, value, flag)
    return made


def _with(function: Any, value: Any, flag: int) -> Any:
    """The function with one of the things that it may be made with."""
    if not isinstance(function, _Function) or flag in (2, 8):
        return _UNKNOWN
    if flag == 1:
        return function._replace(defaults=value) if isinstance(value, tuple) else _UNKNOWN
    return function
