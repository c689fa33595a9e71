"""Handlers of test_body.py."""

import hashlib
import json

from mod_python import apache


def answer(req, value):
    req.content_type = "application/json"
    req.write(json.dumps(value))
    return apache.OK


def whole(req):
    data = req.read()
    return answer(req, [len(data), hashlib.sha256(data).hexdigest(), req.read() == b"", type(data).__name__])


def blocks(req):
    size, digest, count, largest = int(req.args), hashlib.sha256(), 0, 0
    while data := req.read(size):
        digest.update(data)
        count += len(data)
        largest = max(largest, len(data))
    return answer(req, [count, digest.hexdigest(), largest <= size])


def lines(req):
    found = []
    while line := req.readline():
        found.append(line.decode())
    return answer(req, found)


def short_lines(req):
    found = []
    while line := req.readline(4):
        found.append(line.decode())
    return answer(req, found)


def all_lines(req):
    return answer(req, [line.decode() for line in req.readlines()])


def mixed(req):
    first = req.readline()
    some = req.read(3)
    rest = req.read()
    return answer(req, [first.decode(), some.decode(), rest.decode()])


def lengths(req):
    seen = [req.read_length]
    req.read(4)
    seen.append(req.read_length)
    req.read()
    return answer(req, [*seen, req.read_length])


def unread(req):
    return answer(req, "did not look")


def early(req):
    req.write("before ")
    data = req.read()
    req.write(b"after " + data)
    return apache.OK


def half(req):
    try:
        data = req.read()
    except OSError as error:
        req.log_error(f"half a body: OSError {error}")
        raise
    req.log_error(f"half a body: {len(data)} bytes")
    return apache.OK


def echo(req):
    while data := req.read(64 * 1024):
        req.write(data, 0)
    return apache.OK
