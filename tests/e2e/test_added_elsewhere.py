"""Handlers that an early phase adds run where they were added, also when the request comes to another interpreter's section."""

import pytest

SITE = """
DocumentRoot "{htdocs}"
PythonPath "['{htdocs}'] + sys.path"
PythonInterpreter early
PythonTransHandler added::early
<Directory "{htdocs}">
    Require all granted
    PythonInterpreter late
    SetHandler mod_python
    PythonHandler added
</Directory>
"""

HANDLERS = """
import os
from mod_python import apache

def early(req):
    for phase in (req.args or "").split("&"):
        if phase:
            req.add_handler(phase, "added::" + phase[6:].lower())
    return apache.DECLINED

def handler(req):
    req.write("%s %s %s\\n" % (req.interpreter, req.notes.get("seen", "-"), os.getpid()))
    return apache.OK

def accesshandler(req):
    req.notes["seen"] = req.interpreter
    return apache.HTTP_FORBIDDEN if "no" in req.uri else apache.OK

def fixuphandler(req):
    req.notes["seen"] = req.notes.get("seen", "") + "+fixup"
    return apache.OK
"""


@pytest.fixture
def server(make_server, mpm):
    server = make_server(mpm=mpm)
    server.write("added.py", HANDLERS)
    for name in ("page", "no"):
        server.write(name, "")
    server.add(SITE.format(htdocs=server.htdocs))
    return server.start()


def test_nothing_is_let_in_for_want_of_its_handler(server):
    assert server.get("/no?PythonAccessHandler").status == 403
    assert server.get("/no").status == 200, "nobody forbids it"


def test_it_runs_beside_those_of_the_section(server):
    assert server.get("/page").text.startswith("late - ")
    assert server.get("/page?PythonAccessHandler").text.startswith("late early ")
    assert server.get("/page?PythonAccessHandler&PythonFixupHandler").text.startswith("late early+fixup ")
