"""Section 1: what `apache2 -t` says of the directives' arguments and places."""

from suite.case import Case, Group

PHASES = (
    "PythonPostReadRequestHandler PythonTransHandler PythonInitHandler PythonHeaderParserHandler PythonAccessHandler "
    "PythonAuthenHandler PythonAuthzHandler PythonTypeHandler PythonFixupHandler PythonHandler PythonLogHandler "
    "PythonCleanupHandler"
).split()
FLAGS = "PythonInterpPerDirectory PythonInterpPerDirective PythonAutoReload PythonDebug PythonEnablePdb".split()


def inside(line):
    """The line in a directory section."""
    return f'<Directory "/somewhere">\n{line}\n</Directory>'


def check(name, row, *configurations, ok, **more):
    """A case for a list of configurations that are all right or all wrong."""
    return [
        Case(f"conf-{name}-{number}" if number else f"conf-{name}", row, configtest=True, server=text,
             status=0 if ok else 1, **more)
        for number, text in enumerate(configurations)
    ]


GROUP = Group("configtests", (
    *(case for phase in PHASES for case in check(
        phase.lower(), f"1.{phase}", "\n".join((
            f"{phase} a", f"{phase} a b::c d.e::f.g",
            *((f"{phase} a | .x .y", inside(f"{phase} a b\n{phase} c")) if phase not in PHASES[:2] else ()),
        )), ok=True)),
    *check("no-ext", ("1.PythonPostReadRequestHandler", "1.PythonTransHandler"),
           "PythonTransHandler a | .x", "PythonPostReadRequestHandler a | .x", ok=False),
    *check("server-only", ("1.PythonPostReadRequestHandler", "1.PythonTransHandler", "1.PythonConnectionHandler",
                           "1.PythonImport", "1.PythonOptimize"),
           *(inside(line) for line in ("PythonTransHandler a", "PythonPostReadRequestHandler a",
           "PythonConnectionHandler a",
                                       "PythonImport a b", "PythonOptimize On")), ok=False),
    *check("connection", "1.PythonConnectionHandler", "PythonConnectionHandler a::b c", ok=True),
    *check("flags", "1.kinds of arguments", "\n".join(
        f"{flag} {'Off' if flag == 'PythonEnablePdb' else 'On'}\n{inside(f'{flag} off')}" for flag in FLAGS), ok=True),
    *check("enable-pdb", "1.PythonEnablePdb", "PythonEnablePdb On", ok=False,
           differs="a worker has no terminal, so `PythonEnablePdb On` is an error that names what to use instead"),
    *check("flag-wrong", "1.kinds of arguments", *(f"{flag} Maybe" for flag in FLAGS), "PythonOptimize Perhaps",
        ok=False),
    *check("one-argument", "1.kinds of arguments", "PythonInterpreter a\nPythonPath \"sys.path\"", ok=True),
    *check("one-argument-wrong", "1.kinds of arguments", "PythonInterpreter", "PythonInterpreter a b", "PythonPath",
        "PythonPath a b",
           ok=False),
    *check("option", "1.PythonOption", "PythonOption a\nPythonOption a b\n" + inside("PythonOption a b"), ok=True),
    *check("option-wrong", "1.PythonOption", "PythonOption", "PythonOption a b c", ok=False),
    *check("filter", "1.PythonInputFilter / PythonOutputFilter",
        "PythonOutputFilter a\nPythonInputFilter a b\n" + inside(
        "PythonOutputFilter a::b c\nPythonInputFilter a::b"), ok=True),
    *check("filter-wrong", "1.PythonInputFilter / PythonOutputFilter", "PythonOutputFilter", "PythonInputFilter a b c",
           ok=False),
    *check("import", "1.PythonImport", "PythonImport a b\nPythonImport a.b::c d", ok=True),
    *check("import-vhost", "1.PythonImport", "<VirtualHost *:1>\nPythonImport a b\n</VirtualHost>", ok=True),
    *check("import-wrong", "1.PythonImport", "PythonImport a", "PythonImport", "PythonImport a b c", ok=False),
    *check("handler-module", "1.PythonHandlerModule", "PythonHandlerModule a\n" + inside("PythonHandlerModule a"),
        ok=True),
    *check("handler-module-wrong", "1.PythonHandlerModule", "PythonHandlerModule", ok=False,
           differs="a directive without its argument is an error; mod_python takes it and ignores it"),
    *check("empty-list", "2.syntax", "PythonHandler", "PythonHandler | .x", ok=False,
           differs="a list without a handler is an error; mod_python takes it and fails at the request"),
    *check("location", "1.merging",
        "<Location /x>\nPythonHandler a\n</Location>\n<Files x>\nPythonHandler a\n</Files>\n"
           "<LocationMatch x>\nPythonAccessHandler a\n</LocationMatch>\n<DirectoryMatch x>\nPythonHandler a | .x\n"
           "</DirectoryMatch>\n<FilesMatch x>\nPythonOption a b\n</FilesMatch>", ok=True),
))
