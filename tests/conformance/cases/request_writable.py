"""Section 6: the request's attributes that can be changed, and what the change does."""

from suite.case import Case, Group
from suite.runner import answered

STRINGS = "content_type handler args uri filename canonical_filename path_info user ap_auth_type".split()
NUMBERS = "status no_cache no_local_copy used_path_info proxyreq assbackwards chunked".split()

GROUP = Group("request-writable", (
    Case("rw-strings", "6.writable attributes", f"""
        before = {{name: getattr(req, name) for name in {STRINGS!r}}}
        seen = {{name: [assigned(req, name, "text"), assigned(req, name, b"bytes"), assigned(req, name, 5),
                        assigned(req, name, "\\u20ac"), getattr(req, name)] for name in {STRINGS!r}}}
        for name in ("content_type", "handler", "uri", "filename", "canonical_filename"):
            setattr(req, name, before[name] or "text/plain")
        return answer(req, [before, seen])
    """, path="name/more?a=b"),
    Case("rw-none", "6.writable attributes", f"""
        seen = {{name: assigned(req, name, None) for name in {STRINGS!r} + ["status_line"]}}
        req.handler = "mod_python"
        return answer(req, seen)
    """),
    Case("rw-latin", "6.writable attributes", f"""
        seen = {{name: assigned(req, name, "gr\\u00fc\\u00df") for name in ("user",)}}
        return answer(req, seen)
    """, expect={"user": "gr\u00fc\u00df"}),
    Case("rw-latin-others", "6.writable attributes", f"""
        seen = {{name: assigned(req, name, "gr\\u00fc\\u00df") for name in ("path_info", "args", "ap_auth_type")}}
        return answer(req, seen)
    """, expect=dict.fromkeys(("path_info", "args", "ap_auth_type"), "gr\u00fc\u00df"),
        differs="Latin-1 text in any attribute can be read back; mod_python raises UnicodeDecodeError"),
    Case("rw-numbers", "6.writable attributes", f"""
        before = {{name: getattr(req, name) for name in {NUMBERS!r}}}
        seen = {{name: [assigned(req, name, 1), assigned(req, name, "1"), assigned(req, name, None),
                        assigned(req, name, True)] for name in {NUMBERS!r} if name not in ("status", "assbackwards")}}
        seen["status"] = [assigned(req, "status", 201), assigned(req, "status", "1"), assigned(req, "status", None)]
        req.status, req.chunked = 200, 0
        return answer(req, [before, seen])
    """),
    Case("rw-delete", "6.writable attributes", f"""
        def drop(name):
            try:
                delattr(req, name)
            except Exception as problem:
                return type(problem).__name__
            return "no error"
        return answer(req, [drop(name) for name in ("status", "content_type", "user")])
    """, expect=["TypeError"] * 3, defect="deleting a writable attribute kills httpd's child (SIGSEGV)"),
    Case("rw-status", "6.status, status_line", """
        req.status = 201
        return answer(req, [req.status, req.status_line])
    """, status=201),
    Case("rw-status-line", "6.status, status_line", """
        before = req.status_line
        req.status = 404
        req.status_line = "404 Nowhere"
        return answer(req, [before, req.status_line])
    """, expect=[404, "Nowhere", '[null, "404 Nowhere"]'], drive=answered(lambda r: [r.status, r.reason, r.text])),
    Case("rw-status-304", "6.status, status_line", """
        req.status = 304
        return apache.OK
    """, status=304),
    Case("rw-content-type", "6.content_type", """
        before = [req.content_type, req._content_type_set]
        req.content_type = "text/x-own; charset=latin-1"
        req.write(json.dumps([before, req.content_type, req._content_type_set]))
        return apache.OK
    """, headers=("Content-Type",), expect='[["httpd/unix-directory", 0], "text/x-own; charset=latin-1", 1]'),
    Case("rw-content-type-default", "6.content_type", """
        req.write("text")
        return apache.OK
    """, headers=("Content-Type",)),
    Case("rw-content-type-header", "6.content_type", """
        req.headers_out["Content-Type"] = "text/x-header"
        req.write("text")
        return apache.OK
    """, headers=("Content-Type",)),
    Case("rw-content-type-after-write", "6.content_type", """
        req.write("text")
        req.flush()
        req.content_type = "text/x-late"
        req.write(str(req.content_type))
        return apache.OK
    """, headers=("Content-Type",)),
    Case("rw-handler", "6.handler (None allowed)", """
        def fixuphandler(req):
            req.before = req.handler
            req.handler = "mod_python"
            return apache.OK
        def handler(req):
            return answer(req, [req.before, req.handler])
    """, bare=True, conf="PythonFixupHandler @module@\nPythonHandler @module@",
        expect=[None, "mod_python"]),
    Case("rw-handler-none", "6.handler (None allowed)", """
        def fixuphandler(req):
            req.handler = None
            return apache.OK
        def handler(req):
            return answer(req, "never")
    """, path="page.txt", conf="PythonFixupHandler @module@", files={"page.txt": "the file\n"}, expect="the file\n"),
    Case("rw-args", "6.args (None allowed)", """
        before = req.args
        req.args = "x=y"
        after = req.args
        req.args = None
        return answer(req, [before, after, req.args])
    """, path="?a=b", expect=["a=b", "x=y", None]),
    Case("rw-args-none", "6.args (None allowed)", "return answer(req, req.args)", expect=None),
    Case("rw-args-empty", "6.args (None allowed)", "return answer(req, req.args)", path="?"),
    Case("rw-uri-redirect", "6.uri, filename, canonical_filename, path_info", """
        def fixuphandler(req):
            req.filename = req.document_root() + "/static/page.txt"
            req.finfo = apache.stat(req.filename, apache.APR_FINFO_MIN)
            return apache.OK
    """, bare=True, conf="PythonFixupHandler @module@", expect="a static page\n", path="page.txt",
        files={"page.txt": "not this\n"}),
    Case("rw-paths", "6.uri, filename, canonical_filename, path_info", """
        return answer(req, [req.uri, req.filename, req.canonical_filename, req.path_info])
    """, path="name/more/of?it"),
    Case("rw-paths-dir", "6.uri, filename, canonical_filename, path_info", """
        return answer(req, [req.uri, req.filename, req.canonical_filename, req.path_info])
    """),
    Case("rw-paths-encoded", "6.uri, filename, canonical_filename, path_info", """
        return answer(req, [req.uri, req.filename, req.path_info])
    """, path="a%20b%C3%BC/x%2By"),
    Case("rw-user", "6.user, ap_auth_type", """
        def authenhandler(req):
            req.user = "somebody"
            req.ap_auth_type = "Own"
            return apache.OK
        def handler(req):
            return answer(req, [req.user, req.ap_auth_type])
    """, conf="AuthType Own\nAuthName x\nRequire valid-user\nPythonAuthenHandler @module@", expect=["somebody", "Own"]),
    Case("rw-no-cache", "6.no_cache, no_local_copy", """
        req.no_cache = 1
        req.update_mtime(1000000000)
        req.set_last_modified()
        return answer(req, [req.no_cache, req.no_local_copy])
    """, headers=("Last-Modified", "Cache-Control", "Pragma")),
    Case("rw-no-local-copy", "6.no_cache, no_local_copy", """
        req.no_local_copy = 1
        req.update_mtime(1000000000)
        req.set_last_modified()
        return req.meets_conditions() or answer(req, "whole")
    """, send=(("If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT"),)),
    Case("rw-used-path-info", "6.used_path_info", """
        def fixuphandler(req):
            req.used_path_info = apache.AP_REQ_REJECT_PATH_INFO
            return apache.OK
        def handler(req):
            return answer(req, [req.used_path_info, req.path_info])
    """, conf="PythonFixupHandler @module@", path="page.txt/more", files={"page.txt": "x"}),
    Case("rw-used-path-info-file", "6.used_path_info", """
        def fixuphandler(req):
            req.used_path_info = apache.AP_REQ_ACCEPT_PATH_INFO
            return apache.OK
    """, bare=True, conf="PythonFixupHandler @module@", path="page.txt/more", files={"page.txt": "text\n"},
        expect="text\n"),
    Case("rw-proxyreq", "6.proxyreq", "return answer(req, [req.proxyreq, apache.PROXYREQ_NONE])", expect=[0, 0]),
    Case("rw-assbackwards", "6.assbackwards", """
        req.assbackwards = 1
        req.write("no head")
        return apache.OK
    """, drive=lambda talk: talk.exchange(
        talk.server.fill("GET @url@/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", talk.case).encode(),
        talk.server.port)),
    Case("rw-chunked", "6.chunked", """
        req.write("a")
        before = bool(req.chunked)
        req.write(str(before))
        return apache.OK
    """, headers=("Transfer-Encoding",)),
    Case("rw-finfo", "6.finfo (mp_finfo only)", """
        seen = [str(type(req.finfo)), attempt(setattr, req, "finfo", 5), attempt(setattr, req, "finfo", None)]
        req.finfo = apache.stat(req.document_root() + "/static/page.txt", apache.APR_FINFO_SIZE)
        return answer(req, [seen, req.finfo.size])
    """),
    Case("rw-headers", "6.headers_in, headers_out, err_headers_out, subprocess_env, notes", """
        def error(name):
            try:
                setattr(req, name, apache.table())
            except Exception as problem:
                return type(problem).__name__
            return "no error"
        return answer(req, [error(name) for name in ("headers_in", "headers_out", "err_headers_out", "subprocess_env",
                                                     "notes")])
    """),
    Case("rw-env-in-conf", "6.headers_in, headers_out, err_headers_out, subprocess_env, notes", """
        return answer(req, [req.subprocess_env.get("FROM_CONF"), req.headers_in["User-Agent"]])
    """, conf="SetEnv FROM_CONF yes", send=(("User-Agent", "the suite"),), expect=["yes", "the suite"]),
), modules=("authn_core", "authz_user"), files={"static/page.txt": "a static page\n"})
