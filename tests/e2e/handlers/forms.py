"""Handlers of test_forms.py."""

import hashlib
import json
import os
import resource

from mod_python import Cookie, Session, apache, util


def answer(req, value):
    req.content_type = "application/json"
    req.write(json.dumps(value))
    return apache.OK


def show(req):
    """Names and values."""
    form = util.FieldStorage(req, keep_blank_values=1)
    return answer(req, [[name, field if field.filename is None else field.filename] for name, field in form.items()])


def upload(req):
    """What came of a file, and the most memory that this process ever had, in KiB."""
    field = util.FieldStorage(req)["f"]
    digest, size = hashlib.sha256(), 0
    while True:
        piece = field.file.read(1 << 20)
        if not piece:
            break
        digest.update(piece)
        size += len(piece)
    return answer(req, [size, digest.hexdigest(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])


def hostile(req):
    """Everything that reads what a client sends."""
    form = util.FieldStorage(req, keep_blank_values=1)
    cookies = Cookie.get_cookies(req)
    signed = Cookie.get_cookies(req, Cookie.MarshalCookie, secret="secret", legacy_marshal=True)
    session = Session.MemorySession(req, lock=0)
    return answer(req, [len(form.list), len(cookies), len(signed), session.is_new()])


def state(req):
    """This process, its open files and its memory in KiB."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return answer(req, [os.getpid(), len(os.listdir("/proc/self/fd")), pages * resource.getpagesize() // 1024])


def redirect(req):
    Cookie.add_cookie(req, "left", "here")
    util.redirect(req, "/show?" + (req.args or ""))
