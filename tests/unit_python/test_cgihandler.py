"""The handler ``mod_python.cgihandler``, with the test client in httpd's place."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any, List

import pytest
from sites import Site

from mod_python import cgihandler
from mod_python.testing import Client, Response

HEAD = "print('Content-Type: text/plain')\nprint()\n"


def run(site: Site, script: str, method: str = "GET", uri: str = "/script.py", **more: Any) -> Response:
    site.write("script.py", script)
    return Client("mod_python.cgihandler", directory=site.path).open(method, uri, **more)


def test_headers_and_body(site: Site) -> None:
    script = (
        "print('Status: 404 Nowhere')\nprint('X-Own: 1')\nprint('Content-Type: text/x-own')\nprint()\nprint('body')\n"
    )
    response = run(site, script)
    assert (response.status, response.reason, response.body) == (404, "Nowhere", b"body\n")
    assert (response.headers["X-Own"], response.content_type) == ("1", "text/x-own")


def test_environment(site: Site) -> None:
    before, streams, here = dict(os.environ), (sys.stdin, sys.stdout), os.getcwd()
    response = run(site, HEAD + (
        "import os, sys\n"
        "print(os.getcwd(), os.environ['REQUEST_METHOD'], os.environ['QUERY_STRING'], os.environ['HTTP_X_OWN'])\n"
        "print(os.environ['GATEWAY_INTERFACE'], __name__, os.path.basename(__file__), sys.modules[__name__].HERE)\n"
        "os.environ['LEFT_BEHIND'] = '1'\nos.chdir('/')\n"
    ).replace("import os", "HERE = 'here'\nimport os"), uri="/script.py?a=b", headers={"X-Own": "1"})  # fmt: skip
    first, second = response.text.splitlines()
    assert first == f"{site.path} GET a=b 1"
    assert second == "Python-CGI/1.1 script script.py here"
    assert (dict(os.environ), (sys.stdin, sys.stdout), os.getcwd()) == (before, streams, here)
    assert "script" not in sys.modules
    assert str(site.path) not in sys.path


def test_the_environment_reaches_programs(site: Site) -> None:
    script = (
        HEAD
        + "import subprocess, sys\nsys.stdout.write(subprocess.run(['sh', '-c', 'pwd; echo $QUERY_STRING'], capture_output=True, text=True).stdout)\n"
    )
    assert run(site, script, uri="/script.py?x").text == f"{site.path}\nx\n"


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        ("sys.stdin.read()", "'zwölf\\nzeilen'"), ("sys.stdin.readline()", "'zwölf\\n'"), ("sys.stdin.read(3)", "'zw\\udcc3'"),
        ("list(sys.stdin)", "['zwölf\\n', 'zeilen']"), ("sys.stdin.buffer.read()", "b'zw\\xc3\\xb6lf\\nzeilen'"),
        ("sys.stdin.buffer.readline()", "b'zw\\xc3\\xb6lf\\n'"), ("sys.stdin.buffer.read1(2)", "b'zw'"),
        ("io.TextIOWrapper(sys.stdin.buffer, 'utf-8').read()", "'zwölf\\nzeilen'"),
        ("(sys.stdin.isatty(), sys.stdin.readable(), sys.stdout.writable())", "(0, True, True)"),
    ],
)  # fmt: skip
def test_post(site: Site, read: str, wanted: str) -> None:
    script = HEAD + f"import io, sys\nprint(ascii({read}))\n"
    assert run(site, script, "POST", data="zwölf\nzeilen".encode()).text == ascii_of(wanted) + "\n"


def ascii_of(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def test_forms_of_the_cgi_module(site: Site) -> None:
    pytest.importorskip("cgi")
    script = HEAD + (
        "import cgi\nform = cgi.FieldStorage()\nprint(form.getfirst('a'), form['f'].filename, form['f'].file.read())\n"
    )
    response = run(site, script, "POST", data={"a": "ä"}, files={"f": ("x.txt", b"upload")})
    assert (response.text, response.log) == ("ä x.txt b'upload'\n", [])


def test_bytes_and_flushes(site: Site) -> None:
    script = (
        HEAD
        + "import sys\nprint('text', flush=True)\nsys.stdout.buffer.write(b'\\xff\\n')\nsys.stdout.buffer.flush()\nprint('text')\n"
    )
    assert run(site, script).body == b"text\n\xff\ntext\n"


def test_helpers_are_loaded_anew(site: Site) -> None:
    site.write("cgi_helper.py", "VALUE = 'first'\n")
    script = HEAD + "import cgi_helper, json\nprint(cgi_helper.VALUE)\n"
    assert run(site, script).text == "first\n"
    site.write("cgi_helper.py", "VALUE = 'second!'\n")
    assert run(site, script).text == "second!\n"
    assert "cgi_helper" not in sys.modules
    assert "json" in sys.modules


def test_each_request_starts_afresh(site: Site) -> None:
    script = HEAD + "try:\n    COUNT += 1\nexcept NameError:\n    COUNT = 1\nprint(COUNT)\n"
    assert [run(site, script).text for _ in range(2)] == ["1\n", "1\n"]


def test_a_changed_script_is_compiled_anew(site: Site) -> None:
    assert run(site, HEAD + "print(1)\n").text == "1\n"
    assert run(site, HEAD + "print(2)\n").text == "2\n"


@pytest.mark.parametrize(
    ("end", "status", "log"),
    [
        ("sys.exit()", 200, None), ("sys.exit(0)", 200, None), ("sys.exit(3)", 200, "has exited with status 3"),
        ("raise KeyError('k')", 200, "KeyError: 'k'"),
    ],
)  # fmt: skip
def test_ends(site: Site, end: str, status: int, log: Any) -> None:
    response = run(site, f"{HEAD}import sys\nprint('body', flush=True)\n{end}\n")
    assert (response.status, response.body[:5]) == (status, b"body\n")
    assert (response.log[-1].text.endswith(log) if log else response.log) == (True if log else [])


@pytest.mark.parametrize("script", ["", "print('no headers')", "import sys; sys.exit()", "x ="])
def test_no_headers_are_500(site: Site, script: str) -> None:
    response = run(site, script)
    assert (response.status, bool(response.log)) == (500, True)


def test_an_error_before_the_headers_puts_everything_back(site: Site) -> None:
    before, here = dict(os.environ), os.getcwd()
    assert run(site, "import os\nos.chdir('/')\nos.environ['X'] = '1'\nraise SystemError\n").status == 500
    assert (dict(os.environ), os.getcwd()) == (before, here)
    assert cgihandler._lock.acquire(blocking=False)
    cgihandler._lock.release()


def test_no_script() -> None:
    assert Client("mod_python.cgihandler", document_root="/").get("/no/such/script.py").status == 404
    assert Client("mod_python.cgihandler", document_root="/").get("/usr").status == 404
    assert Client("mod_python.cgihandler", location="/").get("/x").status == 404


def test_a_script_that_is_named_like_a_module(site: Site) -> None:
    import json

    site.write("json.py", HEAD + "print(__name__)\n")
    assert Client("mod_python.cgihandler", directory=site.path).get("/json.py").text == "json\n"
    assert sys.modules["json"] is json


def may_unshare() -> bool:
    """Whether a thread may have a current directory of its own here: some sandboxes say no."""
    results: List[int] = []
    thread = threading.Thread(target=lambda: results.append(ctypes.CDLL(None).unshare(cgihandler._CLONE_FS)))
    thread.start()
    thread.join()
    return results == [0]


def test_other_threads_keep_their_streams_and_scripts_take_turns(site: Site, capsys: Any) -> None:
    site.write("waits.py", HEAD + "import waiting\nwaiting.inside.set()\nwaiting.go_on.wait(60)\nprint('script')\n")
    waiting: Any = type(sys)("waiting")
    waiting.inside, waiting.go_on = threading.Event(), threading.Event()
    sys.modules["waiting"] = waiting
    client = Client("mod_python.cgihandler", directory=site.path)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(client.get("/waits.py").text)) for _ in range(2)]
    here = os.getcwd()
    threads[0].start()
    assert waiting.inside.wait(60)
    print("from another thread")
    own_directory = os.getcwd() == here
    threads[1].start()
    waiting.go_on.set()
    for thread in threads:
        thread.join()
    assert answers == ["script\n", "script\n"]
    assert capsys.readouterr().out == "from another thread\n"
    assert own_directory or not may_unshare()
