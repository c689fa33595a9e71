"""Handlers of test_http2_tls.py."""

import json
import threading

from mod_python import apache

_here = threading.Condition()
_present = set()


def about(req):
    req.content_type = "application/json"
    names = ("SSL_PROTOCOL", "SSL_SERVER_S_DN_CN", "HTTPS", "NO_SUCH_VARIABLE")
    req.write(json.dumps({
        "is_https": req.is_https(),
        "protocol": req.protocol,
        "vars": {name: req.ssl_var_lookup(name) for name in names},
        "url": req.construct_url("/x"),
    }))
    return apache.OK


def meet(req):
    """Answers when as many requests as the query says are here at once."""
    need = int(req.args.split("&")[0])
    with _here:
        _present.add(id(req))
        _here.notify_all()
        met = _here.wait_for(lambda: len(_present) >= need, timeout=60)
    req.write("met\n" if met else "alone\n")
    return apache.OK


def echo(req):
    req.write(req.read())
    return apache.OK


def big(req):
    for _ in range(64):
        req.write(b"x" * 65536)
    return apache.OK


def when(req):
    req.update_mtime(1_700_000_000)
    req.set_last_modified()
    req.set_etag()
    status = req.meets_conditions()
    if status != apache.OK:
        return status
    req.set_content_length(10)
    req.write("0123456789", 0)
    return apache.OK


def missing(req):
    req.colour = "red"
    return apache.HTTP_NOT_FOUND


def oops(req):
    req.content_type = "text/plain"
    req.write(f"{req.prev.uri} {req.prev.status} {getattr(req.prev, 'colour', None)}")
    return apache.OK


def index(req):
    req.content_type = "text/plain"
    req.write(f"index {req.uri}")
    return apache.OK


def numbered(req):
    """Large pieces, each of its own."""
    req.content_type = "text/plain"
    for number in range(200):
        req.write(b"%07d\n" % number * 5000, number % 3)
    return apache.OK
