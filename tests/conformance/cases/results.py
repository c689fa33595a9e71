"""Section 3: what a handler's result, or its failure, does."""

from suite.case import Case, Group
from suite.runner import answered, logs


def returned(name, value, row, **more):
    """A case: a handler that returns a value."""
    return Case(f"return-{name}", row, f"return {value}", **more)


CODES = "200 201 204 206 301 304 400 401 403 404 405 411 416 418 429 451 500 501 502 503 504 511".split()

BROKEN = """
        req.headers_out["X-Out"] = "1"
        req.err_headers_out["X-Err"] = "1"
        raise ValueError("a <b> & 'c' of @id@")
"""


def debug_page(talk):
    """The page that shows a traceback: its head, its error, its end."""
    response = talk.request()
    text = talk.normal.text(response.text)
    lines = text.splitlines()
    return [response.status, response.header("Content-Type"), lines[:5], "ValueError" in text,
            [line for line in lines if "&lt;" in line][-1:], text.rstrip()[-6:]]


def traceback_lines(talk):
    """The first and the last line in the log, and whether the handler's file is named."""
    status = talk.request().status
    lines = talk.log_lines(f"{talk.case.module}", wait=2)
    return [status, lines[0], lines[-1], any(f"{talk.case.module}.py" in line for line in lines)]


def alive(talk):
    """The same process answers again."""
    first = talk.request(path="?x").status
    return [first, talk.request().status]


GROUP = Group("results", (
    returned("ok", "apache.OK", "3.apache.OK / DECLINED / DONE", expect=""),
    returned("declined-file", "apache.DECLINED", "3.apache.OK / DECLINED / DONE", path="page.txt",
             files={"page.txt": "the file\n"}, expect="the file\n"),
    returned("declined-none", "apache.DECLINED", "3.apache.OK / DECLINED / DONE", path="none", status=404),
    Case("return-done", "3.apache.OK / DECLINED / DONE", """
        def handler(req):
            req.write("done")
            return apache.DONE
        def loghandler(req):
            req.log_error(MARK + "logged")
            return apache.OK
    """, conf="PythonLogHandler @module@", log=True, log_wait=1, expect="done"),
    Case("return-done-early", "3.apache.OK / DECLINED / DONE", """
        def fixuphandler(req):
            req.write("from fixup")
            return apache.DONE
        def handler(req):
            req.write("never")
            return apache.OK
    """, conf="PythonFixupHandler @module@"),
    Case("return-codes", "3.HTTP_xxx int", "return int(req.args)",
         drive=lambda talk: {code: talk.request(path="?" + code).status for code in CODES}),
    Case("return-code-headers", "3.HTTP_xxx int", """
        req.headers_out["X-Out"] = "1"
        req.err_headers_out["X-Err"] = "1"
        req.content_type = "text/x-own"
        return apache.HTTP_NOT_FOUND
    """, status=404, headers=("X-Out", "X-Err", "Content-Type"),
        expect_headers={"X-Out": [], "X-Err": ["1"], "Content-Type": ["text/html; charset=iso-8859-1"]}),
    Case("return-code-after-body", "3.HTTP_xxx int", """
        req.write("written ")
        return apache.HTTP_NOT_FOUND
    """),
    Case("return-200", "3.HTTP_xxx int", "return 200", drive=answered(lambda r: [r.status, "OK" in r.text])),
    Case("return-redirect", "3.HTTP_xxx int", """
        req.headers_out["Location"] = "/elsewhere"
        return apache.HTTP_MOVED_TEMPORARILY
    """, status=302, headers=("Location",)),
    Case("return-redirect-err", "3.HTTP_xxx int", """
        req.err_headers_out["Location"] = "/elsewhere"
        return apache.HTTP_MOVED_PERMANENTLY
    """, status=301, headers=("Location",)),
    Case("return-error-document", "3.HTTP_xxx int", """
        def handler(req):
            if req.prev:
                return answer(req, [req.prev.uri, req.prev.status, req.status, req.uri])
            return apache.HTTP_SERVICE_UNAVAILABLE
    """, conf="ErrorDocument 503 /return-error-document/page", path="first", status=503),
    Case("status-own-body", "3.req.status = N and return OK", """
        req.status = int(req.args)
        req.write("own")
        return apache.OK
    """, drive=lambda talk: [talk.ask("?" + code) for code in ("200", "201", "404", "418", "503", "299")]),
    returned("none", "None", "3.non-int (None, str, bool)", status=500),
    returned("text", "'200'", "3.non-int (None, str, bool)", status=500),
    returned("true", "True", "3.non-int (None, str, bool)", status=500),
    returned("false", "False", "3.non-int (None, str, bool)", status=500),
    returned("float", "0.0", "3.non-int (None, str, bool)", status=500),
    Case("return-int-subclass", "3.non-int (None, str, bool)", """
        class Result(int):
            pass
        return Result(0)
    """, status=500),
    Case("return-none-log", "3.non-int (None, str, bool)", "return None",
         drive=lambda talk: [talk.request().status, bool(talk.log_lines("non integer type", wait=1))],
         expect=[500, True]),
    Case("attribute-none", "3.handler attribute is None", """
        other = None
        def unused(req): pass
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::other", status=500),
    Case("attribute-text", "3.handler attribute is None", """
        other = "text"
        def unused(req): pass
    """, bare=True, conf="SetHandler mod_python\nPythonHandler @module@::other", status=500),
    returned("one", "1", "3.odd ints (1, 999, -5)", status=500),
    returned("999", "999", "3.odd ints (1, 999, -5)", status=500),
    returned("negative", "-5", "3.odd ints (1, 999, -5)", status=500),
    returned("huge", "2**40", "3.odd ints (1, 999, -5)", status=500,
             differs="a number that is no result is 500, however large; mod_python cuts it to 32 bits"),
    returned("suspended", "-3", "3.odd ints (1, 999, -5)", status=500,
             defect="-3, httpd's own \"suspended\", leaves the client without an answer for ever"),
    Case("return-unknown-statuses", "3.odd ints (1, 999, -5)", "return int(req.args)",
         drive=lambda talk: [talk.request(path=f"?{code}").status for code in (99, 600, 299, 450, 599)]),
    Case("server-return", "3.SERVER_RETURN(code) / (code, status)", """
        def deep():
            raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN)
        deep()
        return 0
    """, status=403),
    Case("server-return-forms", "3.SERVER_RETURN(code) / (code, status)", """
        if req.args == "two":
            raise apache.SERVER_RETURN(apache.DONE, apache.HTTP_NOT_FOUND)
        if req.args == "ok":
            req.write("before")
            raise apache.SERVER_RETURN(apache.OK)
        if req.args == "none":
            raise apache.SERVER_RETURN()
        if req.args == "class":
            raise apache.SERVER_RETURN
        if req.args == "text":
            raise apache.SERVER_RETURN("text")
        if req.args == "declined":
            raise apache.SERVER_RETURN(apache.DECLINED)
        if req.args == "body":
            req.status = 404
            req.write("own page")
            raise apache.SERVER_RETURN(apache.DONE)
        raise apache.SERVER_RETURN(apache.OK, 201)
    """, drive=lambda talk: {word: talk.request(path="?" + word).status for word in (
        "two", "ok", "none", "class", "text", "declined", "body", "created")}),
    Case("server-return-caught", "3.SERVER_RETURN(code) / (code, status)", """
        try:
            raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN, 5)
        except Exception as error:
            return answer(req, [type(error).__name__, list(error.args), issubclass(apache.SERVER_RETURN, Exception)])
    """, expect=["SERVER_RETURN", [403, 5], True]),
    Case("exception", "3.exception, PythonDebug Off", BROKEN.replace("@id@", "exception"), status=500,
         headers=("X-Out", "X-Err")),
    Case("exception-log", "3.exception, PythonDebug Off", BROKEN.replace("@id@", "exception-log"),
         drive=traceback_lines,
         expect=[500, "error, client: PythonHandler m_exception_log: Traceback (most recent call last):",
                 "error, client: PythonHandler m_exception_log: ValueError: a <b> & 'c' of exception-log", True]),
    Case("exception-late", "3.exception, PythonDebug Off", """
        req.write("written ")
        raise ValueError("late")
    """, drive=answered(lambda r: [r.status, r.text[:40]])),
    Case("exception-debug", "3.exception, PythonDebug On", BROKEN.replace("@id@", "exception-debug"),
         conf="PythonDebug On",
         drive=debug_page),
    Case("exception-debug-headers", "3.exception, PythonDebug On", BROKEN, conf="PythonDebug On", status=500,
         headers=("X-Out", "X-Err", "Content-Type"), compare_body=False),
    Case("exception-debug-log", "3.exception, PythonDebug On", BROKEN.replace("@id@", "exception-debug-log"),
         conf="PythonDebug On", drive=lambda talk: [talk.request().status, bool(talk.log_lines(
             "PythonHandler m_exception_debug_log: ValueError: a <b>", wait=1))], expect=[500, True]),
    Case("exception-debug-late", "3.exception, PythonDebug On", """
        req.write("written ")
        req.flush()
        raise ValueError("late")
    """, conf="PythonDebug On", drive=answered(lambda r: [
        r.status, r.text[:28], "ValueError: late" in r.text, r.text.rstrip()[-6:]])),
    Case("exception-debug-access", "3.exception, PythonDebug On", """
        def accesshandler(req):
            raise ValueError("in access")
        def handler(req):
            req.write("never")
            return apache.OK
    """, conf="PythonDebug On\nPythonAccessHandler @module@", drive=answered(lambda r: [
        r.status, r.header("Content-Type"), r.text[:60], "never" in r.text])),
    Case("exception-access", "3.exception, PythonDebug Off", """
        def accesshandler(req):
            raise ValueError("in access")
    """, conf="PythonAccessHandler @module@", status=500),
    Case("exception-import", "3.exception, PythonDebug Off",
         "def handler(req):\n    pass\nraise ValueError('at import')",
         drive=lambda talk: [talk.request().status, bool(talk.log_lines("m_exception_import.*ValueError: at import",
         wait=1))]),
    Case("exception-syntax", "3.exception, PythonDebug Off", bare=True, drive=lambda talk: [
        talk.request().status, bool(talk.log_lines("PythonHandler syntax_error_mod.*SyntaxError", wait=1))],
        conf="SetHandler mod_python\nPythonHandler syntax_error_mod",
        files={"syntax_error_mod.py": "def handler(req:\n"}),
    Case("exception-own-text", "3.exception, PythonDebug Off", r"""
        raise ValueError("several\nlines \u20ac")
    """, status=500),
    Case("system-exit", "3.SystemExit in handler", """
        if req.args:
            raise SystemExit(3)
        return apache.OK
    """, drive=alive, expect=[500, 200]),
    Case("keyboard-interrupt", "3.SystemExit in handler", """
        if req.args:
            raise KeyboardInterrupt
        return apache.OK
    """, drive=alive, expect=[500, 200]),
    Case("exception-recursion", "3.exception, PythonDebug Off", """
        def deeper():
            return deeper()
        return deeper()
    """, status=500),
    Case("cleanup-handler-error", "3.in PythonCleanupHandler / cleanup function", """
        def cleanuphandler(req):
            raise ValueError("in cleanup-handler-error")
        def handler(req):
            return answer(req, "fine")
    """, conf="PythonCleanupHandler @module@", drive=logs("ValueError: in cleanup-handler-error")),
    Case("cleanup-function-error", "3.in PythonCleanupHandler / cleanup function", """
        def broken(data):
            raise ValueError("in cleanup-function-error")
        def handler(req):
            req.register_cleanup(broken, 1)
            return answer(req, "fine")
    """, drive=lambda talk: [talk.ask(), [line.split(" object")[0] for line in talk.log_lines(
        "Error calling cleanup object", wait=1)], len(talk.log_lines("in cleanup-function-error", wait=1))]),
    Case("log-handler-error", "3.exception, PythonDebug Off", """
        def loghandler(req):
            raise ValueError("in log-handler-error")
        def handler(req):
            return answer(req, "fine")
    """, conf="PythonLogHandler @module@", drive=lambda talk: [talk.ask(), len(talk.log_lines(
        "ValueError: in log-handler-error", wait=1))]),
    Case("authen-no-user", "3.authen OK but req.user unset", """
        def authenhandler(req):
            return apache.OK
        def handler(req):
            return answer(req, "in")
    """, conf="AuthType Basic\nAuthName x\nRequire valid-user\nPythonAuthenHandler @module@", status=500),
    Case("authen-401", "3.authen 401", """
        def authenhandler(req):
            return apache.HTTP_UNAUTHORIZED
        def handler(req):
            return answer(req, "in")
    """, conf='AuthType Basic\nAuthName "The realm"\nRequire valid-user\nPythonAuthenHandler @module@', status=401,
        headers=("WWW-Authenticate",)),
    Case("authen-401-own", "3.authen 401", """
        def authenhandler(req):
            req.err_headers_out["WWW-Authenticate"] = 'Own realm="x"'
            return apache.HTTP_UNAUTHORIZED
        def handler(req):
            return answer(req, "in")
    """, conf="AuthType Own\nAuthName x\nRequire valid-user\nPythonAuthenHandler @module@", status=401,
        headers=("WWW-Authenticate",), expect_headers={"WWW-Authenticate": ['Own realm="x"']}),
    Case("authen-declined", "3.authen 401", """
        def authenhandler(req):
            return apache.DECLINED
        def handler(req):
            return answer(req, "in")
    """, conf="AuthType Own\nAuthName x\nRequire valid-user\nPythonAuthenHandler @module@",
        drive=lambda talk: talk.request().status),
), modules=("authn_core", "authz_user"), allow=("VIV0023",))
