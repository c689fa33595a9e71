"""Handlers of test_request.py: each answers with what it sees, as JSON."""

import json

from mod_python import apache


def answer(req, value):
    req.content_type = "application/json"
    req.write(json.dumps(value))
    return apache.OK


def line(req):
    names = ("method", "uri", "unparsed_uri", "args", "protocol", "the_request", "hostname", "header_only",
             "proto_num", "method_number", "path_info", "filename", "user", "handler", "main", "prev", "next")
    return answer(req, {name: getattr(req, name) for name in names})


def headers(req):
    table = req.headers_in
    return answer(req, {
        "one": table["x-one"], "upper": table["X-ONE"], "two": table["x-two"], "missing": table.get("x-none"),
        "default": table.get("x-none", "d"), "in": ["x-one" in table, "x-none" in table],
        "first": table.get("x-two"),
    })


def answer_headers(req):
    req.headers_out["X-Set"] = "old"
    req.headers_out["x-set"] = "new"
    req.headers_out.add("X-Twice", "1")
    req.headers_out.add("X-Twice", "2")
    req.headers_out["X-Gone"] = "here"
    del req.headers_out["x-gone"]
    req.err_headers_out["X-Err"] = "kept"
    return answer(req, sorted(k.lower() for k in req.headers_out.keys()))


def error_headers(req):
    req.headers_out["X-Dropped"] = "1"
    req.err_headers_out["X-Kept"] = "1"
    return apache.HTTP_NOT_FOUND


def tables(req):
    notes = req.notes
    notes.clear()
    notes["Key"] = "a"
    notes.add("KEY", "b")
    notes["other"] = "c"
    seen = {
        "list": notes["key"], "get": notes.get("key"), "keys": sorted(k.lower() for k in notes.keys()),
        "len": len(notes), "items": sorted(notes.items()),
    }
    del notes["kEY"]
    seen["after"] = [("key" in notes), dict(notes)]
    try:
        notes["key"]
    except KeyError:
        seen["error"] = "KeyError"
    copy = notes.copy()
    copy["other"] = "changed"
    seen["copy"] = [notes["other"], copy["other"]]
    notes.clear()
    seen["cleared"] = len(notes)
    own = apache.table({"A": "1"})
    own.add("a", "2")
    seen["own"] = own["a"]
    return answer(req, seen)


def setdefault(req):
    return answer(req, [req.notes.setdefault("new", "v"), req.notes["new"]])


def table_types(req):
    def error(key, value):
        try:
            req.notes[key] = value
        except Exception as problem:
            return type(problem).__name__
        return "no error"
    return answer(req, [error("k", 1), error(1, "v"), error("k", None), error("k", b"bytes"), error("k", "\u20ac")])


def environment(req):
    req.add_common_vars()
    req.subprocess_env["OWN"] = "x"
    env = req.subprocess_env
    return answer(req, {k: env.get(k) for k in ("SERVER_PORT", "REMOTE_ADDR", "OWN", "FROM_CONF")})


def status(req):
    req.status = int(req.args)
    req.write("own body")
    return apache.OK


def content_type(req):
    req.content_type = "text/x-one"
    req.write("x")
    return apache.OK


def attribute_types(req):
    def error(name, value):
        try:
            setattr(req, name, value)
        except Exception as problem:
            return type(problem).__name__
        return "no error"
    req.own = {"any": "thing"}
    return answer(req, {
        "own": req.own, "status": error("status", "text"), "uri": error("uri", None), "args": error("args", None),
        "method": error("method", "POST"), "euro": error("filename", "\u20ac"),
    })


def peers(req):
    connection, server = req.connection, req.server
    return answer(req, {
        "local": list(connection.local_addr), "client": list(connection.client_addr),
        "client_ip": connection.client_ip, "keepalives": connection.keepalives,
        "hostname": server.server_hostname, "virtual": bool(server.is_virtual), "timeout": server.timeout,
        "types": [str(type(x)) for x in (req, connection, server, req.headers_in)],
        "same": [req.connection is req.connection, connection.notes is not None],
    })


def sent(req):
    before = req.bytes_sent
    req.write("x" * 1000)
    return answer(req, [before, req.bytes_sent >= 0, req.sent_bodyct])


def cleanup(req):
    def note(data):
        req.log_error(f"cleanup ran with {data}")
    req.register_cleanup(note, "its data")
    req.register_cleanup(note)
    return answer(req, "registered")


def broken_cleanup(req):
    def note(_):
        raise RuntimeError("in the cleanup")
    req.register_cleanup(note, None)
    return answer(req, "registered")


def log(req):
    req.log_error("an error line")
    req.log_error("a warning line", apache.APLOG_WARNING)
    apache.log_error("a server line", apache.APLOG_NOTICE)
    print("a printed line", flush=True)
    import sys
    sys.stderr.write("a stderr line\n")
    sys.stderr.flush()
    return answer(req, "logged")


def options(req):
    return answer(req, [dict(req.get_options()), dict(req.get_config()), req.interpreter])


def sendfile(req):
    whole = req.sendfile(req.document_root() + "/file.txt")
    part = req.sendfile(req.document_root() + "/file.txt", 2, 3)
    req.write(f"|{whole},{part}")
    return apache.OK


def sendfile_missing(req):
    try:
        req.sendfile("/no/such/file")
    except OSError as error:
        return answer(req, "OSError")


def unicode_write(req):
    req.content_type = "text/plain; charset=utf-8"
    req.write("gr\u00fc\u00df ")
    req.write(b"bytes ")
    req.write("unflushed", 0)
    req.flush()
    return apache.OK
