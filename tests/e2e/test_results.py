"""How a handler can end, and what the client and the log see of it."""

import pytest


def configure(server):
    server.allow("VIV0023").site("results")
    server.add("<LocationMatch ^/(broken|broken_late)/shown>\n PythonDebug On\n</LocationMatch>")


@pytest.mark.compat
@pytest.mark.parametrize("name, status", [
    ("ok", 200), ("done", 200), ("declined", 404), ("not_found", 404), ("unavailable", 503),
    ("none", 500), ("text", 500), ("float", 500), ("odd", 500), ("one", 500), ("negative", 500),
])
def test_returned(web, name, status):
    assert web.get(f"/result?{name}").status == status


@pytest.mark.compat
def test_no_integer_is_explained_in_the_log(web):
    web.get("/result?none")
    web.wait_log("Handler has returned result or raised SERVER_RETURN")
    web.wait_log("non integer type")


@pytest.mark.compat
def test_server_return(web):
    assert web.get("/raised?plain").status == 403
    late = web.get("/raised?late")
    assert (late.status, late.body) == (200, b"some output")
    assert web.get("/raised?status").status == 404
    assert web.get("/raised?other").status == 500


@pytest.mark.compat
def test_exception(web):
    before = len(web.log_lines("PythonHandler results: "))
    response = web.get("/broken")
    assert response.status == 500
    assert b"ValueError" not in response.body
    lines = web.wait_log("PythonHandler results: ", before + 2)[before:]
    assert "Traceback (most recent call last):" in lines[0]
    assert "ValueError: a <message> & more" in lines[-1]
    assert any("results.py" in line for line in lines)
    assert all("[client 127.0.0.1:" in line for line in lines)


@pytest.mark.compat
def test_exception_with_debug(web):
    response = web.get("/broken/shown")
    assert response.status == 500
    assert response.header("Content-Type") == "text/html"
    assert response.text.startswith('\n<pre>\nMod_python error: "PythonHandler results"\n\n')
    assert "ValueError: a &lt;message&gt; &amp; more" in response.text
    assert response.text.rstrip().endswith("</pre>")
    web.wait_log("ValueError: a <message> & more")


@pytest.mark.compat
def test_exception_after_output_with_debug(web):
    response = web.get("/broken_late/shown")
    assert response.status == 200
    assert response.text.startswith("some output\n")
    assert "ValueError: too late" in response.text


@pytest.mark.compat
def test_system_exit_ends_the_request_only(web):
    assert web.get("/leave").status == 500
    assert web.get("/result?ok").status == 200


@pytest.mark.compat
def test_a_missing_function(web):
    assert web.get("/no_such_function").status == 500
    web.wait_log("KeyError: 'no_such_function'")


@pytest.mark.compat
def test_an_error_after_output_is_appended(web):
    response = web.get("/body_then_error")
    assert response.status == 200
    assert response.text.startswith("written")
