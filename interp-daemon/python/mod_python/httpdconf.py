"""httpd's configuration as Python: classes named after directives, which render to configuration files.

::

    from mod_python.httpdconf import *

    config = Container(
        Listen("127.0.0.1:8080"),
        Directory("/srv/www",
            SetHandler("mod_python"),
            PythonHandler("hello"),
        ),
    )
    print(config)

``str()`` of anything here is httpd's text, ``repr()`` is Python source that makes it again. A directive that is not in
the list is a subclass of :class:`Directive` away, or ``Directive("Name", "arguments")``. docs/httpdconf.md has more.
"""

from __future__ import annotations

import os
import sys
from typing import Any, List, Type, Union

import mod_python
import mod_python.version

from mod_python._skeleton import write_basic_config as write_basic_config

_INDENT = "    "


def quote_if_space(text: str) -> str:
    """The text in quotes if there is a space in it."""
    return f'"{text}"' if " " in text else text


class Directive:
    """A line: a directive and its arguments. With ``flipslash``, backslashes of ``val`` are written as slashes."""

    def __init__(self, name: str, val: Any, flipslash: Any = 1) -> None:
        self.name = name
        self.val = val
        self.indent = 0
        self.flipslash = flipslash

    def __repr__(self) -> str:
        return f"{self.name}({self.val!r})"

    def __str__(self) -> str:
        return f"{'  ' * self.indent}{self.name} {self.shown()}\n"

    def shown(self) -> str:
        """The arguments as they are written."""
        text = str(self.val)
        return text.replace("\\", "/") if self.flipslash else text


class Comment:
    """Lines that httpd does not look at."""

    def __init__(self, comment: str) -> None:
        self.comment = comment if comment.endswith("\n") else comment + "\n"
        self.indent = 0

    def __repr__(self) -> str:
        lines = self.comment.splitlines(True)
        return "Comment(" + f"\n{_INDENT * 2}".join(map(repr, lines)) + ")"

    def __str__(self) -> str:
        return "".join(f"{'  ' * self.indent}# {line}".rstrip() + "\n" for line in self.comment.splitlines())


class Container:
    """Several things one after the other, without a section around them.

    ``only_if`` is a condition: a value, or an expression as text, which knows ``mod_python``, ``sys`` and ``os``. If it is false the container renders to nothing.
    """

    def __init__(self, *args: Any, only_if: Any = None) -> None:
        self.args: List[Any] = list(args)
        self.only_if = only_if
        self.indent = 0

    def append(self, value: Any) -> None:
        """Adds one at the end."""
        self.args.append(value)

    def wanted(self) -> bool:
        """What ``only_if`` says."""
        if self.only_if is None:
            return True
        if isinstance(self.only_if, str):
            known = {"mod_python": mod_python, "sys": sys, "os": os}
            return bool(eval(self.only_if, known))  # noqa: S307 (the configuration's own author wrote it)
        return bool(self.only_if)

    def _inside(self, indent: int) -> str:
        parts = []
        for arg in self.args:
            arg.indent = indent
            parts.append(str(arg))
        return "".join(parts)

    def __str__(self) -> str:
        return self._inside(self.indent) if self.wanted() else ""

    def __repr__(self) -> str:
        return _source("Container", "", self.args, self.only_if)


class ContainerTag(Container):
    """A section: ``<tag attr>``, what is in it, ``</tag>``."""

    def __init__(self, tag: str, attr: Any, args: Any, flipslash: Any = 1, only_if: Any = None) -> None:
        super().__init__(*args, only_if=only_if)
        self.tag = tag
        self.attr = attr
        self.flipslash = flipslash

    def __str__(self) -> str:
        if not self.wanted():
            return ""
        margin = "  " * self.indent
        attr = str(self.attr)
        if self.flipslash:
            attr = attr.replace("\\", "/")
        first = f"<{self.tag} {attr}>" if attr else f"<{self.tag}>"
        return f"{margin}{first}\n{self._inside(self.indent + 1)}{margin}</{self.tag}>\n"

    def __repr__(self) -> str:
        return _source(self.tag, repr(self.attr), self.args, self.only_if)


def _source(name: str, first: str, args: List[Any], only_if: Any) -> str:
    lines = [first] if first else []
    lines += [_INDENT + repr(arg).replace("\n", "\n" + _INDENT) for arg in args]
    if only_if is not None:
        lines.append(f"{_INDENT}only_if={only_if!r}")
    start = f"{name}(" + ("" if first else "\n")
    return start + ",\n".join(lines) + (",\n)" if lines else ")")


# --- the ready classes -----------------------------------------------------------------------------------------------


#: Directives in which a backslash is one, in formats and patterns.
_WITH_BACKSLASHES = frozenset(
    (
        "CustomLog",
        "Header",
        "LogFormat",
        "PythonOption",
        "RequestHeader",
        "RewriteCond",
        "RewriteRule",
        "SetEnv",
        "SetEnvIf",
    )
)


class _Named(Directive):
    """A directive whose name is its class's."""

    _flipslash = 1

    def __init__(self, val: Any) -> None:
        super().__init__(type(self).__name__, val, self._flipslash)


class _Section(ContainerTag):
    """A section whose tag is its class's name."""

    def __init__(self, attr: Any, *args: Any, only_if: Any = None) -> None:
        super().__init__(type(self).__name__, attr, args, only_if=only_if)


def _named(name: str) -> Type[_Named]:
    kept: Any = {"_flipslash": 0} if name in _WITH_BACKSLASHES else {}
    return type(name, (_Named,), {"__module__": __name__, "__doc__": f"``{name}``", **kept})


def _section(name: str) -> Type[_Section]:
    return type(name, (_Section,), {"__module__": __name__, "__doc__": f"``<{name}>``"})


# httpd's own.
AcceptPathInfo = _named("AcceptPathInfo")
AddHandler = _named("AddHandler")
AddInputFilter = _named("AddInputFilter")
AddOutputFilter = _named("AddOutputFilter")
AddType = _named("AddType")
Alias = _named("Alias")
AllowOverride = _named("AllowOverride")
AuthBasicAuthoritative = _named("AuthBasicAuthoritative")
AuthBasicProvider = _named("AuthBasicProvider")
AuthDigestProvider = _named("AuthDigestProvider")
AuthName = _named("AuthName")
AuthType = _named("AuthType")
AuthUserFile = _named("AuthUserFile")
CustomLog = _named("CustomLog")
DefaultRuntimeDir = _named("DefaultRuntimeDir")
DirectoryIndex = _named("DirectoryIndex")
DocumentRoot = _named("DocumentRoot")
ErrorDocument = _named("ErrorDocument")
ErrorLog = _named("ErrorLog")
Group = _named("Group")
Header = _named("Header")
Include = _named("Include")
IncludeOptional = _named("IncludeOptional")
KeepAlive = _named("KeepAlive")
KeepAliveTimeout = _named("KeepAliveTimeout")
Listen = _named("Listen")
LoadModule = _named("LoadModule")
LockFile = _named("LockFile")
LogFormat = _named("LogFormat")
LogLevel = _named("LogLevel")
MaxClients = _named("MaxClients")
MaxConnectionsPerChild = _named("MaxConnectionsPerChild")
MaxRequestWorkers = _named("MaxRequestWorkers")
MaxRequestsPerChild = _named("MaxRequestsPerChild")
MaxSpareServers = _named("MaxSpareServers")
MaxSpareThreads = _named("MaxSpareThreads")
MaxThreadsPerChild = _named("MaxThreadsPerChild")
MinSpareServers = _named("MinSpareServers")
MinSpareThreads = _named("MinSpareThreads")
Mutex = _named("Mutex")
NameVirtualHost = _named("NameVirtualHost")
NumServers = _named("NumServers")
Options = _named("Options")
PassEnv = _named("PassEnv")
PidFile = _named("PidFile")
Protocols = _named("Protocols")
Redirect = _named("Redirect")
RequestHeader = _named("RequestHeader")
Require = _named("Require")
RewriteCond = _named("RewriteCond")
RewriteEngine = _named("RewriteEngine")
RewriteRule = _named("RewriteRule")
SSLCertificateFile = _named("SSLCertificateFile")
SSLCertificateKeyFile = _named("SSLCertificateKeyFile")
SSLEngine = _named("SSLEngine")
ScriptAlias = _named("ScriptAlias")
ServerAdmin = _named("ServerAdmin")
ServerAlias = _named("ServerAlias")
ServerName = _named("ServerName")
ServerPath = _named("ServerPath")
ServerRoot = _named("ServerRoot")
ServerSignature = _named("ServerSignature")
ServerTokens = _named("ServerTokens")
SetEnv = _named("SetEnv")
SetEnvIf = _named("SetEnvIf")
SetHandler = _named("SetHandler")
SetInputFilter = _named("SetInputFilter")
SetOutputFilter = _named("SetOutputFilter")
StartServers = _named("StartServers")
StartThreads = _named("StartThreads")
ThreadsPerChild = _named("ThreadsPerChild")
Timeout = _named("Timeout")
TypesConfig = _named("TypesConfig")
UseCanonicalName = _named("UseCanonicalName")
User = _named("User")

# Ours: all of conf/directives.toml.
PythonAccessHandler = _named("PythonAccessHandler")
PythonAuthenHandler = _named("PythonAuthenHandler")
PythonAuthnProvider = _named("PythonAuthnProvider")
PythonAuthzHandler = _named("PythonAuthzHandler")
PythonAuthzProvider = _named("PythonAuthzProvider")
PythonAutoReload = _named("PythonAutoReload")
PythonCleanupHandler = _named("PythonCleanupHandler")
PythonConnectionHandler = _named("PythonConnectionHandler")
PythonDebug = _named("PythonDebug")
PythonEnablePdb = _named("PythonEnablePdb")
PythonFixupHandler = _named("PythonFixupHandler")
PythonHandler = _named("PythonHandler")
PythonHandlerModule = _named("PythonHandlerModule")
PythonHeaderParserHandler = _named("PythonHeaderParserHandler")
PythonImport = _named("PythonImport")
PythonInitHandler = _named("PythonInitHandler")
PythonInputFilter = _named("PythonInputFilter")
PythonInterpreter = _named("PythonInterpreter")
PythonLogHandler = _named("PythonLogHandler")
PythonOptimize = _named("PythonOptimize")
PythonOption = _named("PythonOption")
PythonOutputFilter = _named("PythonOutputFilter")
PythonPostReadRequestHandler = _named("PythonPostReadRequestHandler")
PythonTransHandler = _named("PythonTransHandler")
PythonTypeHandler = _named("PythonTypeHandler")
VivariumDaemon = _named("VivariumDaemon")
VivariumTenant = _named("VivariumTenant")
VivariumTenantDir = _named("VivariumTenantDir")


class PythonPath(_Named):
    """``PythonPath``: an expression; it is put in quotes unless it is."""

    _flipslash = 0

    def shown(self) -> str:
        """The expression."""
        text = super().shown()
        if text[:1] in ("'", '"') and text[-1:] == text[:1] or not text.split()[1:]:
            return text
        escaped = text.replace('"', '\\"')
        return f'"{escaped}"'


class PythonInterpPerDirectory(_Named):
    """``PythonInterpPerDirectory``"""

    def __init__(self, val: Any = "Off") -> None:
        super().__init__(val)


class PythonInterpPerDirective(_Named):
    """``PythonInterpPerDirective``"""

    def __init__(self, val: Any = "Off") -> None:
        super().__init__(val)


# Sections.
Directory = _section("Directory")
DirectoryMatch = _section("DirectoryMatch")
ElseIf = _section("ElseIf")
Files = _section("Files")
FilesMatch = _section("FilesMatch")
If = _section("If")
IfDefine = _section("IfDefine")
IfModule = _section("IfModule")
IfVersion = _section("IfVersion")
Limit = _section("Limit")
LimitExcept = _section("LimitExcept")
Location = _section("Location")
LocationMatch = _section("LocationMatch")
Macro = _section("Macro")
Proxy = _section("Proxy")
RequireAll = _section("RequireAll")
RequireAny = _section("RequireAny")
RequireNone = _section("RequireNone")
VirtualHost = _section("VirtualHost")

#: What may stand in a container.
Item = Union[Directive, Comment, Container]
