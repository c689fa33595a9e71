"""Section 1: the directives that are no phases, where they may stand, and how sections merge."""

from suite.case import Case, Group

SAYS = 'def handler(req):\n    req.write("{}")\n    return 0\n'
OPTIONS = "return answer(req, sorted((k, v) for k, v in req.get_options().items() if k != 'scratch'))"
SERVER_OPTIONS = """
        return answer(req, [sorted(req.get_options().items()), sorted(req.server.get_options().items())])
"""


DIRECTIVE_ROWS = dict.fromkeys(("PythonInputFilter", "PythonOutputFilter"), "PythonInputFilter / PythonOutputFilter")


def in_htaccess(name, line, code, row=None, **more):
    """A case: a directive in a .htaccess file."""
    files = {".htaccess": line + "\n", **more.pop("files", {})}
    return Case(f"ht-{name}", row or ("1.in .htaccess", f"1.{DIRECTIVE_ROWS.get(line.split()[0], line.split()[0])}"),
        code, conf="AllowOverride Options",
                files=files, **more)


def interpreter(name, row, conf="", **more):
    """A case that tells the interpreter's name."""
    return Case(f"interp-{name}", row, "return answer(req, [req.interpreter, apache.interpreter])", conf=conf, **more)


GROUP = Group("settings", (
    # -- PythonOption
    Case("option", "1.PythonOption", OPTIONS,
         conf='PythonOption one 1\nPythonOption "two words" "a b"\nPythonOption ONE x'),
    Case("option-overlay", ("1.PythonOption", "1.merging"), OPTIONS, bare=True, server="""
        <Directory "@dir@">
        SetHandler mod_python
        PythonHandler @module@
        PythonPath "['@dir@'] + sys.path"
        PythonOption outer outer
        PythonOption both outer
        PythonOption gone outer
        </Directory>
        <Directory "@dir@/inner">
        PythonOption both inner
        PythonOption gone
        PythonOption inner inner
        </Directory>
    """, files={"inner/x": ""}, drive=lambda talk: [talk.ask("x"), talk.ask("inner/x")], expect=[
        [200, [["both", "outer"], ["gone", "outer"], ["outer", "outer"]]],
        [200, [["both", "inner"], ["inner", "inner"], ["outer", "outer"]]]]),
    Case("option-server", ("1.PythonOption", "9.get_config(), get_options()"), SERVER_OPTIONS,
         vhost="PythonOption at vhost\nPythonOption both vhost", conf="PythonOption both section"),
    Case("option-location", "1.PythonOption", OPTIONS, conf="PythonOption a directory",
         server='<Location "@url@">\nPythonOption a location\nPythonOption b location\n</Location>'),
    Case("option-files", "1.PythonOption", OPTIONS, conf='<Files "*.x">\nPythonOption in files\n</Files>',
         drive=lambda talk: [talk.ask("a.x"), talk.ask("a.y")]),

    # -- merging
    Case("merge-handler", "1.merging", "req.write('outer')\nreturn apache.OK", server="""
        <Directory "@dir@/inner">
        PythonHandler merge_inner_mod
        </Directory>
    """, files={"inner/merge_inner_mod.py": SAYS.format("inner")},
        drive=lambda talk: [talk.ask("x"), talk.ask("inner/x")],
        expect=[[200, "outer"], [200, "inner"]]),
    Case("merge-ext-handler", "1.merging", """
        def handler(req):
            req.write("outer")
            return apache.OK
        def page(req):
            req.write("page")
            return apache.OK
    """, conf="PythonHandler @module@::page | .page", server="""
        <Directory "@dir@/inner">
        PythonHandler merge_ext_mod
        </Directory>
    """, files={"inner/merge_ext_mod.py": SAYS.format("inner")}, drive=lambda talk: [
        talk.ask(path) for path in ("x", "x.page", "inner/x", "inner/x.page")]),
    Case("merge-append", "1.merging", """
        def one(req):
            req.write("1")
            return apache.OK
        def two(req):
            req.write("2")
            return apache.OK
    """, bare=True,
        conf="SetHandler mod_python\nPythonHandler @module@::one\nPythonHandler @module@::two @module@::one",
        expect="121"),
    Case("merge-phases", "1.merging", """
        def accesshandler(req):
            req.seen = "outer access"
            return apache.OK
        def handler(req):
            return answer(req, [req.seen, sorted(req.get_config().items())])
    """, conf="PythonAccessHandler @module@\nPythonDebug Off", server="""
        <Directory "@dir@/inner">
        PythonAutoReload Off
        </Directory>
    """, files={"inner/x": ""}, path="inner/x"),
    Case("merge-filters", "1.merging", """
        def handler(req):
            for name in ("outer-merge-filters", "inner-merge-filters"):
                req.add_output_filter(name)
            req.write("text")
            return apache.OK
        def upper(flt):
            data = flt.read()
            while data:
                flt.req.kept = data.upper()
                flt.write(flt.req.kept)
                data = flt.read()
            if data is None:
                flt.close()
        def mark(flt):
            data = flt.read()
            while data:
                flt.req.kept2 = b"[" + data + b"]"
                flt.write(flt.req.kept2)
                data = flt.read()
            if data is None:
                flt.close()
    """, conf="PythonOutputFilter @module@::upper outer-@id@", server="""
        <Directory "@dir@/inner">
        PythonOutputFilter @module@::mark inner-@id@
        </Directory>
    """, files={"inner/x": ""}, path="inner/x", expect="[TEXT]"),

    # -- PythonPath
    Case("python-path", "1.PythonPath", """
        import path_extra_mod
        return answer(req, [path_extra_mod.X, sys.path[0], sys.path[1], os.path.dirname(__file__) in sys.path])
    """, conf="PythonInterpreter @id@\nPythonPath \"['@dir@/library', '@dir@'] + sys.path\"",
        files={"library/path_extra_mod.py": "X = 'library'\n"}),
    Case("python-path-no-directory", "1.PythonPath", bare=True, server="""
        <Directory "@dir@">
        SetHandler mod_python
        PythonHandler path_hidden_mod
        PythonInterpreter @id@
        PythonPath "['/nowhere'] + sys.path"
        </Directory>
    """, files={"path_hidden_mod.py": SAYS.format("found")}, status=500),
    Case("python-path-names", "1.PythonPath", "return answer(req, sys.path[0])",
         conf="PythonInterpreter @id@\nPythonPath \"[os.path.join('/a', 'b'), '@dir@'] + sys.path\"", expect="/a/b"),
    Case("python-path-inner", ("1.PythonPath", "1.merging"), "return answer(req, sys.path[0])",
         conf="PythonInterpreter @id@\nPythonPath \"['/outer', '@dir@'] + sys.path\"", server="""
        <Directory "@dir@/inner">
        PythonPath "['/inner', '@dir@'] + sys.path"
        </Directory>
    """, files={"inner/x": ""}, path="inner/x", expect="/inner"),
    Case("python-path-broken", "1.PythonPath", "return answer(req, 'ran')", status=500,
         conf="PythonInterpreter @id@\nPythonPath \"1/0\""),
    Case("python-path-not-list", "1.PythonPath", "return answer(req, 'ran')", drive=lambda talk: talk.request().status,
         conf="PythonInterpreter @id@\nPythonPath \"'@dir@'\""),

    # -- interpreters
    interpreter("default", ("2.interpreter name", "19.interpreters per vhost name")),
    interpreter("named", ("1.PythonInterpreter", "2.interpreter name"), "PythonInterpreter a-name"),
    interpreter("vhost", "2.interpreter name", vhost="PythonInterpPerDirectory Off",
        conf="PythonInterpPerDirective Off"),
    interpreter("per-directory", ("1.PythonInterpPerDirectory", "2.interpreter name"), "PythonInterpPerDirectory On",
                files={"sub/x": ""}, drive=lambda talk: [talk.ask(p) for p in ("", "x", "sub/x", "sub/")]),
    interpreter("per-directive", ("1.PythonInterpPerDirective", "2.interpreter name"), "PythonInterpPerDirective On",
                files={"sub/x": ""}, drive=lambda talk: [talk.ask(p) for p in ("", "x", "sub/x", "sub/")]),
    interpreter("per-directive-location", ("1.PythonInterpPerDirective", "2.interpreter name"), server="""
        <Location "/interp-location">
        Require all granted
        SetHandler mod_python
        PythonPath "['@dir@'] + sys.path"
        PythonHandler @module@
        PythonInterpPerDirective On
        </Location>
    """, path="/interp-location/x"),
    interpreter("both", "2.interpreter name", "PythonInterpPerDirectory On\nPythonInterpPerDirective On",
        files={"sub/x": ""},
                path="sub/x"),
    interpreter("name-wins", "2.interpreter name", "PythonInterpPerDirectory On\nPythonInterpreter the-name",
                expect=["the-name", "the-name"]),
    Case("interp-per-directory-early", "1.PythonInterpPerDirectory", """
        def transhandler(req):
            req.early = req.interpreter
            return apache.DECLINED
        def handler(req):
            return answer(req, [getattr(req, "early", "another interpreter's"), req.interpreter])
    """, vhost="PythonInterpPerDirectory On\nPythonPath \"['@dir@'] + sys.path\"\nPythonTransHandler @module@"),
    Case("interp-separate", ("19.interpreters per vhost name", "1.PythonInterpreter"), """
        import interp_shared_mod
        interp_shared_mod.VALUES.append(req.interpreter)
        return answer(req, sorted(set(interp_shared_mod.VALUES)))
    """, conf="PythonInterpreter separate-one", server="""
        <Directory "@dir@/sub">
        PythonInterpreter separate-two
        PythonPath "['@dir@'] + sys.path"
        </Directory>
    """, files={"interp_shared_mod.py": "VALUES = []\n", "sub/x": ""}, drive=lambda talk: [
        talk.ask("x"), talk.ask("sub/x"), talk.ask("x")],
        expect=[[200, ["separate-one"]], [200, ["separate-two"]], [200, ["separate-one"]]]),

    # -- flags
    Case("debug-off", "1.PythonDebug", "raise ValueError('x')", conf="PythonDebug On\nPythonDebug Off", status=500,
         headers=("Content-Type",)),
    Case("debug-in-config", "1.PythonDebug", "return answer(req, req.get_config().get('PythonDebug'))",
         conf="PythonDebug On",
         expect="1"),
    Case("autoreload-config", "1.PythonAutoReload", "return answer(req, req.get_config().get('PythonAutoReload'))",
         conf="PythonAutoReload Off", expect="0"),
    Case("autoreload-default", "1.PythonAutoReload", "return answer(req, req.get_config().get('PythonAutoReload'))"),
    Case("enable-pdb-off", "1.PythonEnablePdb", "return answer(req, 'ran')", conf="PythonEnablePdb Off", expect="ran"),
    Case("optimize", "1.PythonOptimize", "return answer(req, 'ran')", server="PythonOptimize Off", expect="ran"),

    Case("optimize-default", "1.PythonOptimize", "return answer(req, [sys.flags.optimize, __debug__])",
         expect=[0, True]),

    # -- .htaccess
    in_htaccess("option", "PythonOption k v", "return answer(req, req.get_options()['k'])", expect="v"),
    in_htaccess("debug", "PythonDebug On", "return answer(req, req.get_config()['PythonDebug'])", expect="1"),
    in_htaccess("interpreter", "PythonInterpreter from-ht", "return answer(req, req.interpreter)", expect="from-ht"),
    in_htaccess("access", "PythonAccessHandler @module@", """
        def accesshandler(req):
            return apache.HTTP_FORBIDDEN
    """, status=403),
    in_htaccess("path", "PythonPath \"['/from-ht', '@dir@'] + sys.path\"", "return answer(req, '/from-ht' in sys.path)",
                expect=True),
    in_htaccess("reload", "PythonAutoReload Off", "return answer(req, req.get_config()['PythonAutoReload'])",
        expect="0"),
    in_htaccess("per-directory", "PythonInterpPerDirectory On", "return answer(req, req.interpreter)"),
    in_htaccess("per-directive", "PythonInterpPerDirective On", "return answer(req, req.interpreter)"),
    Case(
        "ht-not-allowed", "1.in .htaccess", "return answer(req, req.get_options().get('k'))", conf="AllowOverride None",
        files={".htaccess": "PythonOption k v\n"}, expect=None),
    *(in_htaccess(f"refused-{line.split()[0].lower()}", line, "return answer(req, 'x')", status=500) for line in (
        "PythonOutputFilter a b", "PythonInputFilter a b", "PythonConnectionHandler a",
        "PythonPostReadRequestHandler a",
        "PythonTransHandler a", "PythonImport a b", "PythonOptimize On")),
))

# A group of its own, as these want a search path for the whole server.
IMPORTS = Group("imports", (
    Case("python-import", "1.PythonImport", "import import_mod\nreturn answer(req, import_mod.SEEN)",
         server="PythonImport import_mod import-interp\n"
                "PythonImport import_mod::started import-interp", conf="PythonInterpreter import-interp",
         files={"import_mod.py": "SEEN = ['imported']\n\ndef started():\n    SEEN.append('started')\n"},
         expect=["imported", "started"]),
    Case("python-import-order", "1.PythonImport", "import import_order_mod\nreturn answer(req, import_order_mod.SEEN)",
         server="PythonImport import_order_mod::one import-order\nPythonImport import_order_mod::two import-order",
         conf="PythonInterpreter import-order", files={"import_order_mod.py":
             "SEEN = []\n\ndef one():\n    SEEN.append('one')\n\ndef two():\n    SEEN.append('two')\n"}),
    Case("python-import-failure", "1.PythonImport", "return answer(req, 'ran')",
         server="PythonImport no_such_import import-failure", conf="PythonInterpreter import-failure", expect="ran"),
    Case("python-import-options", ("1.PythonImport", "23.a server object's option table persists"), """
        return answer(req, req.server.get_options().get("from-import"))
    """, conf="PythonInterpreter import-options", server="PythonImport import_options_mod import-options",
        files={"import_options_mod.py":
               "from mod_python import apache\napache.main_server.get_options()['from-import'] = 'yes'\n"},
               expect="yes"),
), conf="PythonPath \"['@htdocs@/python-import' + end for end in ('', '-failure', '-options', '-order')] + sys.path\"")

OPTIMIZED = Group("optimized", (
    Case("optimize-on", "1.PythonOptimize", "return answer(req, [sys.flags.optimize, __debug__])", expect=[2, False]),
), conf="PythonOptimize On")
