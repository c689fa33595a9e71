"""Python Server Pages through httpd."""

import os
import re
import threading

import pytest

from harness import wait_until

CONF = """\
DocumentRoot "{htdocs}"
PythonOption mod_python.session.database_directory {scratch}
<Directory "{htdocs}">
    Require all granted
    SetHandler mod_python
    PythonHandler mod_python.psp
</Directory>
<Directory "{htdocs}/debug">
    PythonDebug On
</Directory>
<Directory "{htdocs}/escape">
    PythonOption mod_python.psp.autoescape On
</Directory>
"""

PAGES = {
    "counter.psp": "<% session['n'] = session.get('n', 0) + 1 %><%= session['n'] %>",
    "form.psp": "<%= form.getfirst('name', '-') %>",
    "escape/form.psp": "<%= form.getfirst('name', '-') %>|<%== form.getfirst('name', '-') %>",
    "large.psp": "0123456789abcdef" * 65536 + "<%= 'end' %>",
    "streamed.psp": "<% for n in range(1000): %><%= n %>\n<% if n % 100 == 0: req.flush() %><% end %>",
    "error.psp": "<%\nx = 1\n%>\n<%@ include file='parts/broken.psp' %>",
    "parts/broken.psp": "\n<%\ndef fails():\n    return 1 / 0\n\n%>\n<%= fails() %>\n",
    "debug/error.psp": "<%\n1 / 0\n%>",
    "debug/syntax.psp": "a\nb <% for x in y %>\n",
    "same.psp": "<% for n in range(50): %><%= req.args %><% end %>",
    "edited.psp": "before",
    "including.psp": "<%@ include file='included.psp' %>",
    "included.psp": "before",
    "unreadable.psp": "secret",
}


def configure(server):
    for name, text in PAGES.items():
        path = server.write(name, text)
        if name == "unreadable.psp":
            path.chmod(0)
    server.add(CONF.format(htdocs=server.htdocs, scratch=server.scratch))


def test_a_session_lasts(web):
    first = web.get("/counter.psp")
    cookie = [("Cookie", first.header("Set-Cookie").split(";")[0])]
    assert [first.text, *(web.get("/counter.psp", cookie).text for _ in range(3))] == ["1", "2", "3", "4"]
    assert web.get("/counter.psp").text == "1"


def test_requests_of_one_session_come_one_after_the_other(web):
    first = web.get("/counter.psp")
    cookie = [("Cookie", first.header("Set-Cookie").split(";")[0])]
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(int(web.get("/counter.psp", cookie).text))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(2, 14))


def test_forms_are_text_and_escaped_if_wanted(web):
    assert web.get("/form.psp?name=%C3%BC%3Cb%3E").text == "ü<b>"
    assert web.get("/escape/form.psp?name=%3Cb%3E").text == "&lt;b&gt;|<b>"
    body, kind = "name=ü".encode(), [("Content-Type", "application/x-www-form-urlencoded")]
    assert web.post("/form.psp", body, kind).text == "ü"


def test_large_and_streamed_pages(web):
    assert web.get("/large.psp").text == PAGES["large.psp"].partition("<%")[0] + "end"
    assert web.get("/streamed.psp").text.split() == [str(n) for n in range(1000)]


def test_a_page_in_many_threads(web):
    seen = {}

    def ask(number):
        seen[number] = web.get(f"/same.psp?{number}").text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: str(number) * 50 for number in range(24)}


def test_an_error_is_logged_with_the_lines_of_the_files(web):
    web.get("/error.psp")
    found = "\n".join(web.wait_log("PythonHandler mod_python.psp: ZeroDivisionError: division by zero")
                      and web.log_lines("PythonHandler mod_python.psp:"))
    assert re.search(r'parts/broken\.psp", line 7, in <module>\n.*<%= fails\(\) %>', found)
    assert re.search(r'parts/broken\.psp", line 4, in fails\n.*return 1 / 0', found)
    assert "mod_python/psp.py" not in found


def test_the_debug_page(web):
    answer = web.get("/debug/error.psp")
    assert answer.status == 500
    assert "error.psp&quot;, line 2" in answer.text and "ZeroDivisionError" in answer.text
    answer = web.get("/debug/syntax.psp")
    assert answer.status == 500
    assert "syntax.psp&quot;, line 2" in answer.text and "b &lt;% for x in y %&gt;" in answer.text


@pytest.mark.skipif(os.geteuid() != 0, reason="the files are Python's own: it can read them all")
def test_a_page_that_python_may_not_read(web):
    assert web.get("/unreadable.psp").status == 403
    web.wait_log("unreadable.psp: Permission denied")


def test_the_source_is_shown_for_debugging_only(web):
    assert "1 / 0" in web.get("/debug/error.psp_").text
    for path in ("/error.psp_", "/debug/none.psp_", "/debug/error.psp__"):
        assert web.get(path).status == 404, path


@pytest.mark.parametrize(("page", "file"), [("/edited.psp", "edited.psp"), ("/including.psp", "included.psp")])
def test_an_edit_shows(web, page, file):
    assert web.get(page).text == "before"
    web.write(file, "after the edit")
    assert {web.get(page).text for _ in range(10)} == {"after the edit"}
    web.write(file, "before")
    wait_until(lambda: web.get(page).text == "before", "the old text")


@pytest.mark.parametrize("path", [
    "/none.psp", "/", "/parts", "/parts/", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/form.psp%00", "/%00",
    "/form.psp%00.html", "/" + "a" * 300, "/" + "a/" * 2000, "/%ff%fe", "/form.psp_", "/%C3%BC.psp", "/_", "//etc/passwd",
    "/form.psp?" + "&".join(f"a{n}=1" for n in range(1500)), "/form.psp?name=%",
])
def test_hostile_names(web, path):
    answer = web.get(path)
    assert answer.status < 500, answer
    assert b"root:" not in answer.body
