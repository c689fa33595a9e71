"""What httpd does around Python: what comes after the answer, other modules' look-ups, files, the end."""

import gzip

import pytest

from harness import procs, wait_until

LARGE = bytes(range(256)) * 4096
EXTRA = """\
PythonFixupHandler around
    PythonLogHandler around
    PythonCleanupHandler around
"""
# What is known of the file that was found first, if a handler names another and says nothing of it.
SIZE_OF = {"": len("any\n")}
CONF = """\
PythonPath "['{htdocs}'] + sys.path"
<Directory "{htdocs}/variants">
    Options +MultiViews
    SetHandler none
    AddLanguage de .de
    AddLanguage en .en
    LanguagePriority en de
    ForceLanguagePriority Prefer Fallback
</Directory>
<Directory "{htdocs}/files">
    SetHandler none
    PythonFixupHandler around::replaced
    SetOutputFilter DEFLATE
</Directory>
"""


def configure(server):
    server.extra_modules = ("negotiation", "deflate")
    server.write("variants/page.html.de", "deutsch\n")
    server.write("variants/page.html.en", "english\n")
    server.write("large.bin", LARGE)
    server.write("small.txt", "small\n")
    server.write("files/any.txt", "any\n")
    server.site("around", EXTRA)
    server.add(CONF.format(htdocs=server.htdocs))


@pytest.mark.parametrize("phase", ["log", "cleanup"])
def test_nothing_waits_for_what_comes_after_the_answer(web, phase):
    """The answer is there, and the connection's next requests are, while the handler still runs."""
    with web.connect() as connection:
        assert connection.request("GET", f"/late?{phase}").body == b"answered\n"
        wait_until((web.scratch / phase).exists, "the handler")
        for _ in range(3):
            assert connection.request("GET", "/late").body == b"answered\n"
        assert not web.log_lines("handler has run")
        (web.scratch / f"{phase}.go").touch()
        name = {"log": "log", "cleanup": "clean-up"}[phase]
        web.wait_log(f"the {name} handler has run")
    (web.scratch / phase).unlink()
    (web.scratch / f"{phase}.go").unlink()
    web.log.write_text("")


@pytest.mark.parametrize("language, body", [("de", b"deutsch\n"), ("en", b"english\n"), ("fr", b"english\n")])
def test_negotiation(web, language, body):
    """mod_negotiation looks the variants up by sub-requests; the chosen one is served, and Python has seen it."""
    response = web.get("/variants/page.html", [("Accept-Language", language)])
    assert (response.status, response.body) == (200, body)
    assert response.header("Content-Language") == ("de" if language == "de" else "en")
    assert response.header("X-Seen")


@pytest.mark.parametrize("told", ["large.bin", ""])
def test_a_file_is_never_larger_than_it_is(web, told):
    """Whatever size a handler gives it: httpd maps files to compress them, and would die beyond the end of one."""
    response = web.get(f"/files/any.txt?small.txt:{told}", [("Accept-Encoding", "gzip")])
    assert response.status == 200
    body = gzip.decompress(response.body) if response.header("Content-Encoding") else response.body
    assert body == b"small\n"[:SIZE_OF.get(told)]


def test_a_file_of_a_handlers_choice(web):
    assert web.get("/files/any.txt?large.bin:large.bin").body == LARGE


def test_httpd_ends_when_python_has_ended(make_server, mpm):
    """What clean-ups write at the end is in the log, and no process is left, when httpd is gone."""
    server = make_server(mpm=mpm)
    server.supervisor_config("[default]\nprocesses = 2\nthreads = 2\n")
    server.site("around").start()
    assert server.get("/forget?a").body == b"registered\n"
    pids = server.tree()
    server.stop()
    assert len(server.log_lines("the worker ends: a")) == 1
    assert server.log_lines("VIV0002.*no worker is left")
    assert not [pid for pid in pids if procs.alive(pid)]
