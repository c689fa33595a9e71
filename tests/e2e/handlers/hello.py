"""A page, and what it is made by."""

import json
import os
import pwd

from mod_python import apache


def hello(req):
    req.content_type = "text/plain"
    req.write("hello\n")
    return apache.OK


def who(req):
    req.content_type = "application/json"
    req.write(json.dumps({
        "pid": os.getpid(), "ppid": os.getppid(), "uid": os.getuid(), "user": pwd.getpwuid(os.getuid()).pw_name,
        "groups": os.getgroups(), "fds": sorted(os.listdir("/proc/self/fd")), "environ": dict(os.environ),
        "status": open("/proc/self/status").read(), "cwd": os.getcwd(),
    }))
    return apache.OK
