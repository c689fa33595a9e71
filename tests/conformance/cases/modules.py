"""Section 4: the modules mod_python.apache and _apache."""

import os
from contextlib import suppress

from suite.case import Case, Group

HELPER = "WHERE = 'helper'\nCOUNT = 0\n"


def reloaded(talk):
    """A module's value before and after its file changes, asked of one process, with time for the check of the file."""
    path = talk.server.htdocs / talk.case.id / "changing_helper.py"

    def change(value, mtime):
        path.write_text(f"VALUE = '{value}'\n")
        os.utime(path, (mtime, mtime))

    def ask(pid=None):
        while True:
            found = talk.ask()[1]
            if pid in (None, found[0]):
                return found

    change("first", 1_000_000_000)
    pid, first = ask()
    change("second", 1_000_000_100)
    seen = [first]
    with suppress(TimeoutError):
        talk.wait(lambda: seen.append(ask(pid)[1]) or seen[-1] != first, 2)
    return [first, seen[-1]]


GROUP = Group("modules", (
    Case("apache-log-error", "4.log_error(msg[, level=ERR[, server]])", """
        apache.log_error(MARK + "plain")
        apache.log_error(MARK + "warning", apache.APLOG_WARNING)
        apache.log_error(MARK + "notice", apache.APLOG_NOTICE)
        apache.log_error(MARK + "emerg", apache.APLOG_EMERG)
        apache.log_error(MARK + "alert", apache.APLOG_ALERT)
        apache.log_error(MARK + "server", apache.APLOG_ERR, req.server)
        apache.log_error(MARK + "noerrno", apache.APLOG_NOERRNO | apache.APLOG_CRIT)
        apache.log_error(None)
        return answer(req, [attempt(apache.log_error, 5), attempt(apache.log_error), attempt(apache.log_error, b"x"),
                            attempt(apache.log_error, "x", "y"), attempt(apache.log_error, "x", 3, 4)])
    """, log=True, log_wait=7),
    Case("import-module", "4.import_module(name, autoreload=1, log=0, path=None)", """
        one = apache.import_module("import_helper")
        two = apache.import_module("import_helper", autoreload=0, log=0, path=None)
        dotted = apache.import_module("import_pack.leaf")
        return answer(req, [one.WHERE, one is two, dotted.__name__, attempt(apache.import_module, "no_such_at_all")])
    """, files={"import_helper.py": HELPER, "import_pack/__init__.py": "", "import_pack/leaf.py": "X = 1\n"}),
    Case("import-module-path", "4.import_module(name, autoreload=1, log=0, path=None)", """
        module = apache.import_module("import_path_helper", path=[os.path.dirname(__file__)])
        return answer(req, module.WHERE)
    """, files={"import_path_helper.py": HELPER}, expect="helper"),
    Case("import-module-log", "4.import_module(name, autoreload=1, log=0, path=None)", """
        apache.import_module("import_log_helper", log=1)
        return answer(req, "imported")
    """, files={"import_log_helper.py": HELPER}, drive=lambda talk: [
        talk.ask(), [line.rpartition(": ")[2] for line in talk.log_lines("import_log_helper", wait=1)][:1]]),
    Case("import-module-changed", ("4.import_module(name, autoreload=1, log=0, path=None)", "21.AutoReload"), """
        return answer(req, [os.getpid(), apache.import_module("changing_helper").VALUE])
    """, drive=reloaded, expect=["first", "second"],
        defect="changed modules are never executed again since 2020"),
    Case("import-module-no-reload", "4.import_module(name, autoreload=1, log=0, path=None)", """
        return answer(req, [os.getpid(), apache.import_module("changing_helper", autoreload=0).VALUE])
    """, conf="PythonInterpreter no-reload", drive=reloaded, expect=["first", "first"]),
    Case("config-tree", "4.config_tree()", """
        tree = apache.config_tree()
        def find(items, name):
            for item in items:
                if isinstance(item, tuple) and item[0] == name:
                    return item
        index = [i for i, item in enumerate(tree) if isinstance(item, tuple) and item[0] == "<Directory"
                 and "config-tree" in item[1]][0]
        return answer(req, [type(tree).__name__, find(tree, "ServerName"), tree[index], tree[index + 1]])
    """),
    Case("config-tree-shape", "4.config_tree()", """
        def shape(items):
            return [[item[0]] if isinstance(item, tuple) else shape(item) for item in items]
        tree = apache.config_tree()
        names = [item[0] for item in tree if isinstance(item, tuple)]
        return answer(req, [[len(item) for item in tree if isinstance(item, tuple)][:3],
                            all(isinstance(tree[i + 1], list) for i, item in enumerate(tree)
                                if isinstance(item, tuple) and item[0][0] == "<")])
    """),
    Case("server-root", "4.server_root()", "return answer(req, apache.server_root())", expect="@prefix@"),
    Case("mpm-query", "4.mpm_query(code)", """
        names = ("IS_THREADED IS_FORKED HARD_LIMIT_DAEMONS HARD_LIMIT_THREADS MAX_THREADS MIN_SPARE_DAEMONS "
                 "MIN_SPARE_THREADS MAX_SPARE_DAEMONS MAX_SPARE_THREADS MAX_REQUESTS_DAEMON MAX_DAEMONS").split()
        return answer(req, {n: attempt(apache.mpm_query, getattr(apache, "AP_MPMQ_" + n)) for n in names})
    """, mpms=("event",)),
    Case("mpm-query-others", "4.mpm_query(code)", """
        return answer(req, [type(apache.mpm_query(apache.AP_MPMQ_IS_THREADED)).__name__, attempt(apache.mpm_query),
                            attempt(apache.mpm_query, "x")])
    """),
    Case("mpm-query-kind", "4.mpm_query(code)", """
        return answer(req, apache.mpm_query(apache.AP_MPMQ_IS_THREADED) > 0)
    """, mpms=("prefork",), expect=False, only_ours="the comparison is with mod_python under event"),
    Case("config-define", "4.exists_config_define(name)", """
        return answer(req, [apache.exists_config_define("IN_THE_CONF"), apache.exists_config_define("NOWHERE"),
                            apache.exists_config_define("FOREGROUND"), attempt(apache.exists_config_define, 5)])
    """),
    Case("apache-register-cleanup", ("4.register_cleanup(func[, data])", "23.clean-ups run at stop"), """
        def note(data):
            apache.log_error("child clean-up " + data)
        def handler(req):
            return answer(req, [apache.register_cleanup(note, "x"), attempt(apache.register_cleanup),
                                attempt(apache.register_cleanup, 5)])
    """),
    Case("build-cgi-env", "4.build_cgi_env, setup_cgi, restore_nocgi, CGIStdin, CGIStdout, NullIO", """
        env = apache.build_cgi_env(req)
        gone = ("SERVER_SIGNATURE", "SERVER_SOFTWARE", "PATH", "REMOTE_PORT", "LD_LIBRARY_PATH")
        return answer(req, [type(env).__name__, sorted((k, v) for k, v in env.items() if k not in gone)])
    """, path="name/info?a=b", send=(("X-Own", "v"), ("Authorization", "Basic dXNlcjpwYXNz"))),
    Case("setup-cgi", "4.build_cgi_env, setup_cgi, restore_nocgi, CGIStdin, CGIStdout, NullIO", """
        saved = apache.setup_cgi(req)
        try:
            inside = [type(sys.stdin).__name__, type(sys.stdout).__name__, os.environ.get("REQUEST_METHOD")]
        finally:
            apache.restore_nocgi(*saved)
        return answer(req, [len(saved), inside, os.environ.get("REQUEST_METHOD")])
    """),
    Case("cgi-classes", "4.build_cgi_env, setup_cgi, restore_nocgi, CGIStdin, CGIStdout, NullIO", """
        null = apache.NullIO()
        null.write("nowhere")
        return answer(req, [null.read(), null.readline(), hasattr(apache, "CGIStdin"), hasattr(apache, "CGIStdout"),
                            issubclass(apache.CGIStdin, apache.NullIO)])
    """),
    Case("cgi-stdin", ("4.build_cgi_env, setup_cgi, restore_nocgi, CGIStdin, CGIStdout, NullIO", "21.CGIStdin"), """
        stdin = apache.CGIStdin(req)
        return answer(req, [stdin.readline(), stdin.read(3), stdin.readlines()])
    """, method="POST", body=b"one\ntwo and\nthree\n", expect=["one\n", "two", [" and\n", "three\n"]],
        defect="reading a body through CGIStdin raises TypeError (str and bytes)"),
    Case("cgi-stdout", "4.build_cgi_env, setup_cgi, restore_nocgi, CGIStdin, CGIStdout, NullIO", """
        out = apache.CGIStdout(req)
        out.write("Content-Type: text/x-cgi\\nX-Own: 1\\n\\nbody")
        return apache.OK
    """, headers=("Content-Type", "X-Own"), expect="body"),
    Case("cgi-stdout-status", "4.build_cgi_env, setup_cgi, restore_nocgi, CGIStdin, CGIStdout, NullIO", """
        out = apache.CGIStdout(req)
        out.write("Status: 404 Nowhere\\nContent-Type: text/x-cgi\\n\\nbody")
        return apache.OK
    """, status=404, headers=("Content-Type",), expect="body"),
    Case("resolve-object", "4.resolve_object, module_mtime, init, CallBack", """
        class Page:
            def __init__(self, req):
                self.req = req
            def show(self):
                return self.req is not None
        import types
        module = types.ModuleType("made")
        module.Page, module.value = Page, 5
        found = apache.resolve_object(module, "Page.show", req, False)
        return answer(req, [found(), apache.resolve_object(module, "value", req, 0),
                            attempt(apache.resolve_object, module, "none", req, 0),
                            attempt(apache.resolve_object, module, "none", req, 1)])
    """),
    Case("module-mtime", "4.resolve_object, module_mtime, init, CallBack", """
        module = apache.import_module("mtime_helper")
        return answer(req, [apache.module_mtime(module) == os.path.getmtime(module.__file__), apache.module_mtime(sys)])
    """, files={"mtime_helper.py": HELPER}),
    Case("apache-names", "4.resolve_object, module_mtime, init, CallBack", """
        return answer(req, [hasattr(apache, name) for name in ("init", "CallBack", "import_module",
                            "config_tree", "server_root", "table", "make_table", "log_error", "stat")])
    """),
    Case("apache-callables", "4.resolve_object, module_mtime, init, CallBack", """
        names = ("CGIStdin CGIStdout CallBack NullIO build_cgi_env config_tree exists_config_define import_module init "
                 "log_error make_table module_mtime mpm_query register_cleanup resolve_object restore_nocgi "
                 "server_root setup_cgi stat table").split()
        return answer(req, [name for name in names if not callable(getattr(apache, name, None))])
    """, expect=[]),
    Case("apache-allow-methods", "4.allow_methods(*M_x)", """
        apache.allow_methods(apache.M_GET) if req.args else None
        return answer(req, hasattr(apache, "allow_methods"))
    """, expect=True, differs="documented, so it is there; mod_python has only the documentation"),
    Case("apache-attributes", "4.interpreter, main_server, versions", """
        return answer(req, [apache.interpreter, str(type(apache.main_server)), apache.MODULE_MAGIC_NUMBER_MAJOR,
                            type(apache.MODULE_MAGIC_NUMBER_MINOR).__name__, apache.SERVER_RETURN.__name__,
                            issubclass(apache.SERVER_RETURN, Exception)])
    """),
    Case("apache-version", "4.interpreter, main_server, versions", """
        import mod_python
        return answer(req, [type(mod_python.version).__name__, type(mod_python.version.version).__name__,
                            type(mod_python.mp_version).__name__, mod_python.mp_version == mod_python.version.version])
    """),
    Case("underscore-apache", "4._apache", """
        import _apache
        names = ("log_error parse_qs parse_qsl config_tree server_root mpm_query register_cleanup exists_config_define "
                 "stat table SERVER_RETURN _global_lock _global_trylock _global_unlock").split()
        return answer(req, [[hasattr(_apache, name) for name in names], _apache.SERVER_RETURN is apache.SERVER_RETURN,
                            _apache.table is apache.table, _apache.server_root()])
    """),
    Case("underscore-from-package", "4._apache", """
        from mod_python import _apache as inner
        return answer(req, [inner.server_root() == apache.server_root()])
    """, only_ours="mod_python has the built-in module under its top-level name alone", expect=[True]),
    Case("global-lock", "4._global_lock, _global_trylock, _global_unlock", """
        import _apache
        got = [_apache._global_lock(req.server, None, 1), _apache._global_trylock(req.server, None, 2),
               _apache._global_unlock(req.server, None, 2), _apache._global_unlock(req.server, None, 1)]
        got += [_apache._global_lock(req.server, "a key"), _apache._global_unlock(req.server, "a key"),
                _apache._global_lock(req.server, "a key", 0), _apache._global_unlock(req.server, "a key", 0)]
        return answer(req, got)
    """),
    Case("global-lock-held", "4._global_lock, _global_trylock, _global_unlock", """
        import _apache, threading
        _apache._global_lock(req.server, "held", 3)
        got = []
        def other():
            got.append(bool(_apache._global_trylock(req.server, "held", 3)))
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        _apache._global_unlock(req.server, "held", 3)
        got.append(bool(_apache._global_trylock(req.server, "held", 3)))
        _apache._global_unlock(req.server, "held", 3)
        return answer(req, got)
    """, expect=[False, True], only_ours="a thread of its own is no part of a request there"),
    Case("global-lock-arguments", "4._global_lock, _global_trylock, _global_unlock", """
        import _apache
        return answer(req, [attempt(_apache._global_lock), attempt(_apache._global_lock, 5, "x"),
                            attempt(_apache._global_unlock, req.server, "x", 10000)])
    """),
    Case("underscore-parse-qs", ("4._apache", "21.parse_qsl"), """
        import _apache
        return answer(req, [repr(_apache.parse_qs(b"a=1&b=2&a=3")), _apache.parse_qsl(b"a=1;b=%20x+y&c"),
                            _apache.parse_qsl(b"a=&b", 1)])
    """, expect=["{b'a': [b'1', b'3'], b'b': [b'2']}", [["b'a'", "b'1'"], ["b'b'", "b' x y'"]],
                 [["b'a'", "b''"], ["b'b'", "b''"]]],
        defect="parse_qsl uses memory after realloc"),
    Case("stderr", "19.stderr", """
        sys.stderr.write(MARK + "to stderr\\n")
        sys.stderr.flush()
        return answer(req, "written")
    """, drive=lambda talk: [talk.ask(), len(talk.log_lines("to stderr", wait=1))], expect=[[200, "written"], 1]),
    Case("argv", "19.sys.argv", "return answer(req, sys.argv)", expect=["mod_python"],
         only_ours="mod_python's is empty in some interpreters"),
    Case("user-site", "19.user site directory off", """
        import site
        return answer(req, [bool(site.ENABLE_USER_SITE), sys.flags.no_user_site])
    """),
    Case("runs-as", "19.code runs as httpd's User", """
        import pwd
        return answer(req, pwd.getpwuid(os.getuid()).pw_name)
    """),
    Case("import-outside", "4.import outside httpd", """
        import subprocess
        done = subprocess.run([sys.executable if "python" in sys.executable else "/usr/bin/python3", "-c",
                               "import sys; sys.path[:0] = %r; from mod_python import apache" % sys.path],
                              capture_output=True, text=True)
        return answer(req, [done.returncode, "_apache" in done.stderr])
    """, expect=[0, False], differs="the package can be imported anywhere, so that handlers can be tested; what needs "
        "httpd raises RuntimeError when it is called"),
), conf="Define IN_THE_CONF")
