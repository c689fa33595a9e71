"""Handlers of test_results.py: ways to end."""

from mod_python import apache

RESULTS = {
    "none": None, "text": "200", "float": 1.5, "odd": 999, "one": 1, "negative": -5,
    "ok": apache.OK, "declined": apache.DECLINED, "done": apache.DONE, "two_hundred": 200,
    "not_found": apache.HTTP_NOT_FOUND, "teapot": 418, "unavailable": apache.HTTP_SERVICE_UNAVAILABLE,
}

def result(req):
    return RESULTS[req.args]


def raised(req):
    if req.args == "plain":
        raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN)
    if req.args == "late":
        req.write("some output")
        raise apache.SERVER_RETURN(apache.OK)
    if req.args == "status":
        raise apache.SERVER_RETURN(apache.DONE, apache.HTTP_NOT_FOUND)
    raise apache.SERVER_RETURN("text")


def broken(req):
    req.headers_out["X-Before"] = "1"
    raise ValueError("a <message> & more")


def broken_late(req):
    req.write("some output\n")
    req.flush()
    raise ValueError("too late")


def leave(req):
    raise SystemExit(3)


def body_then_error(req):
    req.write("written")
    return apache.HTTP_INTERNAL_SERVER_ERROR
