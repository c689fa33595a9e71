"""Cookies: ``from mod_python import Cookie``.

==========================  ========================================================================================
:class:`Cookie`             one cookie, to be sent or received
:class:`SignedCookie`       with a signature, so that the client cannot change it
:class:`MarshalCookie`      signed, and its value may be a list, a dictionary, ... (JSON, in spite of the name)
:func:`add_cookie`          sends one
:func:`get_cookies`         all that the client sent
:func:`get_cookie`          one of them
:class:`CookieError`        what is raised for a cookie that cannot be
==========================  ========================================================================================

The manual has a page: docs/cookies.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import marshal
import re
import time
from typing import Any, Dict, Iterable, Optional, Type, TypeVar, Union

from mod_python import _safejson

Secret = Union[str, bytes]
Kind = TypeVar("Kind", bound="Cookie")


class CookieError(Exception):
    """A cookie that cannot be: a line break in it, no secret, a wrong signature."""


#: The attributes in the order in which they are written, and how their names are spelled there.
_ATTRIBUTES: Dict[str, str] = {
    "version": "version",
    "path": "path",
    "domain": "domain",
    "secure": "secure",
    "comment": "comment",
    "expires": "expires",
    "max_age": "max-age",
    "samesite": "samesite",
    "commentURL": "commentURL",
    "discard": "discard",
    "port": "port",
    "httponly": "httponly",
}
_FLAGS = {"secure", "discard", "httponly"}
_SAMESITE = {"lax": "Lax", "strict": "Strict", "none": "None"}

_NAME = re.compile(r"[^\x00-\x20\x7f-\U0010ffff=;,\"\\]+")
# What is written as it is: what RFC 6265 allows, and spaces and commas, which every browser takes.
_PLAIN = re.compile(r"[\x20\x21\x23-\x3a\x3c-\x5b\x5d-\x7e]*")
_UNFIT = re.compile(r"[\x00\r\n]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f;]")
_ESCAPE = re.compile(rb'[\x00-\x1f"\\;\x7f-\xff]')
_ESCAPED = re.compile(rb"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)
_EXPIRES = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2}-[A-Z][a-z]{2}-\d{4} \d{2}:\d{2}:\d{2} GMT")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Cookie:
    """One cookie: a name, a value, and attributes.

    ===========  ======================================================================================================
    attribute    is
    ===========  ======================================================================================================
    expires      seconds since 1970, or ``Wdy, DD-Mon-YYYY HH:MM:SS GMT`` (anything else is a ``ValueError``)
    max_age      seconds from now; written as ``max-age``
    path         the part of the site that the cookie is for, ``domain`` the hosts
    secure       sent over TLS only; ``httponly``: hidden from scripts; flags: true or false
    samesite     ``Lax``, ``Strict`` or ``None`` (a ``str``), in any case
    others       ``version``, ``comment``, ``commentURL``, ``discard`` (a flag), ``port``: written, ignored by browsers
    ===========  ======================================================================================================

    Other attributes do not exist (``AttributeError``). An attribute that was never set is missing; setting it to
    ``None`` takes it away. ``str(cookie)`` is what the header ``Set-Cookie`` says.
    """

    #: What :meth:`SignedCookie.parse` does with a cookie whose signature is wrong.
    DOWNGRADE, IGNORE, EXCEPTION = 0, 1, 3

    def __init__(self, name: str, value: Any, **attributes: Any) -> None:
        self.__dict__["__data__"] = {}
        self.name = name
        self.value = value
        for attribute, setting in attributes.items():
            setattr(self, attribute, setting)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "name":
            value = str(value)
            if not _NAME.fullmatch(value):
                raise CookieError(f"not a name for a cookie: {value!r}")
        elif name == "value":
            value = self._value(value)
        elif name in _ATTRIBUTES:
            if value is None:
                self.__dict__.pop(name, None)
                return
            value = _attribute(name, value)
        elif name != "__data__" and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        else:
            self.__dict__[name] = value

    def _value(self, value: Any) -> Any:
        """A value as the cookie keeps it."""
        text = bytes(value).decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)
        if _UNFIT.search(text):
            raise CookieError(f"the value of a cookie must not have line breaks in it: {text!r}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise CookieError(f"the value of a cookie must be text: {text!r}") from None
        return text

    def _wire(self) -> str:
        """The value as text that may contain anything."""
        return str(self.value)

    def __str__(self) -> str:
        words = [f"{self.name}={_quoted(self._wire())}"]
        for name, spelled in _ATTRIBUTES.items():
            setting = self.__dict__.get(name)
            if setting is None or (name in _FLAGS and not setting):
                continue
            words.append(spelled if name in _FLAGS else f"{spelled}={setting}")
        return "; ".join(words)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    @classmethod
    def parse(cls: Type[Kind], string: str, names: Optional[Iterable[str]] = None, **more: Any) -> Dict[str, Any]:
        """The cookies of a header ``Cookie``, by name; of two with one name, the last. ``names`` are those wanted."""
        found = {name: _lenient(cls, name, value) for name, value in _split(string, names).items()}
        return {name: made for name, made in found.items() if made is not None}


def _lenient(cls: Any, name: str, value: str) -> Any:
    """A received cookie, or ``None`` for something that is none."""
    try:
        return cls(name, value)
    except CookieError:
        return None


def _attribute(name: str, value: Any) -> Any:
    """An attribute's value as it is kept."""
    if name in _FLAGS:
        return bool(value)
    if name == "expires":
        return _expires(value)
    if name == "max_age":
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            raise CookieError(f"max_age must be a number of seconds, not {value!r}") from None
    text = str(value)
    if _CONTROL.search(text) or not text.isascii():
        raise CookieError(f"{name} of a cookie must be plain ASCII without ';' and line breaks: {text!r}")
    if name == "samesite":
        known = _SAMESITE.get(text.lower())
        if known is None:
            raise CookieError(f"samesite must be Lax, Strict or None, not {text!r}")
        return known
    return text


def _expires(value: Any) -> str:
    if isinstance(value, str):
        if not _EXPIRES.fullmatch(value):
            raise ValueError(f"Invalid expires time: {value}")
        return value
    try:
        when = time.gmtime(value)
    except (TypeError, OverflowError, OSError):
        raise ValueError(f"Invalid expires time: {value}") from None
    # Not strftime: days and months must be English in every locale.
    return (
        f"{_DAYS[when.tm_wday]}, {when.tm_mday:02}-{_MONTHS[when.tm_mon - 1]}-{when.tm_year:04} "
        f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02} GMT"
    )


# --- values on the wire

def _quoted(value: str) -> str:
    """A value as it is written: as it is if it can be, else in quotes, with escapes as ``http.cookies`` has them."""
    if _PLAIN.fullmatch(value) and value.strip() == value:
        return value
    text = _ESCAPE.sub(_escape, value.encode("utf-8"))
    return f'"{text.decode("ascii")}"'


def _escape(found: Any) -> bytes:
    byte: bytes = found.group()
    return b"\\" + byte if byte in b'"\\' else b"\\%03o" % byte[0]


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    if "\\" not in value:
        return value[1:-1]
    raw = _ESCAPED.sub(
        lambda found: bytes([int(found[1], 8)]) if found[1] else found[2], value[1:-1].encode("utf-8", "surrogatepass")
    )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _split(string: str, names: Optional[Iterable[str]]) -> Dict[str, str]:
    """Names and values of a header ``Cookie``."""
    wanted = None if names is None else set(names)
    found: Dict[str, str] = {}
    for pair in string.split(";"):
        name, _, value = pair.partition("=")
        name = name.strip()
        # `$Version` and the like are attributes of an old standard.
        if not name or name.startswith("$") or (wanted is not None and name not in wanted):
            continue
        found[name] = _unquoted(value.strip())
    return found


# --- signatures

class SignedCookie(Cookie):
    """A cookie whose name and value are signed with a secret: HMAC-SHA-256, 64 hexadecimal digits before the value.

    The signature keeps a client from making up a value. It does not hide the value, and an old cookie stays valid.
    """

    def __init__(self, name: str, value: Any, secret: Optional[Secret] = None, **attributes: Any) -> None:
        super().__init__(name, value, **attributes)
        self.__data__ = {"secret": _key(secret)}

    def _wire(self) -> str:
        text = self._signed_text()
        return _sign(self.__data__["secret"], self.name, text) + text

    def _signed_text(self) -> str:
        return str(self.value)

    @classmethod
    def parse(  # type: ignore[override]
        cls,
        string: str,
        secret: Optional[Secret] = None,
        mismatch: int = Cookie.DOWNGRADE,
        names: Optional[Iterable[str]] = None,
        legacy_md5: bool = False,
        **more: Any,
    ) -> Dict[str, Any]:
        """The cookies by name. ``mismatch`` says what is done with a cookie whose signature is wrong: ``DOWNGRADE``
        makes it a plain :class:`Cookie`, ``IGNORE`` leaves it out, ``EXCEPTION`` raises :class:`CookieError`.

        ``legacy_md5`` takes cookies that mod_python signed (HMAC-MD5) too.
        """
        key = _key(secret)
        found: Dict[str, Any] = {}
        for name, wire in _split(string, names).items():
            made = cls._verified(name, wire, key, legacy_md5, **more)
            if made is None:
                if mismatch == Cookie.EXCEPTION:
                    raise CookieError(f"the signature of the cookie {name!r} is wrong")
                if mismatch == Cookie.IGNORE:
                    continue
                made = _lenient(Cookie, name, wire)
            if made is not None:
                found[name] = made
        return found

    @classmethod
    def _verified(cls, name: str, wire: str, key: bytes, legacy_md5: bool, **more: Any) -> Any:
        """The cookie, or ``None`` if the signature is wrong."""
        text = _signed(key, name, wire)
        if text is None and legacy_md5:
            text = _signed_by_md5(key, name, wire)
        if text is None:
            return None
        try:
            return cls(name, text, key)
        except CookieError:
            return None


_DIGITS, _MD5_DIGITS = 64, 32


def _key(secret: Optional[Secret]) -> bytes:
    if not secret:
        raise CookieError("Cannot sign without a secret")
    return secret.encode("utf-8") if isinstance(secret, str) else bytes(secret)


def _sign(key: bytes, name: str, text: str) -> str:
    # "=" is in no name: the same bytes are never another name with another value.
    message = f"{name}={text}".encode("utf-8", "surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def _signed(key: bytes, name: str, wire: str) -> Optional[str]:
    """The text of a signed value, or ``None``."""
    digest, text = wire[:_DIGITS], wire[_DIGITS:]
    good = hmac.compare_digest(digest.encode("utf-8", "replace"), _sign(key, name, text).encode("ascii"))
    return text if good else None


def _signed_by_md5(key: bytes, name: str, wire: str) -> Optional[str]:
    """The same for the signatures of mod_python."""
    digest, text = wire[:_MD5_DIGITS], wire[_MD5_DIGITS:]
    made = hmac.new(key, (name + text).encode("utf-8", "surrogatepass"), hashlib.md5).hexdigest()
    good = hmac.compare_digest(digest.encode("utf-8", "replace"), made.encode("ascii"))
    return text if good else None


class MarshalCookie(SignedCookie):
    """A signed cookie whose value may be anything that :mod:`mod_python._safejson` can write: lists, dictionaries, ...

    mod_python put the output of ``marshal`` there, which must not be read from a stranger: whoever learns the secret
    could crash or take over the process with it. Here it is JSON; the name is kept. Old cookies are read with
    ``legacy_marshal`` only.
    """

    def _value(self, value: Any) -> Any:
        try:
            _safejson.dumps(value, "the cookie's value")
        except _safejson.NotJson as error:
            raise CookieError(str(error)) from None
        return value

    def _signed_text(self) -> str:
        text = _safejson.dumps(self.value).encode("ascii")
        return base64.urlsafe_b64encode(text).decode("ascii")

    @classmethod
    def _verified(
        cls, name: str, wire: str, key: bytes, legacy_md5: bool, legacy_marshal: bool = False, **more: Any
    ) -> Any:
        text = _signed(key, name, wire)
        try:
            if text is not None:
                return cls(name, _safejson.loads(base64.b64decode(text, b"-_", validate=True)), key)
            if legacy_marshal:
                old = _signed_by_md5(key, name, wire)
                if old is not None:
                    return cls(name, marshal.loads(base64.b64decode(old)), key)  # noqa: S302 (asked for, and signed)
        except (ValueError, EOFError, TypeError, CookieError):
            pass
        return None


# --- requests

def add_cookie(req: Any, cookie: Union[Cookie, str], value: Any = "", **attributes: Any) -> None:
    """Sends a cookie, or one made of a name, a value and attributes.

    The first one adds ``Cache-Control: no-cache="set-cookie"``. Like every header of ``headers_out``, it is not sent
    with error pages.
    """
    if not isinstance(cookie, Cookie):
        cookie = Cookie(cookie, value, **attributes)
    line = str(cookie)
    if not req.headers_out.get("Set-Cookie"):
        req.headers_out.add("Cache-Control", 'no-cache="set-cookie"')
    req.headers_out.add("Set-Cookie", line)


def get_cookies(req: Any, Class: Type[Cookie] = Cookie, **more: Any) -> Dict[str, Any]:  # noqa: N803
    """The cookies that the client sent, by name. ``more`` goes to ``Class.parse``, such as ``secret``.

    ``PythonOption mod_python.cookie.legacy_md5 On`` and ``...legacy_marshal On`` stand for the arguments of these
    names.
    """
    try:
        header = req.headers_in["Cookie"]
    except KeyError:
        return {}
    string = header if isinstance(header, str) else "; ".join(header)
    if issubclass(Class, SignedCookie):
        options = req.get_options() if hasattr(req, "get_options") else {}
        for name in ("legacy_md5", "legacy_marshal"):
            if str(options.get(f"mod_python.cookie.{name}") or "").lower() in ("on", "1", "true", "yes"):
                more.setdefault(name, True)
    return Class.parse(string, **more)


def get_cookie(req: Any, name: str, Class: Type[Cookie] = Cookie, **more: Any) -> Any:  # noqa: N803
    """The cookie of that name, or ``None``."""
    return get_cookies(req, Class, names=[name], **more).get(name)
