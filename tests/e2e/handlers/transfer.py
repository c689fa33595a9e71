"""Handlers of test_transfer.py: a lot of data, and clients that take their time."""

import hashlib
import os
import time

from mod_python import apache

BLOCK = 1 << 20


def path(req, name):
    return os.path.join(req.get_options()["scratch"], name)


def note(req, name, value):
    """Leaves a value for the test, in one step."""
    target = path(req, name)
    with open(target + ".new", "w") as out:
        out.write(str(value))
    os.replace(target + ".new", target)


def up(req):
    digest, count = hashlib.blake2b(), 0
    while data := req.read(BLOCK):
        digest.update(data)
        count += len(data)
    req.write(f"{count} {digest.hexdigest()}")
    return apache.OK


def down(req):
    size, fill = int(req.args), os.urandom(BLOCK)
    digest = hashlib.blake2b()
    for number in range(size // BLOCK):
        block = number.to_bytes(8, "big") + fill[8:]
        digest.update(block)
        req.write(block, 0)
    note(req, "down", digest.hexdigest())
    return apache.OK


def pieces(req):
    for number in range(int(req.args)):
        req.write(f"{number:07d}\n")
    return apache.OK


def fast(req):
    """Writes as fast as it can, and tells how far it came."""
    block, written = b"x" * 65536, 0
    try:
        for _ in range(int(req.args) // len(block)):
            req.write(block, 0)
            written += len(block)
            note(req, "written", written)
    except OSError as error:
        note(req, "ended", f"OSError: {error}")
        return apache.OK
    note(req, "ended", "complete")
    return apache.OK


def lockstep(req):
    """The next piece comes only after the test has said that it saw the last one."""
    for number in range(10):
        if number % 2:
            req.write(f"piece {number}\n")
        else:
            req.write(f"piece {number}\n", 0)
            req.flush()
        while not os.path.exists(path(req, f"seen-{number}")):
            time.sleep(0.001)
    return apache.OK
