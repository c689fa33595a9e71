"""Handlers of the tests that kill processes."""

import os
import time

from mod_python import apache

VERSION = "1"


def note(req, name, value):
    target = os.path.join(req.get_options()["scratch"], name)
    with open(target + ".new", "w") as out:
        out.write(str(value))
    os.replace(target + ".new", target)


def hello(req):
    req.write("hello\n")
    return apache.OK


def pid(req):
    req.write(str(os.getpid()))
    return apache.OK


def version(req):
    req.write(VERSION)
    return apache.OK


def wait(req):
    """Says who it is, then waits for the end of its process, or for a file of the test's."""
    note(req, req.args, os.getpid())
    gate = os.path.join(req.get_options()["scratch"], req.args + ".go")
    while not os.path.exists(gate):
        time.sleep(0.005)
    req.write("waited\n")
    return apache.OK


def begun(req):
    req.write("x" * 100_000)
    req.flush()
    return wait(req)


def begun_with_length(req):
    req.set_content_length(100_000 + len("waited\n"))
    return begun(req)


def reading(req):
    req.read(10)
    note(req, req.args, os.getpid())
    req.read()
    return apache.OK


def by_itself(req):
    os._exit(3)


def crash(req):
    os.kill(os.getpid(), 11)
    time.sleep(60)


def redirect(req):
    req.internal_redirect("/wait?" + req.args)
    return apache.OK
