"""A stack of phases that hand a token on to each other; each checks that it is its own request's."""

from mod_python import apache


def _check(req, step):
    if getattr(req, "token", None) != req.headers_in["X-Token"]:
        raise RuntimeError(f"{step}: the request has the token of another")


def accesshandler(req):
    req.token = req.headers_in["X-Token"]
    return apache.OK


def authenhandler(req):
    _check(req, "authen")
    req.user = req.token
    return apache.OK


def fixuphandler(req):
    _check(req, "fixup")
    req.headers_out["X-Fixup"] = req.token
    return apache.OK


def handler(req):
    _check(req, "content")
    req.content_type = "text/plain"
    for word in ("user", req.user, "token", req.token):
        req.write(word + " ")
    return apache.OK


def outputfilter(filter):
    text = filter.read()
    while text:
        filter.write(text.upper())
        text = filter.read()
    if text is None:
        _check(filter.req, "filter")
        filter.write(b"END " + filter.req.token.upper().encode())
        filter.close()


def loghandler(req):
    # A request whose worker has died is logged all the same, by another one that never saw its token.
    if hasattr(req, "token"):
        _check(req, "log")
    return apache.OK
