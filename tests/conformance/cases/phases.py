"""Section 1: the directives of the phases, each on its own and all together, and what their results mean to httpd."""

from suite.case import Case, Group

AUTH = 'AuthType Basic\nAuthName "A realm"\nRequire valid-user\n'
BASIC = ("Authorization", "Basic dXNlcjpwYXNz")
LOAD = "PythonPath \"['@dir@'] + sys.path\"\n"

NOTE = """
        def note(req):
            if not hasattr(req, "ran"):
                req.ran = []
            req.ran.append(req.phase)
            return apache.OK
"""
ALL = (
    "PythonHeaderParserHandler PythonAccessHandler PythonAuthenHandler PythonAuthzHandler PythonFixupHandler"
).split()


def only(phase, body, **more):
    """A case: one handler of a phase, and a content handler that tells what it left."""
    name = phase.removeprefix("Python").removesuffix("Handler").lower()
    body = "\n".join("            " + line for line in body.strip().splitlines())
    conf = more.pop("conf", "") + f"{phase} @module@"
    case = {"row": f"1.{phase}", "conf": conf, **more}
    return Case(case.pop("id", f"phase-{name}"), code=f"""
        def {name}handler(req):
{body}
        def handler(req):
            return answer(req, getattr(req, "seen", None))
    """, **case)


GROUP = Group("phases", (
    Case("phase-order", "1.PythonHandler", NOTE + "".join(
        f"        {p.removeprefix('Python').lower()} = note\n" for p in ALL) + """
        def authenhandler(req):
            req.user = "user"
            return note(req)
        def loghandler(req):
            note(req)
            req.log_error(MARK + ",".join(req.ran))
            return apache.OK
        def cleanuphandler(req):
            note(req)
            apache.log_error(MARK + ",".join(req.ran))
            return apache.OK
        def handler(req):
            note(req)
            return answer(req, req.ran)
    """, conf=AUTH + "".join(f"{p} @module@\n" for p in (*ALL, "PythonLogHandler", "PythonCleanupHandler")), log=True,
        log_wait=2, path="name", expect=[*ALL, "PythonHandler"]),
    Case("phase-subrequest-cleanup", "1.PythonCleanupHandler", """
        def note(data):
            apache.log_error(MARK + "registered " + data)
        def fixuphandler(req):
            req.register_cleanup(note, str(req.main is not None))
            return apache.OK
        def cleanuphandler(req):
            apache.log_error(MARK + "handler %s" % (req.main is not None))
            return apache.OK
    """, bare=True, conf="DirectoryIndex none.txt\nPythonFixupHandler @module@\nPythonCleanupHandler @module@",
        drive=lambda talk: [talk.request().status, sorted(talk.log_lines(wait=4))]),
    Case("phase-post-read", "1.PythonPostReadRequestHandler", """
        def postreadrequesthandler(req):
            req.seen = [req.phase, req.filename, req.uri, req.interpreter, req.hlist.handler, req.hlist.directory]
            return apache.OK
        def handler(req):
            return answer(req, req.seen)
    """, vhost=LOAD + "PythonPostReadRequestHandler @module@"),
    Case("phase-post-read-every", "1.PythonPostReadRequestHandler", """
        def postreadrequesthandler(req):
            req.log_error(MARK + req.uri)
            return apache.OK
    """, vhost=LOAD + "PythonPostReadRequestHandler @module@", path="/static/page.txt", expect="a static page\n",
        log=True),
    Case("phase-post-read-refuse", "1.PythonPostReadRequestHandler", """
        def postreadrequesthandler(req):
            return apache.HTTP_SERVICE_UNAVAILABLE
    """, vhost=LOAD + "PythonPostReadRequestHandler @module@", status=503),
    Case("phase-trans", "1.PythonTransHandler", """
        def transhandler(req):
            if req.uri == "/mapped":
                req.filename = req.document_root() + "/static/page.txt"
                return apache.OK
            return apache.DECLINED
    """, vhost=LOAD + "PythonTransHandler @module@", drive=lambda talk: [
        talk.ask("/mapped"), talk.ask("/static/page.txt"), talk.request(path="/static/none").status],
        expect=[[200, "a static page\n"], [200, "a static page\n"], 404]),
    Case("phase-trans-attributes", "1.PythonTransHandler", """
        def transhandler(req):
            req.seen = [req.phase, req.filename, req.uri, req.args, req.interpreter]
            return apache.DECLINED
        def handler(req):
            return answer(req, req.seen)
    """, vhost=LOAD + "PythonTransHandler @module@", path="?a"),
    Case("phase-trans-error", "1.PythonTransHandler", """
        def transhandler(req):
            return apache.HTTP_NOT_FOUND
    """, vhost=LOAD + "PythonTransHandler @module@", status=404),
    Case("phase-init-server", "1.PythonInitHandler", """
        def inithandler(req):
            req.seen = [req.phase, req.filename]
            return apache.OK
        def handler(req):
            return answer(req, req.seen)
    """, vhost=LOAD + "PythonInitHandler @module@"),
    Case("phase-init-directory", ("1.PythonInitHandler", "21.directory-level PythonInitHandler"), """
        def inithandler(req):
            req.seen = [req.phase, req.filename is not None]
            return apache.OK
        def handler(req):
            return answer(req, getattr(req, "seen", None))
    """, conf="PythonInitHandler @module@", expect=["PythonInitHandler", True],
        defect="PythonInitHandler in a directory never runs"),
    only("PythonHeaderParserHandler", "req.seen = [req.phase, req.uri]\nreturn apache.OK",
         expect=["PythonHeaderParserHandler", "/phase-headerparser/"]),
    only("PythonHeaderParserHandler", "return apache.HTTP_BAD_REQUEST", id="phase-headerparser-refuse", status=400),
    only("PythonAccessHandler", "req.seen = [req.phase, req.user]\nreturn apache.OK", expect=["PythonAccessHandler",
         None]),
    only("PythonAccessHandler", "return apache.HTTP_FORBIDDEN", id="phase-access-refuse", status=403),
    only("PythonAccessHandler", "return apache.DECLINED", id="phase-access-declined", expect=None),
    only("PythonAccessHandler", "return apache.OK", id="phase-access-require", conf="Require all denied\n", status=403),
    only("PythonAccessHandler", "return apache.OK", id="phase-access-satisfy-any",
         conf="AuthMerging Off\nRequire ip 192.0.2.1\n", status=403),
    only("PythonAuthenHandler", "req.seen = [req.phase, req.get_basic_auth_pw()]\nreturn apache.OK", conf=AUTH,
         send=(BASIC,), expect=["PythonAuthenHandler", "pass"]),
    only("PythonAuthenHandler", "req.user = 'x'\nreq.seen = 'ran'\nreturn apache.OK", id="phase-authen-no-require",
         expect=None),
    only("PythonAuthenHandler", "return apache.HTTP_UNAUTHORIZED", id="phase-authen-refuse", conf=AUTH, status=401,
         headers=("WWW-Authenticate",)),
    Case("phase-authz", "1.PythonAuthzHandler", """
        def authenhandler(req):
            req.user = req.args
            return apache.OK
        def authzhandler(req):
            req.seen = [req.phase, req.user]
            return apache.OK if req.user == "good" else apache.HTTP_FORBIDDEN
        def handler(req):
            return answer(req, req.seen)
    """, conf=AUTH + "PythonAuthenHandler @module@\nPythonAuthzHandler @module@", drive=lambda talk: [
        talk.ask("?good"), talk.request(path="?bad").status]),
    Case("phase-authz-require", "1.PythonAuthzHandler", """
        def authenhandler(req):
            req.user = "some"
            return apache.OK
        def authzhandler(req):
            req.seen = "authz ran"
            return apache.DECLINED
        def handler(req):
            return answer(req, getattr(req, "seen", None))
    """,
        conf="AuthType Basic\nAuthName x\nRequire user other\nPythonAuthenHandler @module@\nPythonAuthzHandler @module@",
        drive=lambda talk: talk.request().status),
    only("PythonFixupHandler", "req.seen = [req.phase, req.content_type]\nreturn apache.OK", path="page.html"),
    only("PythonFixupHandler", "return apache.HTTP_GONE", id="phase-fixup-refuse", status=410),
    only("PythonFixupHandler", "req.content_type = 'text/x-fixed'\nreturn apache.OK", id="phase-fixup-static",
         bare=True, path="page.txt", files={"page.txt": "x"}, headers=("Content-Type",), expect="x"),
    Case("phase-log", "1.PythonLogHandler", """
        def loghandler(req):
            req.log_error(MARK + "%s %s %s %s" % (req.phase, req.status, req.bytes_sent, req.mine))
            return apache.OK
        def handler(req):
            req.mine = "mine"
            req.status = 404
            req.write("ten bytes!")
            return apache.OK
    """, conf="PythonLogHandler @module@", status=404, log=True, log_wait=1,
        expect_log=["error, client: PythonLogHandler 404 10 mine"]),
    Case("phase-log-only", "1.PythonLogHandler", """
        def loghandler(req):
            req.log_error(MARK + "%s %s" % (req.status, req.uri))
            return apache.OK
    """, bare=True, conf="PythonLogHandler @module@", path="none.txt", status=404, log=True, log_wait=1),
    Case("phase-cleanup", "1.PythonCleanupHandler", """
        def cleanuphandler(req):
            apache.log_error(MARK + "%s %s" % (req.phase, req.mine))
            return 500
        def note(data):
            apache.log_error(MARK + "registered")
        def handler(req):
            req.mine = "mine"
            req.register_cleanup(note)
            return answer(req, "x")
    """, conf="PythonCleanupHandler @module@", log=True, log_wait=2,
        expect_log=["error: registered", "error: PythonCleanupHandler mine"]),
    Case("phase-type", "1.PythonTypeHandler", """
        def typehandler(req):
            req.content_type = "text/x-typed"
            return apache.OK
    """, bare=True, conf="PythonTypeHandler @module@", path="page.txt", files={"page.txt": "x"},
        headers=("Content-Type",), expect="x", expect_headers={"Content-Type": ["text/x-typed"]},
        differs="runs before mod_mime, which sets a type too; with mod_python only if it is loaded before mod_mime"),
    Case("phase-content-only", "1.PythonHandler", "return answer(req, 'ran')", bare=True, conf="PythonHandler @module@",
         path="page.txt", files={"page.txt": "the file\n"}, expect="the file\n"),
    Case("phase-python-program", "1.PythonHandler", "return answer(req, req.handler)", bare=True,
         conf="SetHandler python-program\nPythonHandler @module@", expect="python-program"),
    Case("phase-add-handler", "1.PythonHandler", "return answer(req, req.handler)", bare=True,
         conf="AddHandler mod_python .own\nPythonHandler @module@", drive=lambda talk: [
             talk.ask("x.own"), talk.request(path="x.other").status], expect=[[200, "mod_python"], 404]),
    Case("phase-no-handler-directive", "1.PythonHandler", bare=True, conf="SetHandler mod_python", path="page.txt",
         files={"page.txt": "the file\n"}, drive=lambda talk: talk.request(path="page.txt").status),
    Case("phase-directory-index", "1.PythonHandler", "return answer(req, req.uri)", bare=True,
         conf="DirectoryIndex page.own\nAddHandler mod_python .own\nPythonHandler @module@",
         files={"page.own": "x"}, expect="/phase-directory-index/page.own"),
    Case("phase-subrequests", "6.connection, server, next, prev, main", """
        def fixuphandler(req):
            req.log_error(MARK + "%s %s" % (req.uri.rpartition("/")[2], req.main is not None))
            return apache.OK
    """, bare=True, conf="DirectoryIndex page.txt\nPythonFixupHandler @module@", files={"page.txt": "the file\n"},
        expect="the file\n", log=True, log_wait=1),
    Case("handler-module", ("1.PythonHandlerModule", "21.PythonHandlerModule"), """
        def fixuphandler(req):
            req.ran = ["fixup"]
            return apache.OK
        def handler(req):
            return answer(req, [req.ran, bool(req.hlist.silent)])
        def loghandler(req):
            req.log_error(MARK + "log")
            return apache.OK
    """, bare=True, conf="SetHandler mod_python\nPythonHandlerModule @module@", expect=[["fixup"], True], log=True,
        log_wait=1, expect_log=["error, client: log"],
        defect="PythonHandlerModule is 500 (UnboundLocalError) when a function is missing"),
    Case("handler-module-missing", ("1.PythonHandlerModule", "21.PythonHandlerModule"), bare=True, status=500,
         conf="SetHandler mod_python\nPythonHandlerModule no_such_handler_module",
         defect="PythonHandlerModule is 500 (UnboundLocalError) when a function is missing"),
    Case("handler-module-whole", "1.PythonHandlerModule", NOTE + "".join(
        f"        {p}handler = note\n" for p in "headerparser access authz type fixup log cleanup init postreadrequest trans"
        .split()) + """
        def authenhandler(req):
            req.user = "user"
            return note(req)
        def handler(req):
            note(req)
            return answer(req, [p for p in req.ran if p not in ("PythonInitHandler", "PythonTypeHandler")])
    """, conf=AUTH + LOAD + "SetHandler mod_python\nPythonHandlerModule @module@", bare=True, path="name"),
), modules=("authn_core", "authz_user", "dir"), files={"static/page.txt": "a static page\n"})

TYPES = Group("type-first", (
    Case("phase-type-first", "1.PythonTypeHandler", """
        def typehandler(req):
            if req.args:
                return apache.DECLINED
            req.content_type = "text/x-typed"
            return apache.OK
    """, bare=True, conf="PythonTypeHandler @module@", files={"page.txt": "x"}, drive=lambda talk: [
        talk.request(path=path).header("Content-Type") for path in ("page.txt", "page.txt?declined")],
        expect=["text/x-typed", "text/plain"]),
    Case("stack-type", ("2.stacking", "1.PythonTypeHandler"), """
        def decline(req):
            req.ran = ["declined"]
            return apache.DECLINED
        def accept(req):
            req.ran.append("accepted")
            return apache.OK
        def handler(req):
            return answer(req, req.ran)
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@\nPythonTypeHandler @module@::decline "
        "@module@::accept @module@::decline", path="page", expect=["declined", "accepted"]),
    Case("server-header", "1.other effects of loading", "return answer(req, 'x')", server="ServerTokens Full",
         drive=lambda talk: [word.split("/")[0] for word in talk.request().header("Server").split()],
         differs="the Server header names Vivarium, and does not tell which Python is in use"),
    Case("type-handler-set", "1.other effects of loading", "return answer(req, req.handler)", expect="mod_python"),
    Case("phase-type-handler", "1.PythonTypeHandler", """
        def typehandler(req):
            req.handler = "mod_python"
            return apache.OK
        def handler(req):
            return answer(req, "python answers")
    """, bare=True, conf="PythonTypeHandler @module@\nPythonHandler @module@", path="page.txt", files={"page.txt": "x"},
        expect="python answers"),
), python_first=True)
