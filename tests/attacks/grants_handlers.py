"""What the tenants of tests/attacks/test_grants.py ask of httpd: a function for each attack."""

from mod_python import apache


def _arg(req, name):
    for part in (req.args or "").split("&"):
        key, _, value = part.partition("=")
        if key == name:
            return value
    return None


def _run(req, name):
    """The attack's own words, or what httpd said to it."""
    try:
        return f"result: {globals()['try_' + name](req)}"
    except PermissionError as error:
        return f"refused: {error}"


def fixuphandler(req):
    name = _arg(req, "fixup")
    if name:
        answer = _run(req, name)
        if answer.startswith("refused"):
            req.answer = answer
            req.handler = "mod_python"
    return apache.OK


def transhandler(req):
    """Every request of the virtual host comes by, also those for somebody else's corner."""
    req.notes["from_trans"] = "seen"
    req.subprocess_env["FROM_TRANS"] = "seen"
    return apache.DECLINED


def handler(req):
    req.content_type = "text/plain"
    answer = getattr(req, "answer", None)
    name = _arg(req, "do")
    if answer is None and name:
        answer = _run(req, name)
    if _arg(req, "declined"):
        return apache.DECLINED
    if _arg(req, "silent") is None:
        req.write((answer or "nothing") + "\n")
    return apache.OK


def _set(req, field):
    setattr(req, field, _arg(req, "value").replace("%20", " "))
    return getattr(req, field)


def try_handler(req):
    return _set(req, "handler")


def try_filename(req):
    return _set(req, "filename")


def try_canonical_filename(req):
    return _set(req, "canonical_filename")


def try_own_file(req):
    """One's own file, served by httpd."""
    req.filename = _arg(req, "value")
    req.handler = None
    req.finfo = apache.stat(req.filename, apache.APR_FINFO_MIN)
    return "set"


def try_foreign_file(req):
    req.filename = _arg(req, "value")
    req.handler = "default-handler"
    return "set"


def try_swapped_file(req):
    """A file that is one's own when it is named, and no longer when it is sent."""
    import os
    root = _arg(req, "value")
    target = _arg(req, "to")
    path = os.path.join(root, "swap/page")
    req.filename = path
    req.handler = None
    os.unlink(path)
    os.symlink(target, path)
    return "set"


def try_cgi(req):
    req.filename = _arg(req, "value")
    req.handler = "cgi-script"
    req.finfo = apache.stat(req.filename, apache.APR_FINFO_MIN)
    return "set"


def try_type(req):
    """Without a handler, httpd takes the content type for one."""
    req.filename = _arg(req, "file") or req.filename
    req.content_type = _arg(req, "value")
    req.handler = None
    req.finfo = apache.stat(req.filename, apache.APR_FINFO_MIN)
    return "set"


def try_proxy(req):
    req.proxyreq = apache.PROXYREQ_REVERSE
    req.uri = _arg(req, "value")
    req.filename = "proxy:" + _arg(req, "value")
    req.handler = "proxy-server"
    return "set"


def try_proxyreq(req):
    req.proxyreq = apache.PROXYREQ_REVERSE
    return req.proxyreq


def try_proxy_filename(req):
    req.filename = "proxy:http://127.0.0.1/"
    return req.filename


def try_output_filter(req):
    req.add_output_filter(_arg(req, "value"))
    return "added"


def try_includes(req):
    req.add_output_filter("INCLUDES")
    req.write('<!--#echo var="DOCUMENT_NAME" -->')
    return "included"


def try_input_filter(req):
    req.add_input_filter(_arg(req, "value"))
    return "added"


def try_many_filters(req):
    for _ in range(200):
        req.add_output_filter("DEFLATE")
    return "added"


def try_environment(req):
    req.subprocess_env[_arg(req, "value")] = "x"
    return req.subprocess_env[_arg(req, "value")]


def try_clear_environment(req):
    req.subprocess_env.clear()
    return len(req.subprocess_env)


def try_redirect(req):
    req.internal_redirect(_arg(req, "value"))
    return "redirected"


def try_notes(req):
    return repr((req.notes.get("from_trans"), req.subprocess_env.get("FROM_TRANS")))


def try_prev(req):
    return repr((req.prev is not None, req.main is not None))


def try_who(req):
    import os
    return f"uid {os.getuid()} {apache.interpreter}"


def try_hang(req):
    """Until the test says otherwise."""
    import os
    import time
    req.log_error(f"hanging {_arg(req, 'value')}")
    while not os.path.exists(os.path.join(_arg(req, "root"), "release")):
        time.sleep(float(_arg(req, "pause") or 0.02))
    return "released"


def loghandler(req):
    if _arg(req, "log"):
        req.log_error(f"logging {_arg(req, 'value')}")
        if _arg(req, "log") == "hang":
            try_hang(req)
    return apache.OK


def try_config_tree(req):
    return repr(apache.config_tree())


def try_servers(req):
    names, server = [], apache.main_server
    while server is not None:
        names.append(server.server_hostname)
        server = server.next
    return repr(names)


def try_own_server(req):
    server = req.server
    return repr((server.server_hostname, server.next, server.error_fname, server.get_options().get("vhost")))


def try_base_server(req):
    return req.connection.base_server.server_hostname


def try_server_root(req):
    return apache.server_root()


def try_mpm_query(req):
    return apache.mpm_query(12)


def try_define(req):
    return apache.exists_config_define("x")


def try_user(req):
    req.user = "admin"
    return req.user


def try_auth_type(req):
    req.ap_auth_type = "Basic"
    return req.ap_auth_type


def try_authorization(req):
    return req.headers_in.get("Authorization", "none")


def try_proxy_authorization(req):
    return req.headers_in.get("Proxy-Authorization", "none")


def try_password(req):
    return req.get_basic_auth_pw()


def try_ssl_var(req):
    return repr(req.ssl_var_lookup(_arg(req, "value")))


def try_header_in(req):
    req.headers_in[_arg(req, "value")] = "1"
    return req.headers_in[_arg(req, "value")]


def try_header_out(req):
    req.headers_out[_arg(req, "value")] = _arg(req, "to") or "1"
    req.subprocess_env.get("x")
    len(req.notes)
    req.get_remote_host()
    return "set"


def try_header_flood(req):
    for n in range(int(_arg(req, "value"))):
        req.headers_out.add(f"X-Flood-{n}", "x")
    req.get_remote_host()
    return "set"


def try_header_bytes(req):
    for n in range(100):
        req.headers_out[f"X-{n % 4}"] = "x" * (1 << 17)
        req.get_remote_host()
    req.headers_out.clear()
    return "set"


def try_notes_flood(req):
    for n in range(5000):
        req.notes.add(f"n{n}", "x")
    return len(req.notes)


def try_note(req):
    req.notes[_arg(req, "value")] = "x"
    return req.notes[_arg(req, "value")]


def try_connection_note(req):
    req.connection.notes["x"] = "1"
    return req.connection.notes["x"]


def try_keepalive(req):
    req.connection.keepalive = apache.AP_CONN_KEEPALIVE
    req.get_remote_host()
    return "set"


def try_raw_answer(req):
    req.assbackwards = 1
    req.write("HTTP/1.1 200 forged\r\nX-Forged: 1\r\nContent-Length: 0\r\n\r\n")
    return "forged"


def try_splitting(req):
    req.headers_out["X-A"] = "1\r\nX-Injected: 1"
    return "set"


def try_status_line(req):
    req.status_line = "200 OK\r\nX-Injected: 1"
    return "set"


def try_status(req):
    req.status = 101
    req.get_remote_host()
    return "set"


def try_server_log(req):
    req.server.log_error("own " + _arg(req, "value"), apache.APLOG_ALERT)
    apache.log_error("main " + _arg(req, "value"), apache.APLOG_ALERT)
    return "logged"


def try_log_flood(req):
    for n in range(1000):
        req.log_error(f"flood {_arg(req, 'value')} {n}")
    return "logged"


def try_promise_less(req):
    """More is written than Content-Length says: what follows would be taken for the next answer."""
    req.headers_out["Content-Length"] = "4"
    req.write("abcd")
    req.flush()
    req.write("HTTP/1.1 200 forged\r\nContent-Length: 0\r\n\r\n")
    return "more"
