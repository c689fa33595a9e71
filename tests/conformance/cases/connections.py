"""Section 7: the connection, in requests and in connection handlers."""

from suite.case import Case, Group

RO = (
    "base_server local_addr client_addr client_ip remote_addr remote_ip remote_host remote_logname aborted "
    "double_reverse keepalives local_ip local_host id notes"
).split()

# A virtual host on an address of its own, whose connections Python answers.
OWN = """\
Listen 127.0.0.1:@own-port@
<VirtualHost 127.0.0.1:@own-port@>
ServerName own
DocumentRoot "@htdocs@"
PythonPath "['@dir@'] + sys.path"
PythonInterpreter connections
{directives}
</VirtualHost>
"""
HANDLED = OWN.format(directives="PythonConnectionHandler @module@")


def spoken(*lines, half_close=True):
    """A conversation of raw bytes on the case's own port."""
    return lambda talk: talk.exchange(b"".join(lines), half_close=half_close)


def http(talk):
    """A request on the case's own port."""
    data = talk.server.fill("GET @url@/ HTTP/1.0\r\n\r\n", talk.case).encode()
    return talk.exchange(data, half_close=False).split(b"\r\n")[0]


def keepalive(talk):
    """Several requests on one connection."""
    with talk.connect() as connection:
        return [talk.body_of(talk.request(connection=connection)) for _ in range(3)]


def named(name, **more):
    """A case that shows an attribute of a request's connection."""
    return Case(f"conn-{name.replace('_', '-')}", f"7.{name}", f"return answer(req, req.connection.{name})", **more)


GROUP = Group("connections", (
    Case("conn-types", "7.read-only attributes", f"""
        conn = req.connection
        return answer(req, {{name: type(getattr(conn, name)).__name__ for name in {RO!r}}})
    """),
    Case("conn-not-writable", "7.read-only attributes", f"""
        def error(name):
            try:
                setattr(req.connection, name, getattr(req.connection, name))
            except Exception as problem:
                return type(problem).__name__
            return "no error"
        return answer(req, {{name: error(name) for name in {RO!r}}})
    """, expect={name: "AttributeError" for name in RO}),
    Case("conn-free", "7.free attributes", "return answer(req, attempt(setattr, req.connection, 'mine', 1))",
         expect="AttributeError"),
    Case("conn-same", "7.base_server", """
        conn = req.connection
        return answer(req, [conn is req.connection, str(type(conn)), str(type(conn.base_server)),
                            conn.base_server.server_hostname])
    """),
    Case("conn-addresses", "7.local_addr, client_addr, client_ip, local_ip, local_host", """
        conn = req.connection
        return answer(req, [conn.local_addr, conn.client_addr[0], conn.client_addr[1] > 0, conn.client_ip,
                            conn.local_ip,
                            conn.local_host])
    """),
    Case("conn-deprecated", "7.remote_addr/remote_ip (deprecated)", """
        conn = req.connection
        return answer(req, [conn.remote_ip, conn.remote_addr == conn.client_addr])
    """, expect=["127.0.0.1", True]),
    Case("conn-deprecated-log", "7.remote_addr/remote_ip (deprecated)", """
        req.log_error(MARK + "before")
        return answer(req, req.connection.remote_ip)
    """, drive=lambda talk: [talk.ask(), [line.split(":")[0] for line in talk.log_lines(
        r"remote_ip.*deprecated|case conn-deprecated-log", wait=2)]],
        expect=[[200, "127.0.0.1"], ["error, client", "warn, client"]]),
    Case("conn-names", "7.remote_host, remote_logname, double_reverse, aborted", """
        conn = req.connection
        return answer(req, [conn.remote_host, conn.remote_logname, conn.double_reverse, bool(conn.aborted)])
    """),
    named("keepalive"),
    Case("conn-keepalive-set", "7.keepalive", """
        conn = req.connection
        seen = [assigned(conn, "keepalive", apache.AP_CONN_CLOSE), assigned(conn, "keepalive", "x"),
                assigned(conn, "keepalive", None)]
        conn.keepalive = apache.AP_CONN_CLOSE
        return answer(req, seen)
    """, drive=lambda talk: (lambda r: [talk.body_of(r), r.header("Connection")])(
        talk.request(connection=talk.connect()))),
    Case("conn-keepalives", "7.keepalives, id",
         "return answer(req, [req.connection.keepalives, bool(req.connection.keepalive)])",
         drive=keepalive),
    Case("conn-id", "7.keepalives, id", "return answer(req, [type(req.connection.id).__name__])", expect=["int"]),
    Case("conn-notes", "7.notes", """
        conn = req.connection
        conn.notes["count"] = str(int(conn.notes.get("count", "0")) + 1)
        return answer(req, [conn.notes["count"], str(type(conn.notes))])
    """, drive=keepalive, expect=[[str(n), "<class 'mp_table'>"] for n in (1, 2, 3)]),
    Case("conn-hlist", ("7.hlist (connection handlers only)", "21.conn.hlist"),
         "return answer(req, attempt(lambda: req.connection.hlist))", expect="AttributeError",
         defect="`req.connection.hlist` in a request kills httpd's child (SIGSEGV)"),
    Case("conn-log-error", "7.log_error(msg[, level])", """
        conn = req.connection
        conn.log_error(MARK + "plain")
        conn.log_error(MARK + "warning", apache.APLOG_WARNING)
        return answer(req, [attempt(conn.log_error, 5), attempt(conn.log_error)])
    """, log=True, log_wait=2),
    Case("conn-read-in-request", "7.read([n]), readline([n]), write(s)", """
        conn = req.connection
        return answer(req, [hasattr(conn, name) for name in ("read", "readline", "write")])
    """, expect=[True, True, True]),

    # -- connection handlers
    Case("connhandler", ("1.PythonConnectionHandler", "2.one handler"), """
        def connectionhandler(conn):
            conn.write(b"hello\\r\\n")
            return apache.OK
    """, server=HANDLED, drive=spoken(b""), expect="hello\r\n"),
    Case("connhandler-echo", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            while True:
                line = conn.readline()
                if not line:
                    return apache.OK
                conn.write(b"<" + line + b">")
    """, server=HANDLED, drive=spoken(b"one\r\ntwo\nthree"), expect="<one\r\n><two\n><three>"),
    Case("connhandler-read", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            first = conn.read(3)
            rest = b""
            while len(rest) < 21:
                rest += conn.read(5)
            conn.write(first + b"|" + rest)
            return apache.OK
    """, server=HANDLED, drive=spoken(b"some bytes that are sent"), expect="som|e bytes that are sent"),
    Case("connhandler-read-all", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            conn.write(b"[" + conn.read() + b"]")
            return apache.OK
    """, server=HANDLED, drive=spoken(b"everything " * 50), expect="[" + "everything " * 50 + "]"),
    Case("connhandler-readline-n", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            parts = [conn.readline(100), conn.readline(100), conn.readline()]
            conn.write(b"|".join(parts))
            return apache.OK
    """, server=HANDLED, drive=spoken(b"line one\nline two\nthree\n"), expect="line one\n|line two\n|three\n"),
    Case("connhandler-readline-short", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            parts = [conn.readline(3), conn.readline(100), conn.readline()]
            conn.write(b"|".join(parts))
            return apache.OK
    """, server=HANDLED, drive=spoken(b"line one\nline two\nthree\n"), expect="lin|e one\n|line two\n",
        differs="a line longer than asked for is given in parts; mod_python drops its rest"),
    Case("connhandler-end", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            # At the end mod_python gives either.
            over = attempt(conn.read, 10) if conn.read(3) and conn.read(10) else "too early"
            seen = [over in ("OSError", None), attempt(conn.readline)]
            conn.write(repr(seen).encode())
            return apache.OK
    """, server=HANDLED, drive=spoken(b"bytes")),
    Case("connhandler-end-all", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            # At the end mod_python gives either.
            seen = [attempt(conn.read), attempt(conn.read) in ("OSError", None)]
            conn.write(repr(seen).encode())
            return apache.OK
    """, server=HANDLED, drive=spoken(b"bytes")),
    # The example of mod_python's documentation: it ends by the exception.
    Case("connhandler-documented", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            while 1:
                conn.write(conn.readline())
            return apache.OK
    """, server=HANDLED, drive=spoken(b"one\r\ntwo\r\n"), expect="one\r\ntwo\r\n"),
    Case("connhandler-write", "7.read([n]), readline([n]), write(s)", """
        def connectionhandler(conn):
            seen = [attempt(conn.write, "text"), attempt(conn.write, 5), attempt(conn.write, b""), attempt(conn.read,
                "x"),
                    attempt(conn.readline, "x")]
            conn.write(json.dumps(seen).encode())
            return apache.OK
    """, server=HANDLED, drive=spoken(b"")),
    Case("connhandler-attributes", "7.hlist (connection handlers only)", """
        def connectionhandler(conn):
            seen = [str(type(conn)), conn.local_addr[0], conn.client_ip, conn.keepalives,
                conn.base_server.server_hostname,
                    conn.hlist.handler, bool(conn.hlist.silent), conn.hlist.directory, str(type(conn.notes)),
                    bool(conn.aborted)]
            conn.write(json.dumps(seen).encode())
            return apache.OK
    """, server=HANDLED, drive=spoken(b"")),
    Case("connhandler-declined", "1.PythonConnectionHandler", """
        def connectionhandler(conn):
            conn.log_error(MARK + "declined")
            return apache.DECLINED
        def handler(req):
            return answer(req, "over HTTP")
    """, server=HANDLED, drive=http, expect="HTTP/1.1 200 OK", log=True),
    Case("connhandler-first-only", "1.PythonConnectionHandler", """
        def connectionhandler(conn):
            conn.log_error(MARK + "first")
            return apache.DECLINED
        def second(conn):
            conn.log_error(MARK + "second")
            conn.write(b"second")
            return apache.OK
        def handler(req):
            return answer(req, "over HTTP")
    """, server=OWN.format(directives="PythonConnectionHandler @module@ @module@::second"), drive=http, log=True),
    Case("connhandler-object", "1.PythonConnectionHandler", """
        class Talker:
            def __init__(self, conn):
                self.conn = conn
            def talk(self, conn):
                conn.write(b"same" if conn is self.conn else b"other")
                return apache.OK
    """, server=OWN.format(directives="PythonConnectionHandler @module@::Talker.talk"), drive=spoken(b""),
        expect="same"),
    Case("connhandler-none", ("3.connection handler not int", "1.PythonConnectionHandler"), """
        def connectionhandler(conn):
            conn.write(b"wrote")
            return None
    """, server=HANDLED, drive=lambda talk: [
        talk.exchange(b""), [line.partition(": ")[2] for line in talk.log_lines("invalid return code", wait=1)],
    ]),
    Case("connhandler-error", "3.exception, PythonDebug Off", """
        def connectionhandler(conn):
            conn.write(b"wrote")
            raise ValueError("in connhandler-error")
    """, server=HANDLED, drive=lambda talk: [
        talk.exchange(b""), [line.rpartition(": ")[2] for line in talk.log_lines("ValueError: in connhandler-error",
        wait=1)],
    ]),
    Case("connhandler-server-return", "3.SERVER_RETURN(code) / (code, status)", """
        def connectionhandler(conn):
            conn.write(b"wrote")
            raise apache.SERVER_RETURN(apache.OK)
    """, server=HANDLED, drive=spoken(b"")),
    Case("connhandler-main-server", "1.PythonConnectionHandler", """
        def connectionhandler(conn):
            conn.write(b"never: the main server's port has none")
            return apache.OK
        def handler(req):
            return answer(req, "over HTTP")
    """, server=HANDLED, expect="over HTTP"),
))
