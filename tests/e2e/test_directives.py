"""The directives: what they do at each place, how sections merge, and what configtest says of wrong ones."""

import json
import re

import pytest

SHOW = """
import json, os, sys
from mod_python import apache
try:
    import helper
    HELPER = helper.WHERE
except ImportError:
    HELPER = None

def handler(req):
    seen = {"options": dict(req.get_options()), "interpreter": req.interpreter, "helper": HELPER, "pid": os.getpid(),
            "path": sys.path, "server_options": dict(req.server.get_options()), "name": %r}
    req.content_type = "application/json"
    req.write(json.dumps(seen))
    return apache.OK

def again(req):
    req.write("again")
    return apache.OK

class Page:
    def __init__(self, req):
        self.made_with = req
    def show(self, req):
        req.write(str(self.made_with is req))
        return apache.OK

class Deep(Page):
    page = Page
"""


def configure(server):
    names = ("plain", "inner", "named", "paths", "program", "listed", "stopped", "object", "method")
    for name in names:
        server.write(f"{name}/m_{name}.py", SHOW % name)
    server.write("plain/inner/m_inner.py", SHOW % "inner")
    server.write("library/helper.py", "WHERE = 'library'\n")
    server.write("own/helper.py", "WHERE = 'own'\n")
    server.write("own/m_own.py", SHOW % "own")
    root = server.htdocs

    def section(name, lines):
        server.add(f'<Directory "{root}/{name}">\n{lines}\n</Directory>')

    server.add(f"""
        DocumentRoot "{root}"
        PythonOption everywhere server
        PythonOption changed server
        PythonOption removed server
        <Directory "{root}">
            Require all granted
            SetHandler mod_python
        </Directory>
    """)
    section("plain", "PythonHandler m_plain\n PythonOption changed plain\n PythonOption removed\n PythonOption here yes")
    section("plain/inner", "PythonHandler m_inner\n PythonOption changed inner")
    section("named", "PythonHandler m_named\n PythonInterpreter a_name")
    section("paths", f"PythonHandler m_paths\n PythonInterpreter paths\n"
                     f"PythonPath \"['{root}/library', '{root}/paths'] + sys.path\"")
    section("own", "PythonHandler m_own\n PythonInterpreter own")
    section("program", "SetHandler python-program\n PythonHandler m_program")
    section("listed", "PythonHandler m_listed m_listed::again\n PythonHandler m_listed::again")
    section("stopped", "PythonHandler m_stopped::missing m_stopped")
    section("object", "PythonHandler m_object::Page.show")
    section("method", "PythonHandler m_method::Deep.page.show")
    server.add(f"""
        <Location "/located">
            Require all granted
            SetHandler mod_python
            PythonPath "['{root}/plain'] + sys.path"
            PythonInterpreter located
            PythonHandler m_plain
        </Location>
        <Location "/unhandled">
            SetHandler none
            PythonHandler m_plain
        </Location>
    """)


def ask(web, target):
    response = web.get(target)
    assert response.status == 200, response
    return json.loads(response.body)


@pytest.mark.compat
def test_options_overlay_by_key(web):
    options = ask(web, "/plain/")["options"]
    assert options == {"everywhere": "server", "changed": "plain", "here": "yes"}
    options = ask(web, "/plain/inner/")["options"]
    assert (options["everywhere"], options["changed"], options["here"]) == ("server", "inner", "yes")


@pytest.mark.compat
def test_an_inner_handler_replaces_the_outer_one(web):
    assert ask(web, "/plain/")["name"] == "plain"
    assert ask(web, "/plain/inner/")["name"] == "inner"


@pytest.mark.compat
def test_server_options(web):
    assert ask(web, "/plain/")["server_options"]["changed"] == "server"


@pytest.mark.compat
def test_interpreter_names(web):
    assert ask(web, "/plain/")["interpreter"] == "127.0.0.1"
    assert ask(web, "/named/")["interpreter"] == "a_name"


@pytest.mark.compat
def test_the_sections_directory_is_searched_first(web):
    seen = ask(web, "/own/")
    assert seen["helper"] == "own"
    assert seen["path"][0].rstrip("/") == f"{web.htdocs}/own"


@pytest.mark.compat
def test_python_path_replaces_the_search_path(web):
    seen = ask(web, "/paths/")
    assert seen["helper"] == "library"
    assert seen["path"][:2] == [f"{web.htdocs}/library", f"{web.htdocs}/paths"]


@pytest.mark.compat
def test_python_program_is_the_same_handler(web):
    assert ask(web, "/program/")["name"] == "program"


@pytest.mark.compat
def test_location(web):
    assert ask(web, "/located/")["name"] == "plain"
    assert ask(web, "/located")["interpreter"] == "located"


@pytest.mark.compat
def test_a_list_of_handlers(web):
    assert web.get("/listed/").text.endswith("}againagain")


@pytest.mark.compat
def test_an_error_ends_the_list(web):
    assert web.get("/stopped/").status == 500
    web.wait_log("AttributeError.*missing")


@pytest.mark.compat
def test_classes_are_made_with_the_request(web):
    assert web.get("/object/").text == "True"
    assert web.get("/method/").text == "True"


@pytest.mark.compat
def test_without_its_handler_name_nothing_runs(web):
    assert web.get("/unhandled").status == 404


@pytest.mark.compat
def test_an_unknown_module_is_500(make_server):
    server = make_server()
    server.add('<Location "/">\nRequire all granted\nSetHandler mod_python\nPythonHandler no_such_module\n</Location>')
    server.start()
    assert server.get("/").status == 500
    server.wait_log("No module named 'no_such_module'")


@pytest.mark.parametrize("line", [
    "PythonDebug Maybe", "PythonOption", "PythonOption a b c", "PythonInterpreter", "PythonPath", "PythonPath a b",
    "PythonOutputFilter", "PythonOutputFilter a b c",
])
@pytest.mark.compat
def test_configtest_names_the_directive(make_server, line):
    server = make_server()
    server.add(line)
    done = server.configtest()
    assert done.returncode != 0
    assert line.split()[0] in done.stderr.partition("httpd.conf:")[2]
    assert re.search(r"Syntax error on line \d+", done.stderr)


@pytest.mark.parametrize("line", ["PythonHandler", "PythonHandler | .html", "PythonHandler a | html"])
def test_configtest_checks_handler_lists(make_server, line):
    server = make_server()
    server.add(line)
    done = server.configtest()
    assert done.returncode != 0
    assert "PythonHandler" in done.stderr.partition("httpd.conf:")[2]


@pytest.mark.parametrize("line", [
    "VivariumDaemon", "VivariumDaemon sometimes", "VivariumDaemon unix:", "VivariumDaemon unix:relative/path",
    "VivariumDaemon managed /no/such/vivariumd",
])
def test_configtest_checks_vivarium_daemon(make_server, line):
    server = make_server()
    server.add(line)
    done = server.configtest()
    assert done.returncode != 0
    assert "VivariumDaemon" in done.stderr.partition("httpd.conf:")[2]


def test_configtest_starts_nothing(make_server):
    server = make_server()
    server.site("hello")
    done = server.configtest()
    assert (done.returncode, "Syntax OK" in done.stderr) == (0, True)
    assert not server.log_lines("VIV")
