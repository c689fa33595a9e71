"""Handlers of test_sessions.py: `/count/File` counts in a FileSession."""

import json
import os
import signal
import time

from mod_python import Session, apache


def answer(req, value):
    req.content_type = "application/json"
    req.write(json.dumps(value))
    return apache.OK


def opened(req, **more):
    """The session of the kind that the path names."""
    kind = req.uri.split("/")[2]
    return getattr(Session, kind + "Session")(req, **more)


def note(req, name, text=""):
    """Tells the test something: a file with that name."""
    path = os.path.join(req.get_options()["scratch"], name)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


def wait_for(req, name):
    """Waits until the test says so."""
    path = os.path.join(req.get_options()["scratch"], name)
    while not os.path.exists(path):
        time.sleep(0.005)


def count(req):
    session = opened(req)
    session["hits"] = session.get("hits", 0) + 1
    # Whoever else is let in now reads the old number.
    time.sleep(0.001)
    session.save()
    return answer(req, [session["hits"], session.is_new(), os.getpid()])


def read(req):
    return answer(req, dict(opened(req)))


def hold(req):
    """Opens the session, waits for the test, and then saves."""
    session = opened(req)
    session["held"] = session.get("held", 0) + 1
    note(req, "holding", str(os.getpid()))
    wait_for(req, "go")
    session.save()
    return answer(req, dict(session))


def die(req):
    """Dies with the session's lock in its hands."""
    session = opened(req)
    session["lost"] = 1
    os.kill(os.getpid(), signal.SIGKILL)


def login(req):
    session = opened(req)
    session["user"] = req.args
    session.regenerate()
    return answer(req, session.id())


def inner(req):
    """A page that is reached by a redirect inside of httpd, and wants the same session."""
    session = opened(req)
    session["inner"] = 1
    session.save()
    return answer(req, dict(session))


def outer(req):
    session = opened(req)
    session["outer"] = 1
    session.save()
    req.headers_in["Cookie"] = "pysid=" + session.id()
    req.internal_redirect("/inner/" + req.uri.split("/")[2])
    return apache.OK


def slow_lock(req):
    """Another request has it: how long does this one wait?"""
    req.get_options()["mod_python.session.lock_timeout"] = "0.05"
    opened(req)
    return answer(req, "let in")
