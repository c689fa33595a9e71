"""Handlers of test_around.py."""

import os
import time

from mod_python import apache


def _wait(req, name):
    """Says that it is here, and waits until the test lets it go on."""
    scratch = req.get_options()["scratch"]
    with open(os.path.join(scratch, name), "w"):
        pass
    while not os.path.exists(os.path.join(scratch, name + ".go")):
        time.sleep(0.01)


def late(req):
    req.write("answered\n")
    return apache.OK


def loghandler(req):
    if req.args == "log":
        _wait(req, "log")
        req.log_error("the log handler has run")
    return apache.OK


def cleanuphandler(req):
    if req.args == "cleanup":
        _wait(req, "cleanup")
        req.log_error("the clean-up handler has run")
    return apache.OK


def fixuphandler(req):
    if req.uri.startswith("/variants"):
        seen = f"{req.uri} {req.content_languages} {req.main is not None}"
        (req.main or req).headers_out.add("X-Seen", seen)
    return apache.OK


def replaced(req):
    """Another file than httpd has found, and what is known of it."""
    req.filename = req.document_root() + "/" + req.args.split(":")[0]
    told = req.args.split(":")[1]
    if told:
        req.finfo = apache.stat(req.document_root() + "/" + told, apache.APR_FINFO_NORM)
    return apache.OK


def forget(req):
    import _apache

    _apache.register_cleanup("", req.server, lambda data: apache.log_error("the worker ends: " + data), req.args)
    req.write("registered\n")
    return apache.OK
