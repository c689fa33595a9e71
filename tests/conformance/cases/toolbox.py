"""Sections 16 to 18: httpdconf, cache, and the command `mod_python`."""

import os
import subprocess

from devlib import artefacts
from suite.case import Case, Group

CONF = "from mod_python import httpdconf as h\n"
CACHE = "from mod_python import cache\n"


def command(*arguments, then=None):
    """A conversation that runs the command; gives its exit status and what `then` finds."""

    def drive(talk):
        root = talk.server.htdocs / talk.case.id
        filled = [talk.server.fill(each, talk.case) for each in arguments]
        environment = {**os.environ, "VIVARIUM_MODULE": str(talk.server.module)}
        done = subprocess.run(
            [artefacts.REPO / "scripts/mod_python", *filled],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return [done.returncode, then(root, done) if then else None]

    return drive


def ours(name, row, drive, expect):
    """A case of the command."""
    return Case(
        name,
        row,
        drive=drive,
        expect=expect,
        mpms=("event",),
        defect="the command imports StringIO, which Python 3 does not have: nothing of it runs",
    )


GROUP = Group("toolbox", (
    # 16 httpdconf
    Case("httpdconf-directives", "16.Directive(name, val, flipslash)", CONF + """
def handler(req):
    made = [h.Directive("X", "y"), h.Directive("X", "a\\\\b"), h.Directive("X", "a\\\\b", 0), h.Listen(8888),
            h.DocumentRoot("/a b"), h.PythonHandler("a b"), h.PythonInterpPerDirectory(), h.PythonOption("k v"),
            h.LogFormat("a\\\\b")]
    return answer(req, [str(each) for each in made] + [repr(h.Listen(1))])
"""),
    Case("httpdconf-container", "16.Container(*args, only_if)", CONF + """
def handler(req):
    one = h.Container(h.Listen(1))
    one.append(h.Listen(2))
    made = [one, h.Container(h.Listen(1), only_if="1 == 2"), h.Container(h.Listen(1), only_if="1 == 1"),
            h.Container(h.Container(h.Listen(3)), h.Comment("x"))]
    return answer(req, [str(each) for each in made])
"""),
    Case("httpdconf-sections", "16.ContainerTag(tag, attr, args)", CONF + """
def handler(req):
    made = [h.VirtualHost("*", h.ServerName("x"), h.Directory("/", h.SetHandler("mod_python"))),
            h.IfModule("!x.c", h.LoadModule("x y")), h.ContainerTag("If", "true", [h.Listen(1)]),
            h.Location("/x", h.Container(h.AuthType("Basic"))), h.Files("*.py", h.Comment("a\\nb"))]
    return answer(req, [str(each) for each in made])
"""),
    Case("httpdconf-comment", "16.Comment", CONF + """
def handler(req):
    return answer(req, [str(h.Comment("one")), str(h.Comment("one\\ntwo")), h.quote_if_space("a b"),
                        h.quote_if_space("ab")])
"""),
    Case("httpdconf-path", "16.Directive(name, val, flipslash)", CONF + """
def handler(req):
    return answer(req, str(h.PythonPath("['/a'] + sys.path")))
""", expect="PythonPath \"['/a'] + sys.path\"\n",
        differs="an expression with spaces is put in quotes, without which httpd refuses it"),
    Case("httpdconf-only-if-false", "16.Container(*args, only_if)", CONF + """
def handler(req):
    return answer(req, str(h.Container(h.Listen(1), only_if=False)))
""", expect="", differs="a condition may be a value; mod_python looks at texts only"),
    Case("httpdconf-classes", "16.ready classes", CONF + """
def handler(req):
    names = ("AddHandler AddOutputFilter AddType AuthBasicAuthoritative AuthBasicProvider AuthName AuthType CustomLog "
             "DirectoryIndex DocumentRoot ErrorLog KeepAliveTimeout Listen LoadModule LockFile LogFormat LogLevel "
             "MaxClients MaxConnectionsPerChild MaxRequestsPerChild MaxSpareServers MaxSpareThreads MaxThreadsPerChild "
             "MinSpareThreads Mutex NameVirtualHost NumServers Options PidFile PythonAccessHandler PythonAuthenHandler "
             "PythonAuthzHandler PythonCleanupHandler PythonConnectionHandler PythonDebug PythonFixupHandler "
             "PythonHandler PythonImport PythonInterpPerDirective PythonInterpPerDirectory PythonOption "
             "PythonOutputFilter PythonPath PythonPostReadRequestHandler PythonTransHandler Require ServerAdmin "
             "ServerName ServerPath ServerRoot SetHandler StartServers StartThreads ThreadsPerChild Timeout "
             "TypesConfig")
    return answer(req, [str(getattr(h, name)("x")) for name in names.split()])
"""),
    Case("httpdconf-our-classes", "16.ready classes", CONF + """
def handler(req):
    names = ("PythonInitHandler PythonHeaderParserHandler PythonTypeHandler PythonLogHandler PythonInputFilter "
             "PythonHandlerModule PythonAutoReload PythonInterpreter PythonEnablePdb PythonOptimize")
    return answer(req, [str(getattr(h, name)("x")).split() == [name, "x"] for name in names.split()])
""", expect=[True] * 10, only_ours="mod_python's list leaves these out"),
    Case("httpdconf-write-basic-config", "16.write_basic_config", CONF + """
def handler(req):
    import tempfile
    root = tempfile.mkdtemp(dir=req.get_options()["scratch"])
    made = h.write_basic_config(root + "/x", listen="127.0.0.1:1", pythonhandler="hello", pythonoptions=["k v"])
    text = open(made).read()
    found = sorted(os.listdir(root + "/x"))
    return answer(req, [made.replace(root, ""), found, [each in text for each in (
        "PythonHandler('hello')", "PythonOption('k v')", "Listen('127.0.0.1:1')", "SetHandler('mod_python')")]])
"""),

    # 17 cache
    Case("cache-build", "17.Cache(max_size)", CACHE + """
class Mine(cache.Cache):
    built = 0
    def check(self, name, key, entry):
        return None if entry._value is not cache.NOT_INITIALIZED else "new"
    def build(self, name, key, opened, entry):
        Mine.built += 1
        return "%s %s %d" % (name, opened, Mine.built)
def handler(req):
    Mine.built = 0
    mine = Mine()
    return answer(req, [mine["a"], mine["a"], mine["b"], mine["a"], Mine.built])
"""),
    Case("cache-size", "17.Cache(max_size)", CACHE + """
class Mine(cache.Cache):
    def check(self, name, key, entry):
        return None if entry._value is not cache.NOT_INITIALIZED else "new"
    def build(self, name, key, opened, entry):
        built.append(name)
        return name * 2
built = []
def handler(req):
    del built[:]
    mine = Mine(2)
    for name in "abacab":
        mine[name]
    return answer(req, built)
"""),
    Case("cache-file", "17.FileCache", CACHE + """
class Mine(cache.FileCache):
    def build(self, name, key, opened, entry):
        with opened:
            return len(opened.read())
def handler(req):
    path = req.get_options()["scratch"] + "/cache-file.%d" % os.getpid()
    mine = Mine()
    found = []
    for text, moment in (("one", 1000000000), ("three", 1000000001)):
        open(path, "w").write(text)
        os.utime(path, (moment, moment))
        found += [mine[path], mine[path]]
    return answer(req, found)
""", expect=[3, 3, 5, 5]),
    Case("cache-module", "17.ModuleCache, HttpModuleCache", CACHE + """
def handler(req):
    mine = cache.ModuleCache()
    path = os.path.dirname(__file__) + "/cached_module.py"
    return answer(req, [mine[path].VALUE, mine[path] is mine[path]])
""", files={"cached_module.py": "VALUE = 5\n"}, expect=[5, True]),
    Case("cache-function", "17.FunctionCache", CACHE + """
calls = []
def area(width, height):
    calls.append(1)
    return width * height
def handler(req):
    del calls[:]
    mine = cache.FunctionCache(area)
    return answer(req, [mine(2, 3), mine(2, 3), mine(2, 4), len(calls)])
""", expect=[6, 6, 8, 2]),
    Case("cache-weak", "17.WeakCache", CACHE + """
class Value:
    pass
class Mine(cache.WeakCache):
    def check(self, name, key, entry):
        return None if entry._value is not cache.NOT_INITIALIZED else "new"
    def build(self, name, key, opened, entry):
        return Value()
def handler(req):
    mine = Mine()
    held = mine["a"]
    return answer(req, mine["a"] is held)
""", expect=True),
    Case("cache-http", ("17.HTTPCache", "21.HTTPCache"), CACHE + """
def handler(req):
    if req.path_info == "/document" or req.uri.endswith("/document"):
        req.headers_out["Cache-Control"] = "max-age=1000"
        req.write("a document")
        return apache.OK
    mine = cache.HTTPCache()
    url = req.construct_url("/cache-http/document")
    return answer(req, [mine[url].decode(), mine[url].decode()])
""", path="x", expect=["a document", "a document"], defect="HTTPCache raises NameError on Python 3"),

    # 18 the command
    ours("command-create", "18.create", command(
        "create", "@scratch@/created", "--listen", "127.0.0.1:1", "--pythonhandler", "hello", "--pythonoption", "k v",
        "--pythonpath", "/a:/b",
        then=lambda root, done: [
            line in (root.parent.parent / "scratch/created/conf/httpd.conf").read_text()
            for line in ("Listen 127.0.0.1:1", "PythonHandler hello", "PythonOption k v", "['/a', '/b'] + sys.path")
        ],
    ), [0, [True] * 4]),
    ours("command-genconfig", "18.genconfig", lambda talk: [
        command("create", "@scratch@/generated")(talk)[0],
        command("genconfig", "@scratch@/generated/conf/httpd_conf.py",
                then=lambda root, done: "SetHandler mod_python" in done.stdout)(talk),
    ], [0, [0, True]]),
    ours("command-control", "18.start, stop, restart", lambda talk: [
        command(name, "/no/such/conf", then=lambda root, done: "there is no /no/such/conf" in done.stderr)(talk)
        for name in ("start", "stop", "restart")
    ], [[1, True]] * 3),
    ours("command-version", "18.version", command(
        "version", then=lambda root, done: [word in done.stdout for word in ("mod_python:", "Python:", "httpd:")],
    ), [0, [True] * 3]),
))  # fmt: skip
