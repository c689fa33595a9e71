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
