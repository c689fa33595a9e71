"""Section 6: methods of the request that ask or arrange something; those that answer are in request_answers.py."""

from suite.case import Case, Group

AUTH = (
    "AuthType Basic\nAuthName \"A realm\"\nRequire valid-user\nPythonAuthenHandler @module@\n"
)
# user:pass
BASIC = ("Authorization", "Basic dXNlcjpwYXNz")


def allowed(talk):
    """The methods of an Allow header: httpd gives them in the order of a hash table, another in each process."""
    response = talk.request("DELETE")
    return [response.status, sorted(response.header("Allow").split(","))]


GROUP = Group("request-methods", (
    Case("add-common-vars", "6.add_common_vars() / add_cgi_vars()", """
        before = len(req.subprocess_env)
        req.add_common_vars()
        env = req.subprocess_env
        gone = ("SERVER_SIGNATURE", "SERVER_SOFTWARE", "PATH", "REMOTE_PORT", "LD_LIBRARY_PATH")
        return answer(req, [before, sorted((k, v) for k, v in env.items() if k not in gone),
                            [name in env for name in gone[:4]]])
    """, send=(("X-Own", "v"), ("Accept", "*/*"))),
    Case("add-cgi-vars", "6.add_common_vars() / add_cgi_vars()", """
        req.add_cgi_vars()
        gone = ("SERVER_SIGNATURE", "SERVER_SOFTWARE", "PATH", "REMOTE_PORT", "LD_LIBRARY_PATH")
        return answer(req, sorted((k, v) for k, v in req.subprocess_env.items() if k not in gone))
    """, path="name/more?a=b&c=d", send=(("X-Own", "v"),)),
    Case("add-cgi-vars-authorization", "6.add_common_vars() / add_cgi_vars()", """
        req.add_cgi_vars()
        return answer(req, [k for k in req.subprocess_env.keys() if "AUTH" in k])
    """, send=(BASIC,)),
    Case("add-output-filter", "6.add_input_filter(name) / add_output_filter(name)", """
        def handler(req):
            req.add_output_filter("UPPER-@id@")
            req.write("text")
            return apache.OK
        def outputfilter(flt):
            data = flt.read()
            while data:
                flt.write(data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """.replace("@id@", "add-output-filter"), conf="PythonOutputFilter @module@ UPPER-@id@", expect="TEXT"),
    Case("add-output-filter-httpd", "6.add_input_filter(name) / add_output_filter(name)", """
        req.content_type = "text/html"
        req.add_output_filter("INCLUDES")
        req.write("a<!--#echo var='nothing' -->b")
        return apache.OK
    """, conf="Options +Includes", expect="a(none)b"),
    Case("add-unknown-filter", "6.add_input_filter(name) / add_output_filter(name)", """
        return answer(req, [attempt(req.add_output_filter, "no-such-filter"),
                            attempt(req.add_input_filter, "no-such-filter"), attempt(req.add_output_filter, 1)])
    """),
    Case("add-input-filter", "6.add_input_filter(name) / add_output_filter(name)", """
        def handler(req):
            req.add_input_filter("IN-add-input-filter")
            return answer(req, req.read())
        def inputfilter(flt):
            data = flt.read()
            while data:
                flt.write(data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, conf="PythonInputFilter @module@ IN-@id@", method="POST", body=b"some text", expect="b'SOME TEXT'"),
    Case("register-output-filter", "6.register_input_filter / register_output_filter(name, handler[, dir])", """
        def handler(req):
            got = req.register_output_filter("MINE", "m_register_output_filter::shout")
            req.add_output_filter("MINE")
            req.write(str(got) + " text")
            return apache.OK
        def shout(flt):
            data = flt.read()
            while data:
                flt.write(data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, expect="NONE TEXT"),
    Case("register-input-filter", "6.register_input_filter / register_output_filter(name, handler[, dir])", """
        def handler(req):
            req.register_input_filter("MINE", "m_register_input_filter::shout", "/")
            req.add_input_filter("MINE")
            return answer(req, req.read())
        def shout(flt):
            data = flt.read()
            while data:
                flt.write(data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, method="POST", body=b"some text", expect="b'SOME TEXT'"),
    Case("register-filter-life", "6.register_input_filter / register_output_filter(name, handler[, dir])", """
        def handler(req):
            if not req.args:
                req.register_output_filter("LIFE", "m_register_filter_life::shout")
            req.add_output_filter("LIFE")
            req.write("text")
            return apache.OK
        def shout(flt):
            data = flt.read()
            while data:
                flt.write(data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, drive=lambda talk: [talk.ask(), talk.ask("?again"), talk.ask()]),
    Case("allow-methods", "6.allow_methods(seq[, reset])", """
        got = [attempt(req.allow_methods, ["PUT", "GET"]), list(req.allowed_methods), req.allowed,
               attempt(req.allow_methods, ["DELETE"]), req.allowed, attempt(req.allow_methods, ["POST"], 1),
                   req.allowed,
               attempt(req.allow_methods, 5), attempt(req.allow_methods, [1])]
        return answer(req, got)
    """),
    Case("allow-methods-405", "6.allow_methods(seq[, reset])", """
        req.allow_methods(["GET", "PUT"])
        return apache.HTTP_METHOD_NOT_ALLOWED
    """, drive=allowed),
    Case("allow-methods-own", "6.allow_methods(seq[, reset])", """
        req.allow_methods(["GET", "BREW"])
        return apache.HTTP_METHOD_NOT_ALLOWED
    """, drive=allowed),
    Case("auth-name-type", "6.auth_name(), auth_type()", """
        return answer(req, [req.auth_name(), req.auth_type()])
    """, conf="AuthType Basic\nAuthName \"Some realm\"", expect=["Some realm", "Basic"]),
    Case("auth-name-none", "6.auth_name(), auth_type()", """
        return answer(req, [req.auth_name(), req.auth_type()])
    """, expect=[None, None]),
    Case("construct-url", "6.construct_url(uri)", """
        return answer(req, [req.construct_url("/a/b?c=d"), req.construct_url(""), attempt(req.construct_url, 1)])
    """, expect=["http://127.0.0.1:@port@/a/b?c=d", "http://127.0.0.1:@port@", "TypeError"]),
    Case("discard-body", "6.discard_request_body()", """
        return answer(req, [req.discard_request_body(), req.read()])
    """, method="POST", body=b"x" * 1000, expect=[0, "b''"]),
    Case("document-root", "6.document_root()", "return answer(req, req.document_root())", expect="@htdocs@"),
    Case("flush", "6.flush()", """
        req.write("a", 0)
        got = req.flush()
        req.write(str(got))
        return apache.OK
    """, expect="aNone"),
    Case("addhandler-exts", "6.get_addhandler_exts()", """
        return answer(req, [sorted(req.get_addhandler_exts().split()), req.get_addhandler_exts()[-1:]])
    """, conf="AddHandler mod_python .one .two", expect=[["one", "two"], " "]),
    Case("addhandler-exts-none", "6.get_addhandler_exts()", "return answer(req, req.get_addhandler_exts())"),
    Case("basic-auth-pw", "6.get_basic_auth_pw()", """
        def authenhandler(req):
            before = req.user
            req.pair = [before, req.get_basic_auth_pw(), req.user, req.ap_auth_type]
            return apache.OK
        def handler(req):
            return answer(req, [req.pair, req.user, req.ap_auth_type])
    """, conf=AUTH, send=(BASIC,), expect=[[None, "pass", "user", "Basic"], "user", "Basic"]),
    Case("basic-auth-pw-handler", "6.get_basic_auth_pw()", """
        return answer(req, [req.get_basic_auth_pw(), req.user])
    """, conf='AuthType Basic\nAuthName "A realm"', send=(BASIC,)),
    Case("basic-auth-pw-none", "6.get_basic_auth_pw()", """
        return answer(req, [req.get_basic_auth_pw(), req.user])
    """, conf='AuthType Basic\nAuthName "A realm"'),
    Case("basic-auth-pw-no-type", "6.get_basic_auth_pw()", """
        return answer(req, [req.get_basic_auth_pw(), req.user])
    """, send=(BASIC,)),
    # ü:pä in Latin-1
    Case("basic-auth-pw-latin", "6.get_basic_auth_pw()", """
        return answer(req, [req.get_basic_auth_pw(), req.user])
    """, conf='AuthType Basic\nAuthName "A realm"', send=(("Authorization", "Basic /DpwZVxhZTT"),)),
    Case("get-config", "6.get_config() / get_options()", """
        return answer(req, sorted(req.get_config().items()))
    """, conf="PythonAutoReload Off\nPythonInterpPerDirectory Off\nPythonOption k v"),
    Case("get-options", "6.get_config() / get_options()", """
        options = req.get_options()
        return answer(req, [sorted(k for k, v in options.items()), options["one"], options.get("gone")])
    """, conf="PythonOption one 1\nPythonOption gone x\nPythonOption gone"),
    Case("get-options-empty", "6.get_config() / get_options()", """
        options = req.get_options()
        return answer(req, [sorted(k for k, v in options.items()), options.get("gone")])
    """, conf="PythonOption one 1\nPythonOption gone \"\"\nPythonOption two 2"),
    Case("remote-host", "6.get_remote_host([type=NAME[, str_is_ip]])", """
        return answer(req, [req.get_remote_host(), req.get_remote_host(apache.REMOTE_NOLOOKUP),
                            req.get_remote_host(apache.REMOTE_HOST), req.get_remote_host(apache.REMOTE_NAME),
                            req.get_remote_host(apache.REMOTE_NAME, 1), req.get_remote_host(apache.REMOTE_NOLOOKUP, 1),
                            attempt(req.get_remote_host, "x")])
    """),
    Case("internal-redirect", "6.internal_redirect(uri)", """
        def handler(req):
            if req.prev is None:
                req.mine = ["first"]
                req.internal_redirect("/internal-redirect/other?x=y")
                req.log_error(MARK + "back: %s" % req.mine)
                return apache.OK
            req.prev.mine.append("second")
            return answer(req, [req.uri, req.args, req.prev.uri, req.prev.next is req, req.main is None,
                                req.prev.mine, req.method, req.phase])
    """, path="here", log=True, log_wait=1),
    Case("internal-redirect-static", "6.internal_redirect(uri)", """
        req.internal_redirect("/static/page.txt")
        return apache.OK
    """, headers=("Content-Type",), expect="a static page\n"),
    Case("internal-redirect-missing", "6.internal_redirect(uri)", """
        req.internal_redirect("/static/none")
        return apache.OK
    """, status=404),
    Case("internal-redirect-headers", "6.internal_redirect(uri)", """
        def handler(req):
            if req.prev is None:
                req.headers_out["X-Out"] = "1"
                req.err_headers_out["X-Err"] = "1"
                req.notes["n"] = "1"
                req.subprocess_env["E"] = "1"
                req.internal_redirect("/internal-redirect-headers/other")
                return apache.OK
            return answer(req, [req.notes.get("n"), sorted(k for k in req.subprocess_env.keys() if "E" == k[-1:]),
                                req.headers_out.get("X-Out"), req.err_headers_out.get("X-Err")])
    """, headers=("X-Out", "X-Err")),
    Case("is-https", "6.is_https(), ssl_var_lookup(name)", """
        return answer(req, [req.is_https(), req.ssl_var_lookup("HTTPS"), req.ssl_var_lookup("SSL_PROTOCOL"),
                            attempt(req.ssl_var_lookup)])
    """),
    Case("log-error", "6.log_error(msg[, level])", """
        req.log_error(MARK + "plain")
        req.log_error(MARK + "warning", apache.APLOG_WARNING)
        req.log_error(MARK + "error", apache.APLOG_ERR)
        req.log_error(MARK + "info", apache.APLOG_INFO)
        req.log_error(MARK + "debug", apache.APLOG_DEBUG)
        req.log_error(MARK + "errno", apache.APLOG_NOERRNO | apache.APLOG_ERR)
        return answer(req, [attempt(req.log_error, 1), attempt(req.log_error), attempt(req.log_error, "x", "y")])
    """, log=True, log_wait=5),
    Case("log-error-at-once", "23.log calls are in the log when they return", """
        req.log_error(MARK + "request")
        apache.log_error(MARK + "server")
        req.server.log_error(MARK + "server object")
        req.connection.log_error(MARK + "connection")
        sys.stderr.write(MARK + "stderr\\n")
        sys.stderr.flush()
        with open(apache.main_server.error_fname) as log:
            text = log.read()
        return answer(req, [MARK + word in text for word in ("request", "server", "server object", "connection",
                            "stderr")])
    """, expect=[True] * 5),
    Case("log-error-text", "6.log_error(msg[, level])", r"""
        req.log_error(MARK + "percent %s %d")
        req.log_error(MARK + "latin gr\u00fc\u00df")
        req.log_error(MARK + "euro \u20ac")
        return answer(req, [attempt(req.log_error, b"bytes"), attempt(req.log_error, None)])
    """, log=True, log_wait=2),
    Case("register-cleanup", "6.register_cleanup(func[, data])", """
        def note(data):
            apache.log_error(MARK + data)
        def handler(req):
            got = [req.register_cleanup(note, "one"), req.register_cleanup(note, "two"),
                   attempt(req.register_cleanup), attempt(req.register_cleanup, 5)]
            req.log_error(MARK + "handler")
            return answer(req, got)
    """, log=True, log_wait=3),
    Case("register-cleanup-req", "6.register_cleanup(func[, data])", """
        def note(data):
            data.log_error(MARK + "%s %s" % (data.uri, data.status))
        def handler(req):
            req.register_cleanup(note, req)
            return answer(req, "registered")
    """, log=True, log_wait=1),
    Case("register-cleanup-tuple", "6.register_cleanup(func[, data])", """
        def note(*data):
            apache.log_error(MARK + repr(data))
        def handler(req):
            req.register_cleanup(note, ("a", 1))
            req.register_cleanup(note, [1, 2])
            return answer(req, "registered")
    """, log=True, log_wait=2),
    Case("register-cleanup-none", "6.register_cleanup(func[, data])", """
        def note(data):
            apache.log_error(MARK + repr(data))
        def handler(req):
            req.register_cleanup(note)
            return answer(req, "registered")
    """, log=True, log_wait=1),
    Case("register-cleanup-broken", "6.register_cleanup(func[, data])", """
        def note(data):
            raise ValueError("in the clean-up of register-cleanup-broken")
        def handler(req):
            req.register_cleanup(note, 1)
            return answer(req, "registered")
    """, log="clean-up of register-cleanup-broken", log_wait=1),
    Case("requires", "6.requires()", """
        return answer(req, [list(req.requires()) if hasattr(req, "requires") else None])
    """, conf="AuthType Basic\nAuthName x\nRequire valid-user\nRequire all granted",
        expect=[["valid-user", "all granted"]],
        differs="works on httpd 2.4 too, where mod_python has no such attribute"),
), modules=("authn_core", "authz_user", "include"), files={"static/page.txt": "a static page\n"})
