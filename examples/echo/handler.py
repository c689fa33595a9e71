"""Sends back what was posted, block by block, so that the size of the body does not matter."""

from mod_python import apache

BLOCK = 64 * 1024


def handler(req):
    if req.method != "POST":
        req.allow_methods(["POST"], 1)
        return apache.HTTP_METHOD_NOT_ALLOWED
    req.content_type = req.headers_in.get("Content-Type", "application/octet-stream")
    while block := req.read(BLOCK):
        req.write(block, 0)
    return apache.OK
