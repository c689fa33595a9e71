"""Section 6: reading the request's body."""

import struct

from suite.case import Case, Group

TEXT = b"line one\nline two\n\nno end"
POST = {"method": "POST", "body": TEXT}
READ, READLINE = "6.read([n])", "6.readline([n]) / readlines([hint])"


def half(talk):
    """Announces more than it sends, and then sends nothing."""
    with talk.connect() as connection:
        connection.send_head("POST", talk.target(""), [("Content-Length", "1000"), ("Connection", "close")])
        connection.send(b"x" * 10)
        response = connection.response()
        return [response.status, response.body.decode()]


def gone(talk):
    """Resets the connection while the answer is being written; what the handler logged."""
    with talk.connect() as connection:
        connection.send_head("GET", talk.target(""))
        connection.head()
        connection.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: close with a reset
    return [line.split(": ", 1)[1] for line in talk.log_lines(wait=1)]


def expects(talk):
    """Waits for 100 before it sends the body."""
    with talk.connect() as connection:
        connection.send_head("POST", talk.target(""), [("Content-Length", "4"), ("Expect", "100-continue")])
        interim = connection.interim()
        connection.send(b"body")
        response = connection.response()
        return [interim, response.status, talk.body_of(response)]


def expects_nothing(talk):
    """The handler does not read: no 100 is needed."""
    with talk.connect() as connection:
        connection.send_head("POST", talk.target(""), [("Content-Length", "4"), ("Expect", "100-continue")])
        response = connection.interim_or_final()
        return response.status


def keep_alive(talk):
    """A body that the handler did not read is no part of the next request."""
    with talk.connect() as connection:
        return [
            connection.request("POST", talk.target(""), body=b"GET /none HTTP/1.1\r\n\r\n" * 10).status
            for _ in range(3)
        ]


CHUNKED = (
    b"POST @url@/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nfirst\r\n7\r\n second\r\n0\r\n\r\n"
)

GROUP = Group("request-body", (
    Case("read", READ, "return answer(req, [req.read(), req.read(), req.read(5)])", **POST),
    Case("read-n", READ, """
        return answer(req, [req.read(4), req.read(0), req.read(8), req.read(1000), req.read(5)])
    """, **POST),
    Case("read-negative", READ, "return answer(req, [req.read(-1), req.read(-1)])", **POST),
    Case("read-types", READ, """
        return answer(req, [attempt(req.read, "x"), attempt(req.read, None), attempt(lambda: req.read(n=3))])
    """, **POST),
    Case("read-get", READ, "return answer(req, [req.read(), req.read(5), req.readline(), req.readlines()])",
         expect=["b''", "b''", "b''", []]),
    Case("read-empty", READ, "return answer(req, [req.read(), req.readline()])", method="POST", body=b""),
    Case("read-large", READ, """
        import hashlib
        data = req.read()
        return answer(req, [len(data), hashlib.md5(data).hexdigest()])
    """, method="POST", body=bytes(range(256)) * 4000),
    Case("read-blocks", READ, """
        sizes, data = [], req.read(100000)
        while data:
            sizes.append(len(data))
            data = req.read(100000)
        return answer(req, sizes)
    """, method="POST", body=b"x" * 250000),
    Case("read-chunked", READ, "return answer(req, [req.read(), req.read()])", raw=CHUNKED,
         expect=["b'first second'", "b''"], differs="chunked bodies can be read; mod_python answers 411"),
    Case("read-chunked-parts", READ, """
        return answer(req, [req.read(3), req.readline(), req.remaining, req.read_chunked, req.read_body])
    """, raw=CHUNKED, differs="chunked bodies can be read; mod_python answers 411"),
    Case("read-wsgi-style", READ, """
        return answer(req, [attempt(lambda: list(req)), hasattr(req, "__iter__")])
    """, **POST),
    Case("readline", READLINE, """
        return answer(req, [req.readline(), req.readline(), req.readline(), req.readline(), req.readline()])
    """, **POST),
    Case("readline-n", READLINE, """
        return answer(req, [req.readline(3), req.readline(100), req.readline(0), req.readline(-1), req.readline()])
    """, **POST),
    Case("readline-mixed", READLINE, "return answer(req, [req.readline(), req.read(3), req.readline(), req.read()])",
         **POST),
    Case("readline-long", READLINE, """
        first = req.readline()
        return answer(req, [len(first), first[-1:], len(req.readline(70000)), len(req.readline())])
    """, method="POST", body=b"x" * 200000 + b"\n" + b"y" * 100000),
    Case("readlines", READLINE, "return answer(req, [req.readlines(), req.readlines()])", **POST),
    Case("readlines-hint", READLINE, "return answer(req, [req.readlines(10), req.readlines()])", **POST),
    Case("readlines-hint-small", READLINE, "return answer(req, [req.readlines(3), req.readlines()])", **POST),
    Case("readlines-hint-large", READLINE, "return answer(req, [req.readlines(1000)])", **POST),
    Case("read-state", "6.clength, remaining, read_length, read_body, read_chunked, expecting_100, eos_sent", """
        names = ("clength", "remaining", "read_length", "read_body", "read_chunked", "expecting_100", "eos_sent")
        seen = [[getattr(req, name) for name in names]]
        req.read(4)
        seen.append([getattr(req, name) for name in names])
        req.read()
        seen.append([getattr(req, name) for name in names])
        return answer(req, seen)
    """, expect=[[0] * 7, [0, 21, 4, 2, 0, 0, 0], [0, 0, 25, 2, 0, 0, 0]],
        differs="`remaining` counts down as the body is read, and `read_body` says that chunked bodies are accepted",
        **POST),
    Case("discard-then-read", "6.discard_request_body()", """
        first = req.read(4)
        return answer(req, [first, req.discard_request_body(), req.read()])
    """, **POST),
    Case("unread-keep-alive", READ, "return answer(req, 'not read')", drive=keep_alive, expect=[200, 200, 200]),
    Case("expect-100", "6.clength, remaining, read_length, read_body, read_chunked, expecting_100, eos_sent", """
        before = req.expecting_100
        return answer(req, [before, req.read(), req.expecting_100])
    """, drive=expects),
    Case("expect-100-unread", READ, "return answer(req, 'not read')", drive=expects_nothing, expect=200),
    Case("client-gone", ("3.client gone", "6.write(s[, flush=1])"), """
        req.write("x" * 100000)
        try:
            for number in range(10000):
                req.write("x" * 100000)
        except IOError as error:
            req.log_error(MARK + str(error))
        return apache.OK
    """, drive=gone, expect=["Write failed, client closed connection."]),
    Case("client-gone-flush", ("3.client gone", "6.flush()"), """
        req.write("x" * 100000)
        try:
            for number in range(10000):
                req.write("x" * 100000, 0)
                req.flush()
        except IOError as error:
            req.log_error(MARK + "gone")
        return apache.OK
    """, drive=gone, expect=["gone"]),
    Case("body-after-output", READ, """
        req.write("first ")
        req.write(req.read())
        return apache.OK
    """, expect="first " + TEXT.decode(), **POST),
))

# Alone on its server: the others' clients may be slow.
TIMEOUTS = Group("read-timeouts", (
    Case("read-timeout", READ, """
        try:
            return answer(req, len(req.read()))
        except IOError as error:
            req.log_error(MARK + str(error))
            return answer(req, "gave up")
    """, drive=half, log=True, log_wait=1),
), modules=("reqtimeout",), conf="RequestReadTimeout body=1\nTimeout 2")
