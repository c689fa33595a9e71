"""Section 2: handler strings: how they are read, where modules are looked for, and in what order handlers run."""

from suite.case import Case, Group

SAYS = 'def handler(req):\n    req.write("{}")\n    return 0\n'
NOTE = """
        def note(name, result):
            def handler(req):
                if not hasattr(req, "ran"):
                    req.ran = []
                req.ran.append(name)
                return result
            return handler
"""


def stacked(phase, extra=""):
    """A case: which results let a list of a phase go on. Handlers a (OK), b (DECLINED), c (OK)."""
    name = phase.removeprefix("Python").removesuffix("Handler").lower()
    orders = ("abc", "bac", "acb", "b", "bb")
    sections = "".join(
        f'<Directory "@dir@/{order}">\n{phase} {" ".join(f"@module@::{x}" for x in order)}\n</Directory>\n'
        for order in orders
    )
    code = NOTE + """
        a = note("a", apache.OK)
        b = note("b", apache.DECLINED)
        c = note("c", apache.OK)
        def authenhandler(req):
            req.user = "user"
            return apache.OK
        def handler(req):
            return answer(req, getattr(req, "ran", None))
    """
    return Case(
        f"stack-{name}", "2.stacking", code, conf=extra, server=sections.replace("@dir@",
        "@htdocs@/" + f"stack-{name}"),
        files={f"{order}/file.txt": "x" for order in orders},
        drive=lambda talk: {order: talk.ask(f"{order}/file.txt") for order in orders},
    )


AUTH = "AuthType Basic\nAuthName x\nRequire valid-user\n"

GROUP = Group("handler-names", (
    Case("name-several", "2.syntax", 'req.write("a")\nreturn apache.OK',
         conf="PythonHandler @module@ @module@\nPythonHandler @module@", expect="aaaa"),
    Case("name-object", "2.one handler", """
        def other(req):
            req.write("other")
            return apache.OK
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::other", expect="other"),
    Case("name-default-objects", "2.one handler", """
        def headerparserhandler(req):
            req.ran = ["headerparser"]
            return apache.OK
        def accesshandler(req):
            req.ran.append("access")
            return apache.OK
        def fixuphandler(req):
            req.ran.append("fixup")
            return apache.OK
        def handler(req):
            return answer(req, req.ran)
    """, conf="PythonHeaderParserHandler @module@\nPythonAccessHandler @module@\nPythonFixupHandler @module@",
        expect=["headerparser", "access", "fixup"]),
    Case("name-package", "2.one handler", bare=True, conf="SetHandler mod_python\nPythonHandler pack_name.inner.leaf",
         files={"pack_name/__init__.py": "", "pack_name/inner/__init__.py": "",
                "pack_name/inner/leaf.py": SAYS.format("leaf")}, expect="leaf"),
    Case("name-package-itself", "2.one handler", bare=True, conf="SetHandler mod_python\nPythonHandler pack_itself",
         files={"pack_itself/__init__.py": SAYS.format("package")}, expect="package"),
    Case("name-dotted-object", "2.object with dots", """
        class Box:
            pass
        box = Box()
        def inner(req):
            req.write("inner")
            return apache.OK
        box.item = Box()
        box.item.call = inner
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::box.item.call", expect="inner"),
    Case("name-class", "2.object with dots", """
        class Page:
            def __init__(self, req):
                self.made = req
            def show(self, req):
                return answer(req, self.made is req)
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::Page.show", expect=True),
    Case("name-class-inner", "2.object with dots", """
        class Page:
            class Inner:
                def __init__(self, req):
                    self.made = req
                def show(self, req):
                    return answer(req, self.made is req)
            def __init__(self, req):
                raise RuntimeError("made, too")
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::Page.Inner.show", compare_body=False,
        drive=lambda talk: talk.request().status),
    Case("name-class-itself", "2.object with dots", """
        class Page:
            def __init__(self, req):
                req.write("made")
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::Page",
         drive=lambda talk: talk.request().text[:13], expect="made<!DOCTYPE"),
    Case("name-callable-instance", "2.object with dots", """
        class Callable:
            def __call__(self, req):
                return answer(req, "called")
        thing = Callable()
        def other(req): pass
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::thing", expect="called"),
    Case("name-static-and-class-method", "2.object with dots", """
        class Page:
            def __init__(self, req):
                req.made = True
            @staticmethod
            def static(req):
                req.write("static ")
                return apache.OK
            @classmethod
            def klass(cls, req):
                req.write(cls.__name__)
                return apache.OK
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::Page.static @module@::Page.klass",
        expect="static Page"),
    Case("name-missing-object", "2.one handler", "return answer(req, 'x')", status=500, bare=True,
         conf="SetHandler mod_python\nPythonHandler @module@::missing"),
    Case("name-missing-module", "2.one handler", bare=True, drive=lambda talk: [
        talk.request().status, [line.rpartition(": ")[2] for line in talk.log_lines("No module named 'no_such_at_all'",
        wait=1)]],
        conf="SetHandler mod_python\nPythonHandler no_such_at_all"),
    Case("name-ext", "2.| .ext", """
        def plain(req):
            req.write("plain")
            return apache.OK
        def page(req):
            req.write("page")
            return apache.OK
        def both(req):
            req.write("both")
            return apache.OK
    """, bare=True,
        conf="SetHandler mod_python\nPythonHandler @module@::plain\nPythonHandler @module@::page | .page .other\n"
                         "PythonHandler @module@::both | .one.two",
        drive=lambda talk: [talk.ask(name)[1] for name in (
            "x", "x.page", "x.other", "x.html", "x.one.two", "x.two", "x.one", "x.page/info", ".page")]),
    Case("name-ext-stacked", "2.| .ext", """
        def one(req):
            req.write("one ")
            return apache.OK
        def two(req):
            req.write("two ")
            return apache.OK
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::one | .x\nPythonHandler @module@::two | .x .y",
        drive=lambda talk: [talk.ask(name)[1] for name in ("f.x", "f.y")], expect=["one two ", "two "]),
    Case("name-ext-none-matches", "2.| .ext", "return answer(req, 'x')", bare=True,
         conf="SetHandler mod_python\nPythonHandler @module@ | .x",
         drive=lambda talk: talk.request(path="file.y").status),
    Case("name-ext-location", "2.| .ext", """
        def plain(req):
            req.write("plain")
            return apache.OK
        def page(req):
            req.write("page")
            return apache.OK
    """, server="<Location /located-ext>\nRequire all granted\nSetHandler mod_python\n"
                "PythonPath \"['@dir@'] + sys.path\"\nPythonHandler @module@::plain\n"
                "PythonHandler @module@::page | .page\n</Location>",
        path="/located-ext/x.page", expect="plain"),
    Case("path-first", "2.search path", """
        import path_first_helper
        return answer(req, [path_first_helper.WHERE, sys.path[0].rstrip("/") == os.path.dirname(__file__)])
    """, files={"path_first_helper.py": "WHERE = 'beside'\n"}, compare_body=False),
    Case("path-once", "2.search path", """
        here = os.path.dirname(__file__)
        return answer(req, len([p for p in sys.path if p.rstrip("/") == here]))
    """, drive=lambda talk: [talk.ask()[1] for _ in range(4)], expect=[1] * 4),
    Case("path-files-section", "2.search path", bare=True,
         conf='<Files "*.own">\nSetHandler mod_python\nPythonHandler path_files_mod\n</Files>',
         files={"path_files_mod.py": SAYS.format("files")}, path="x.own", expect="files"),
    Case("path-directory-match", "2.search path", bare=True,
         server='<DirectoryMatch "^@htdocs@/path-directory-match/v[0-9]+">\nSetHandler mod_python\n'
                'PythonHandler path_match_mod\n</DirectoryMatch>',
         files={"v12/path_match_mod.py": SAYS.format("matched"), "v12/deeper/none": ""}, path="v12/deeper/x",
         expect="matched"),
    Case("path-wildcard", "2.search path", bare=True,
         server='<Directory "@htdocs@/path-wildcard/*/in">\nSetHandler mod_python\n'
                'PythonHandler path_wild_mod\n</Directory>',
         files={"some/in/path_wild_mod.py": SAYS.format("wild")}, path="some/in/x", expect="wild"),
    Case("path-htaccess", ("2.search path", "1.in .htaccess"), bare=True, conf="AllowOverride All",
         files={"sub/.htaccess": "SetHandler mod_python\nPythonHandler path_ht_mod\n",
                "sub/path_ht_mod.py": SAYS.format("htaccess")}, path="sub/deeper/x", expect="htaccess"),
    Case("path-location", ("2.search path", "2.Location"), """
        return answer(req, [req.filename, req.path_info, req.uri, os.path.dirname(__file__) in
                            [p.rstrip("/") for p in sys.path]])
    """, server="<Location /located-path>\nRequire all granted\nSetHandler mod_python\n"
                "PythonPath \"['@dir@'] + sys.path\"\nPythonHandler @module@\n</Location>", path="/located-path/a/b"),
    Case("path-location-nothing", "2.search path", server="<Location /located-nothing>\nRequire all granted\n"
         "SetHandler mod_python\nPythonHandler path_location_nothing\n</Location>",
         files={"path_location_nothing.py": SAYS.format("found")}, path="/located-nothing", status=500),
    Case("location-no-map", "2.Location", """
        def accesshandler(req):
            req.access = req.filename
            return apache.OK
        def handler(req):
            return answer(req, [getattr(req, "access", "not run"), req.filename, req.handler])
    """, server="<Location /location-no-map>\nPythonAccessHandler @module@\nPythonPath \"['@dir@'] + sys.path\"\n"
                "SetHandler mod_python\nPythonHandler @module@\nRequire all granted\n</Location>"),
    Case("path-like-absolute", "2.path-like modules", """
        def page(req):
            req.write("by path")
            return apache.OK
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @dir@/@module@.py::page", expect="by path",
        differs="a file's path is a module's name, as with mod_python 3.3; 3.4 and later import names only"),
    Case("path-like-relative", "2.path-like modules", """
        def page(req):
            req.write("by path")
            return apache.OK
    """, bare=True, conf="SetHandler mod_python\nPythonHandler ./@module@::page ~/@module@::page",
        expect="by pathby path",
        differs="`./` and `~/` start at the section's directory, as with mod_python 3.3"),
    stacked("PythonHeaderParserHandler"),
    stacked("PythonAccessHandler"),
    stacked("PythonAuthenHandler", AUTH + "PythonAuthzHandler @module@::c"),
    stacked("PythonAuthzHandler", AUTH + "PythonAuthenHandler @module@"),
    stacked("PythonFixupHandler"),
    Case("stack-trans", "2.stacking", NOTE + """
        a = note("a", apache.OK)
        b = note("b", apache.DECLINED)
        def handler(req):
            return answer(req, req.ran)
    """, vhost="PythonPath \"['@dir@'] + sys.path\"\nPythonTransHandler @module@::b @module@::b", expect=["b", "b"]),
    Case("stack-post-read", "2.stacking", NOTE + """
        a = note("a", apache.OK)
        b = note("b", apache.DECLINED)
        def handler(req):
            return answer(req, req.ran)
    """, vhost="PythonPath \"['@dir@'] + sys.path\"\nPythonPostReadRequestHandler @module@::a @module@::b @module@::a",
        expect=["a", "b", "a"]),
    Case("stack-init", "2.stacking", NOTE + """
        a = note("a", apache.OK)
        b = note("b", apache.DECLINED)
        def handler(req):
            return answer(req, req.ran)
    """, vhost="PythonPath \"['@dir@'] + sys.path\"\nPythonInitHandler @module@::a @module@::b @module@::a",
        expect=["a", "b", "a"]),
    Case("stack-trans-ok", "2.stacking", NOTE + """
        a = note("a", apache.OK)
        b = note("b", apache.DECLINED)
        def trans(req):
            req.filename = req.document_root() + req.uri
            return note("t", apache.OK)(req)
        def handler(req):
            return answer(req, req.ran)
    """, vhost="PythonPath \"['@dir@'] + sys.path\"\nPythonTransHandler @module@::b @module@::trans @module@::b",
        expect=["b", "t"]),
    Case("stack-cleanup", "2.stacking", """
        def one(req):
            apache.log_error(MARK + "one")
            return apache.OK
        def two(req):
            apache.log_error(MARK + "two")
            return apache.DECLINED
        def three(req):
            apache.log_error(MARK + "three")
            return apache.OK
        def handler(req):
            return answer(req, "x")
    """, conf="PythonCleanupHandler @module@::one @module@::two @module@::three", log=True, log_wait=2),
    Case("stack-handler", "2.stacking", NOTE + """
        def write(name, result):
            def handler(req):
                req.write(name)
                return result
            return handler
        a, b, c = write("a", apache.OK), write("b", apache.DECLINED), write("c", apache.OK)
        d = write("d", apache.DONE)
    """, bare=True, server="".join(
        f'<Directory "@htdocs@/stack-handler/{order}">\nSetHandler mod_python\nPythonHandler '
        f'{" ".join(f"@module@::{x}" for x in order)}\n</Directory>\n' for order in ("ac", "ca", "abc", "adc")),
        files={f"{order}/none": "" for order in ("ac", "ca", "abc", "adc")},
        drive=lambda talk: [talk.ask(f"{order}/x") for order in ("ac", "ca", "abc", "adc")]),
    Case("stack-declined-file", ("2.last code", "2.stacking"), "return apache.DECLINED", path="page.txt",
         files={"page.txt": "the file\n"}, expect="the file\n"),
    Case("stack-declined-none", "2.last code", "return apache.DECLINED", path="none.txt", status=404),
    Case("stack-log", "2.stacking", """
        def one(req):
            req.log_error(MARK + "one")
            return apache.OK
        def two(req):
            req.log_error(MARK + "two")
            return apache.DECLINED
        def three(req):
            req.log_error(MARK + "three")
            return apache.OK
        def handler(req):
            return answer(req, "x")
    """, conf="PythonLogHandler @module@::one @module@::two @module@::three", log=True, log_wait=3),
), modules=("authn_core", "authz_user"))
