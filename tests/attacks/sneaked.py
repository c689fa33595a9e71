"""What one tenant would have another's Python run."""

import os


def _note(req):
    req.log_error(f"sneaked uid {os.getuid()}")


def grab(filter):
    _note(filter.req)
    data = filter.read()
    while data:
        filter.write(data.replace(b"secret", b"SNEAKED"))
        data = filter.read()
    if data is None:
        filter.close()


def accesshandler(req):
    _note(req)
    return 0
