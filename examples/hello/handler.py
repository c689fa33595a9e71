"""The smallest page. Change the text, save, reload."""

from mod_python import apache


def handler(req):
    req.content_type = "text/plain; charset=utf-8"
    req.write("Hello from Python, behind glass.\n")
    return apache.OK
