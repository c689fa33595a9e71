"""Handlers of test_keepalive.py."""

from mod_python import apache


def echo(req):
    """What came: method, arguments, body."""
    req.content_type = "text/plain"
    req.write(f"{req.method} {req.args or ''} ")
    req.write(req.read())
    return apache.OK


def flushed(req):
    req.write("one ", 1)
    req.write("two ", 1)
    return apache.OK


def nothing(req):
    return apache.OK


def missing(req):
    return apache.HTTP_NOT_FOUND


def large(req):
    req.write("x" * 200_000)
    return apache.OK


def allowed(req):
    return apache.OK


def counted(req):
    """How many requests the connection has had, by its own notes."""
    notes = req.connection.notes
    notes["count"] = str(int(notes.get("count", "0")) + 1)
    req.content_type = "text/plain"
    req.write(notes["count"])
    return apache.OK


def noted(req):
    """Tells the connection so many bytes."""
    req.connection.notes["noted"] = "x" * int(req.args)
    return apache.OK
