"""Section 9: the server."""

from suite.case import Case, Group

RO = (
    "defn_name defn_line_number server_admin server_hostname port error_fname loglevel is_virtual timeout "
    "keep_alive_timeout keep_alive_max keep_alive path pathlen names wild_names limit_req_line limit_req_fieldsize "
    "limit_req_fields"
).split()

VHOST = """\
PythonOption of vhost
PythonDebug On
ServerAdmin root@vhost.example
ServerAlias alias.example *.wild.example
LogLevel crit
TimeOut 7
KeepAliveTimeout 3
MaxKeepAliveRequests 17
KeepAlive Off
LimitRequestLine 4000
LimitRequestFieldSize 3000
LimitRequestFields 30
"""


def value(name, code=None, **more):
    """A case that shows an attribute."""
    return Case(f"server-{name.replace('_', '-')}", f"9.{name}", code or f"return answer(req, req.server.{name})",
        **more)


GROUP = Group("servers", (
    Case("server-all", "9.read-only attributes", f"""
        names = [n for n in {RO!r} if n not in ("defn_line_number", "error_fname")]
        return answer(req, {{name: getattr(req.server, name) for name in names}})
    """),
    Case("server-types", "9.read-only attributes", f"""
        names = {RO!r} + ["next", "my_generation", "restart_time"]
        return answer(req, {{name: type(getattr(req.server, name)).__name__ for name in names}})
    """),
    Case("server-not-writable", "9.read-only attributes", f"""
        def error(name):
            try:
                setattr(req.server, name, getattr(req.server, name))
            except Exception as problem:
                return type(problem).__name__
            return "no error"
        return answer(req, {{name: error(name) for name in {RO!r} + ["next", "my_generation", "restart_time"]}})
    """),
    Case("server-vhost", "9.read-only attributes", f"""
        names = [n for n in {RO!r} if n not in ("defn_line_number", "defn_name", "error_fname")]
        return answer(req, {{name: getattr(req.server, name) for name in names}})
    """, vhost=VHOST),
    Case("server-vhost-main", "9.read-only attributes", """
        return answer(req, [apache.main_server.server_hostname, apache.main_server.is_virtual,
                            req.server.is_virtual, req.connection.base_server.server_hostname])
    """, vhost=VHOST),
    Case("server-defn", "9.defn_name, defn_line_number", """
        server = req.server
        return answer(req, [os.path.basename(server.defn_name or ""), server.defn_line_number > 0])
    """, vhost=VHOST),
    Case("server-error-fname", "9.error_fname, loglevel", """
        return answer(req, [req.server.error_fname, apache.main_server.error_fname, req.server.loglevel])
    """, expect=[None, "@prefix@/error.log", 6]),
    Case("server-error-fname-vhost", "9.error_fname, loglevel", """
        return answer(req, [req.server.error_fname, req.server.loglevel])
    """, vhost="ErrorLog @scratch@/vhost.log\nLogLevel debug", expect=["@scratch@/vhost.log", 7]),
    Case("server-next", "9.next, my_generation, restart_time", """
        import time
        names, server = [], apache.main_server
        while server is not None:
            names.append(server.server_hostname)
            server = server.next
        return answer(req, [sorted(set(names)), req.server.my_generation,
                            abs(req.server.restart_time - time.time()) < 600])
    """),
    Case("server-names", "9.names, wild_names", "return answer(req, [req.server.names, req.server.wild_names])",
         vhost=VHOST),
    Case("server-path", "9.path, pathlen", "return answer(req, [req.server.path, req.server.pathlen])",
         vhost="ServerPath /sub"),
    Case("server-get-config", "9.get_config(), get_options()", """
        return answer(req, [sorted(req.server.get_config().items()), sorted(req.server.get_options().items())])
    """, vhost=VHOST, conf="PythonOption of section"),
    Case("server-get-config-main", "9.get_config(), get_options()", """
        return answer(req, [sorted(req.server.get_config().items()),
                            sorted(k for k, v in req.server.get_options().items())])
    """),
    Case("server-options-kept", ("9.get_config(), get_options()", "23.a server object's option table persists"), """
        options = req.server.get_options()
        before = options.get("server-options-kept")
        options["server-options-kept"] = "yes"
        return answer(req, [before, req.server.get_options().get("server-options-kept")])
    """),
    Case("server-log-error", "9.log_error", """
        server = req.server
        server.log_error(MARK + "plain")
        server.log_error(MARK + "warning", apache.APLOG_WARNING)
        return answer(req, [attempt(server.log_error, 5), attempt(server.log_error)])
    """, log=True, log_wait=2),
    Case("server-register-cleanup", ("9.register_cleanup(req, func[, data])", "23.clean-ups run at stop"), """
        def note(data):
            apache.log_error("server clean-up of " + data)
        def handler(req):
            got = req.server.register_cleanup(req, note, "server-register-cleanup")
            return answer(req, [got, attempt(req.server.register_cleanup, note),
                                attempt(req.server.register_cleanup, req, 5)])
    """),
    Case("server-free", "9.free attributes", """
        fresh = hasattr(req.server, "mine")
        req.server.mine = 1
        return answer(req, [fresh, req.server.mine])
    """, drive=lambda talk: [talk.ask() for _ in range(3)], expect=[[200, [False, 1]]] * 3),
    Case("server-same", "9.free attributes", """
        return answer(req, [req.server is req.server, str(type(req.server)), req.server.server_hostname ==
                            req.connection.base_server.server_hostname])
    """),
    Case("server-main", "4.interpreter, main_server, versions", """
        return answer(req, [apache.interpreter, str(type(apache.main_server)), apache.main_server.server_hostname,
                            apache.interpreter == req.interpreter])
    """),
))
