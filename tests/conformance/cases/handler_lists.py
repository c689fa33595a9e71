"""Section 2: `req.add_handler` and `req.hlist`."""

from suite.case import Case, Group

ADD = "2.req.add_handler(phase, handler[, dir])"
HLIST = "2.req.hlist"
AUTH = "AuthType Basic\nAuthName x\nRequire valid-user\n"

GROUP = Group("handler-lists", (
    Case("add-same-phase", ADD, """
        def handler(req):
            req.write("first ")
            got = req.add_handler("PythonHandler", "m_add_same_phase::added")
            req.write(str(got) + " ")
            return apache.OK
        def added(req):
            req.write("added ")
            return apache.OK
        def last(req):
            req.write("last ")
            return apache.OK
    """, conf="PythonHandler @module@::last", expect="first None last added "),
    Case("add-same-phase-nested", ADD, """
        def handler(req):
            req.write("one ")
            req.add_handler("PythonHandler", "m_add_same_phase_nested::two")
            return apache.OK
        def two(req):
            req.write("two ")
            req.add_handler("PythonHandler", "m_add_same_phase_nested::three")
            return apache.OK
        def three(req):
            req.write("three ")
            return apache.OK
    """, expect="one two three "),
    Case("add-later-phase", ADD, """
        def accesshandler(req):
            req.add_handler("PythonFixupHandler", "m_add_later_phase::added")
            req.ran = []
            return apache.OK
        def fixuphandler(req):
            req.ran.append("configured")
            return apache.OK
        def added(req):
            req.ran.append("added")
            return apache.OK
        def handler(req):
            return answer(req, req.ran)
    """, conf="PythonAccessHandler @module@\nPythonFixupHandler @module@", expect=["configured", "added"]),
    Case("add-later-unconfigured", ADD, """
        def accesshandler(req):
            req.add_handler("PythonFixupHandler", "m_add_later_unconfigured::added", os.path.dirname(__file__))
            req.ran = []
            return apache.OK
        def added(req):
            req.ran.append("added")
            return apache.OK
        def handler(req):
            return answer(req, req.ran)
    """, conf="PythonAccessHandler @module@", expect=["added"]),
    Case("add-content", ADD, """
        def fixuphandler(req):
            req.handler = "mod_python"
            req.add_handler("PythonHandler", "m_add_content::added", os.path.dirname(__file__))
            return apache.OK
        def added(req):
            return answer(req, req.hlist.directory)
    """, bare=True, conf="PythonFixupHandler @module@", path="any", expect="@htdocs@/add-content/"),
    Case("add-content-configured", ADD, """
        def fixuphandler(req):
            req.add_handler("PythonHandler", "m_add_content_configured::added")
            return apache.OK
        def handler(req):
            req.write("configured ")
            return apache.OK
        def added(req):
            req.write("added")
            return apache.OK
    """, conf="PythonFixupHandler @module@", expect="configured added"),
    Case("add-log", ADD, """
        def handler(req):
            req.add_handler("PythonLogHandler", "m_add_log::log", os.path.dirname(__file__))
            return answer(req, "x")
        def log(req):
            req.log_error(MARK + "logged")
            return apache.OK
    """, log=True, log_wait=1, expect_log=["error, client: logged"]),
    Case("add-authen", ADD, """
        def accesshandler(req):
            req.add_handler("PythonAuthenHandler", "m_add_authen::authen", os.path.dirname(__file__))
            return apache.OK
        def authen(req):
            req.user = "added"
            return apache.OK
        def handler(req):
            return answer(req, req.user)
    """, conf=AUTH + "PythonAccessHandler @module@", expect="added"),
    Case("add-wrong", ADD, """
        return answer(req, [attempt(req.add_handler, "PythonNoHandler", "x"), attempt(req.add_handler, "PythonHandler",
                            len),
                            attempt(req.add_handler, "PythonHandler"), attempt(req.add_handler, 5, "x"),
                            attempt(req.add_handler, "PythonCleanupHandler", "x")])
    """),
    Case("add-for-this-request", ADD, """
        def handler(req):
            if req.args:
                req.add_handler("PythonHandler", "m_add_for_this_request::added")
            req.write("handler ")
            return apache.OK
        def added(req):
            req.write("added")
            return apache.OK
    """, drive=lambda talk: [talk.ask(p)[1] for p in ("?x", "", "?x", "")],
        expect=["handler added", "handler ", "handler added", "handler "]),
    Case("add-empty-directory", ADD, """
        def handler(req):
            req.add_handler("PythonHandler", "m_add_empty_directory::added", "")
            return apache.OK
        def added(req):
            return answer(req, "added")
    """, expect="added"),
    Case("add-relative-directory", ADD, """
        return answer(req, [attempt(req.add_handler, "PythonLogHandler", "os::getpid", "relative"),
                            attempt(req.add_handler, "PythonLogHandler", "os::getpid", 5)])
    """, compare_body=False, drive=lambda talk: talk.ask()),
    Case("add-previous-phase", ADD, """
        def handler(req):
            return answer(req, attempt(req.add_handler, "PythonAccessHandler", "m_add_previous_phase::never"))
    """, expect=None),
    Case("hlist", HLIST, """
        def handler(req):
            here = req.hlist
            first = [here.handler, here.directory, bool(here.silent), bool(here.is_location), str(type(here))]
            got = here.next()
            second = [req.hlist.handler]
            return answer(req, [first, got, second])
        def other(req):
            req.write(" other")
            return apache.OK
    """, conf="PythonHandler @module@::other"),
    Case("hlist-end", HLIST, """
        here = req.hlist
        here.next()
        return answer(req, [here.handler, here.directory, here.silent, here.is_location])
    """, expect=[None] * 4, defect="`req.hlist.next()` beyond the end of the list kills httpd's child"),
    Case("hlist-beyond", HLIST, """
        here = req.hlist
        here.next()
        here.next()
        return answer(req, [here.handler, here.next()])
    """, expect=[None, None], defect="`req.hlist.next()` beyond the end of the list kills httpd's child"),
    Case("hlist-skip", HLIST, """
        def handler(req):
            req.write("first ")
            req.hlist.next()
            return apache.OK
        def second(req):
            req.write("second ")
            return apache.OK
        def third(req):
            req.write("third ")
            return apache.OK
    """, conf="PythonHandler @module@::second @module@::third", expect="first third "),
    Case("hlist-location", HLIST, """
        return answer(req, [req.hlist.handler, req.hlist.directory, bool(req.hlist.is_location)])
    """, server="<Location /hlist-location-x>\nRequire all granted\nSetHandler mod_python\n"
                "PythonPath \"['@dir@'] + sys.path\"\nPythonHandler @module@\n</Location>", path="/hlist-location-x"),
    Case("hlist-server", HLIST, """
        def fixuphandler(req):
            req.seen = [req.hlist.handler, req.hlist.directory, bool(req.hlist.is_location)]
            return apache.OK
        def handler(req):
            return answer(req, req.seen)
    """, vhost="PythonFixupHandler @module@\nPythonPath \"['@dir@'] + sys.path\""),
    Case("hlist-wildcard", HLIST, "return answer(req, req.hlist.directory)", bare=True, server="""
        <Directory "@htdocs@/hlist-wildcard*">
        SetHandler mod_python
        PythonPath "['@dir@'] + sys.path"
        PythonHandler @module@
        </Directory>
    """, path="x"),
    Case("hlist-read-only", HLIST, """
        return answer(req, [attempt(setattr, req.hlist, name, "x") for name in ("handler", "directory", "silent",
                                                                                 "is_location")])
    """),
), modules=("authn_core", "authz_user"))
