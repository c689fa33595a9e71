"""Handlers and filters of test_nested.py: Python that httpd runs while Python waits for httpd."""

import json
import threading

from mod_python import apache


def answer(req, value):
    req.content_type = "application/json"
    req.write(json.dumps(value))
    return apache.OK


# -- an output filter inside req.write

def filtered(req):
    req.seen = []
    req.thread = threading.get_ident()
    req.add_output_filter("SPY")
    req.write("first ")
    inside = list(req.seen)
    req.write("second ")
    req.write(json.dumps([inside, len(req.seen) > len(inside)]))
    return apache.OK


def spy(flt):
    """Notes on the request that it was here, on which thread, and that it saw the very same request object."""
    while data := flt.read():
        if hasattr(flt.req, "seen"):
            flt.req.seen.append([data.decode(), flt.req.thread == threading.get_ident()])
        flt.write(data.upper())
    if data is None:
        flt.close()


def upper(flt):
    while data := flt.read():
        flt.write(data.upper())
    if data is None:
        flt.close()


def brackets(flt):
    while data := flt.read():
        flt.write(b"[" + data + b"]")
    if data is None:
        flt.write("(end)")
        flt.close()


def broken(flt):
    raise RuntimeError("in the filter")


def swallow(flt):
    while flt.read():
        pass
    flt.close()


def attributes(flt):
    data = flt.read()
    if data is None:
        flt.close()
    elif data:
        seen = {"name": flt.name, "input": bool(flt.is_input), "closed": bool(flt.closed), "handler": flt.handler,
                "uri": flt.req.uri}
        flt.write(json.dumps(seen))


def lines(flt):
    while line := flt.readline():
        flt.write(str(len(line)) + " ")
    if line is None:
        flt.close()


def flood(flt):
    """Writes forty for each byte, in pieces that are larger than what is gathered before it is passed on."""
    while data := flt.read(7000):
        flt.write(b"x" * 40 * len(data))
    if data is None:
        flt.close()


def hurry(flt):
    """Flushes often, and leaves the end to the server."""
    while data := flt.read():
        flt.flush()
        flt.write(data)
        flt.flush()


def hands_on(flt):
    flt.pass_on()


def goes(flt):
    flt.disable()


def goes_in_the_middle(flt):
    """Leaves at the end of the stream, or after a part."""
    data = flt.read(3)
    if data:
        flt.write(data.upper())
    flt.disable()


def flushed_with_filters(req):
    for name in req.args.split(","):
        req.add_output_filter(name)
    req.write("some ", 1)
    req.flush()
    req.write("text", 1)
    return apache.OK


def flooded(req):
    for name in req.args.split(","):
        req.add_output_filter(name)
    req.write(b"x" * 9000)
    return apache.OK


def plain(req):
    req.write("some text")
    return apache.OK


def many(req):
    for _ in range(1000):
        req.write("abc")
    return apache.OK


def with_filters(req):
    for name in req.args.split(","):
        req.add_output_filter(name)
    req.write("some ")
    req.write("text")
    return apache.OK


def text_lines(req):
    req.add_output_filter("LINES")
    req.write("one\ntwo, longer\n")
    return apache.OK


# -- internal redirects

KEPT = {}


def redirect(req):
    req.mine = {"list": [1, 2, 3]}
    KEPT[id(req)] = req
    req.thread = threading.get_ident()
    req.internal_redirect("/target?" + str(id(req)))
    # What the target did is seen here; the answer is complete, so it goes to the log.
    req.log_error("AFTER " + json.dumps([req.from_target, req.next is not None and req.next.own == "target's own"]))
    del KEPT[id(req)]
    return apache.OK


def target(req):
    before = req.prev
    same = before is KEPT[int(req.args)]
    req.own = "target's own"
    before.mine["list"].append(4)
    before.from_target = [same, before.mine["list"], before.uri, before.thread == threading.get_ident(),
                          before.next is req, req.main is None]
    req.content_type = "text/plain"
    req.write("the target's answer")
    return apache.OK


def chain(req):
    count = int(req.args)
    if count:
        req.internal_redirect(f"/chain?{count - 1}")
    else:
        steps, walk = [], req
        while walk is not None:
            steps.append(walk.args)
            walk = walk.prev
        req.write(json.dumps(steps))
    return apache.OK


def prev_write(req):
    req.internal_redirect("/prev_target")
    return apache.OK


def prev_target(req):
    req.prev.write("through prev ")
    req.write("and by itself")
    return apache.OK


def to_file(req):
    req.internal_redirect("/static/page.txt")
    return apache.OK


def nowhere(req):
    req.internal_redirect("/static/none.txt")
    return apache.OK
