"""An answer that arrives line by line. A client that goes away ends it."""

import time

from mod_python import apache


def handler(req):
    req.content_type = "text/plain"
    try:
        for second in range(10, 0, -1):
            req.write(f"{second}\n")  # written and flushed
            time.sleep(1)
    except OSError:
        req.log_error("the client did not wait for the end", apache.APLOG_INFO)
        return apache.OK
    req.write("lift-off\n")
    return apache.OK
