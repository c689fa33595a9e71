"""Clean-ups that run when httpd stops can only be seen in the log of a server that has stopped."""

import re

from suite.case import Case, Group
from suite.runner import CaseServer

ROW = "23.clean-ups run at stop"

GROUP = Group("stop", (
    Case("stop-server", ROW, """
        def note(data):
            apache.log_error("at the end: server " + data)
        def handler(req):
            req.server.register_cleanup(req, note, "data")
            return answer(req, "registered")
    """),
    Case("stop-apache", ROW, """
        def note(data):
            apache.log_error("at the end: child " + data)
        def handler(req):
            apache.register_cleanup(note, "data")
            return answer(req, "registered")
    """),
    Case("stop-broken", ROW, """
        def broken(data):
            raise ValueError("at the end: broken")
        def handler(req):
            apache.register_cleanup(broken, None)
            return answer(req, "registered")
    """),
))

ALL = ["at the end: broken", "at the end: child data", "at the end: server data"]


def at_the_end(flavour, mpm, stage):
    """What a server's clean-ups wrote to its log while it stopped."""
    server = CaseServer(GROUP, mpm=mpm, flavour=flavour, stage=stage)
    try:
        server.start()
        for case in GROUP.cases:
            assert server.ask(case)["body"] == "registered"
        assert "at the end" not in server.log_text()
        server.tree()
        server.stop()
        return sorted(set(re.findall(r"at the end: .*", server.log_text())))
    finally:
        server.finish()


def test_clean_ups_run_at_stop(servers, mpm):
    assert at_the_end("vivarium", mpm, servers.stage) == ALL


def test_mod_python_does_the_same(servers):
    assert at_the_end("mod_python", "event", servers.stage) == ALL
