"""Where Python runs: not in httpd, not as root, not with anything of httpd's in hand."""

import json
import os

from harness import procs
from harness.sockets import listening_inode


def configure(server):
    server.environment["SECRET_OF_THE_SHELL"] = "xyzzy"
    server.site("hello")


def who(web):
    response = web.get("/who")
    assert response.status == 200, response
    web.tree()
    return json.loads(response.body)


def test_hello(web):
    response = web.get("/hello")
    assert (response.status, response.body) == (200, b"hello\n")
    assert response.header("Content-Type") == "text/plain"


def test_httpd_maps_no_python(web):
    who(web)
    for pid in (web.process.pid, web.supervisor(), *web.httpd_children()):
        assert procs.map_count(pid, r"libpython|lib-dynload|lib_vivarium") == 0
        assert procs.map_count(pid, r"libc\.so") > 0  # the file is readable and says something
    worker = who(web)["pid"]
    assert procs.map_count(worker, "lib_vivarium") > 0


def test_python_is_a_child_of_the_supervisor(web):
    seen = who(web)
    assert seen["pid"] in web.workers()
    assert seen["ppid"] == web.supervisor()
    assert seen["pid"] not in web.httpd_children()


def test_python_runs_without_privileges(web):
    seen = who(web)
    status = dict(line.split(":\t", 1) for line in seen["status"].splitlines())
    assert status["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    if os.geteuid() == 0:
        assert seen["uid"] != 0
        assert 0 not in seen["groups"]
    else:
        assert seen["uid"] == os.geteuid()


def test_pythons_environment_is_clean(web):
    environ = who(web)["environ"]
    assert "SECRET_OF_THE_SHELL" not in environ
    assert not [name for name in environ if name.startswith(("APACHE_", "LISTEN_"))]


def test_python_holds_nothing_of_httpds(web):
    pid = who(web)["pid"]
    held = procs.fds(pid)
    assert f"socket:[{listening_inode(web.port)}]" in procs.fds(web.process.pid).values()
    assert f"socket:[{listening_inode(web.port)}]" not in held.values()
    assert not [path for path in held.values() if path.startswith(str(web.prefix))], held
    assert held[0] == "/dev/null"


def test_the_same_worker_process_serves_again(web):
    pids = {who(web)["pid"] for _ in range(30)}
    assert pids <= set(web.workers())
