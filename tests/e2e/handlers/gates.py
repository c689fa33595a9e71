"""Handlers of test_never_open.py: each phase would let everybody in, if it ever got to run."""

import hashlib
import os
import signal
import time

from mod_python import apache


def _trouble(req):
    """What the query asks for happens before the phase can answer."""
    how = req.args
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        raise RuntimeError("no answer")
    if how == "exit":
        os._exit(3)
    if how == "hang":
        note = os.path.join(req.get_options()["scratch"], f"{req.phase}.{os.getpid()}")
        with open(note, "w"):
            pass
        time.sleep(3600)
    if how == "nonsense":
        return "let them in"
    return None


def accesshandler(req):
    return _trouble(req) or apache.OK


def authenhandler(req):
    trouble = _trouble(req)
    req.user = "somebody"
    return trouble or apache.OK


def authzhandler(req):
    return _trouble(req) or apache.OK


def checkpassword(req, user, password):
    _trouble(req)
    return password == "right"


def realmhash(req, user, realm):
    _trouble(req)
    return hashlib.md5(f"{user}:{realm}:right".encode()).hexdigest()


def groups(req, user):
    _trouble(req)
    return ["staff"]
