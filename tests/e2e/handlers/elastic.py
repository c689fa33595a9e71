"""Handlers of test_elastic.py."""

import os
import time

from mod_python import apache


def _scratch(req, name):
    return os.path.join(req.get_options()["scratch"], name)


def _until(path):
    while not os.path.exists(path):
        time.sleep(0.005)


def pid(req):
    """The worker's number."""
    req.write(str(os.getpid()))
    return apache.OK


def hold(req):
    """Stays until the file that the query names is there."""
    with open(_scratch(req, f"held.{os.getpid()}.{req.args}"), "w"):
        pass
    _until(_scratch(req, req.args.split("-")[0]))
    req.write(str(os.getpid()))
    return apache.OK


def remember(req):
    """As an access handler: leaves something on the request for its log handler."""
    req.seen_by = os.getpid()
    return apache.OK


def recall(req):
    """As a log handler: what is left of it."""
    with open(_scratch(req, "recalled"), "a") as file:
        file.write(f"{getattr(req, 'seen_by', 'nobody')} {os.getpid()}\n")
    return apache.OK
