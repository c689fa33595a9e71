"""The request object: what a handler reads and what it may set."""

import json

import pytest

pytestmark = pytest.mark.compat

FILE = b"0123456789\n"


def configure(server):
    server.write("file.txt", FILE)
    server.site("request", 'PythonOption colour green\n PythonOption gone x\n SetEnv FROM_CONF yes')


def ask(web, target, headers=()):
    response = web.get(target, headers)
    assert response.status == 200, response
    return json.loads(response.body)


def test_request_line(web):
    seen = json.loads(web.get("/line/a%20b?x=1&y=%20", host="Example.org").body)
    assert seen["method"] == "GET"
    assert seen["uri"] == "/line/a b"
    assert seen["unparsed_uri"] == "/line/a%20b?x=1&y=%20"
    assert seen["args"] == "x=1&y=%20"
    assert seen["protocol"] == "HTTP/1.1"
    assert seen["the_request"] == "GET /line/a%20b?x=1&y=%20 HTTP/1.1"
    assert seen["hostname"].lower() == "example.org"
    assert (seen["header_only"], seen["proto_num"], seen["method_number"]) == (0, 1001, 0)
    assert seen["filename"] == f"{web.htdocs}/line"
    assert seen["path_info"] == "/a b"
    assert seen["handler"] == "mod_python"
    assert [seen[k] for k in ("user", "main", "prev", "next")] == [None] * 4


def test_no_query_is_none(web):
    assert ask(web, "/line")["args"] is None


def test_head_has_no_body(web):
    response = web.request("HEAD", "/unicode_write")
    assert (response.status, response.body) == (200, b"")


def test_headers_in(web):
    seen = ask(web, "/headers", [("X-One", "1"), ("X-Two", "a")])
    assert seen == {
        "one": "1", "upper": "1", "two": "a", "missing": None, "default": "d", "in": [True, False], "first": "a",
    }


def test_headers_out(web):
    response = web.get("/answer_headers")
    assert response.all("X-Set") == ["new"]
    assert response.all("X-Twice") == ["1", "2"]
    assert response.all("X-Gone") == []
    assert response.all("X-Err") == ["kept"]
    assert json.loads(response.body) == ["x-set", "x-twice", "x-twice"]


def test_an_error_keeps_err_headers_only(web):
    response = web.get("/error_headers")
    assert response.status == 404
    assert response.header("X-Kept") == "1"
    assert response.header("X-Dropped") is None


def test_tables(web):
    assert ask(web, "/tables") == {
        "list": ["a", "b"], "get": "a", "keys": ["key", "key", "other"], "len": 3,
        "items": [["KEY", "b"], ["Key", "a"], ["other", "c"]],
        "after": [False, {"other": "c"}], "error": "KeyError", "copy": ["c", "changed"], "cleared": 0,
        "own": ["1", "2"],
    }


def test_table_types(web):
    assert ask(web, "/table_types") == ["TypeError", "TypeError", "TypeError", "no error", "TypeError"]


def test_subprocess_env(web):
    seen = ask(web, "/environment")
    assert seen == {"SERVER_PORT": str(web.port), "REMOTE_ADDR": "127.0.0.1", "OWN": "x", "FROM_CONF": "yes"}


@pytest.mark.parametrize("status", [200, 201, 404, 503])
def test_status_with_a_body_of_its_own(web, status):
    response = web.get(f"/status?{status}")
    assert (response.status, response.body) == (status, b"own body")


def test_content_type(web):
    assert web.get("/content_type").header("Content-Type") == "text/x-one"


def test_attribute_types(web):
    assert ask(web, "/attribute_types") == {
        "own": {"any": "thing"}, "status": "TypeError", "uri": "TypeError", "args": "no error",
        "method": "AttributeError", "euro": "TypeError",
    }


def test_connection_and_server(web):
    seen = ask(web, "/peers")
    assert seen["local"] == ["127.0.0.1", web.port]
    assert seen["client"][0] == seen["client_ip"] == "127.0.0.1"
    assert (seen["hostname"], seen["virtual"], seen["timeout"]) == ("127.0.0.1", False, 60.0)
    assert seen["types"] == [f"<class '{name}'>" for name in ("mp_request", "mp_conn", "mp_server", "mp_table")]
    assert seen["same"] == [True, True]


def test_bytes_sent_is_live(web):
    body = web.get("/sent").text
    assert body.startswith("x" * 1000)
    assert json.loads(body[1000:]) == [0, True, 1]


def test_cleanups_run_after_the_request(web):
    ask(web, "/cleanup")
    web.wait_log("cleanup ran with its data")
    web.wait_log("cleanup ran with None")


def test_a_broken_cleanup_is_logged(web):
    ask(web, "/broken_cleanup")
    web.wait_log("python_cleanup: Error calling cleanup object")
    web.wait_log("RuntimeError.*in the cleanup")


def test_log(web):
    ask(web, "/log")
    # The lines are there when the answer is: nothing to wait for.
    assert "[client 127.0.0.1:" in web.log_lines("an error line")[0]
    assert web.log_lines("a warning line") and web.log_lines("a server line")
    assert web.log_lines("a stderr line")


def test_print_goes_to_the_log(web):
    if web.flavour == "vivarium":
        ask(web, "/log")
        assert web.log_lines("a printed line")


def test_options(web):
    options, config, interpreter = ask(web, "/options")
    assert options == {"colour": "green", "gone": "x", "scratch": str(web.scratch)}
    assert interpreter == "127.0.0.1"
    assert config.get("PythonDebug", "0") in ("0", 0)


def test_sendfile(web):
    response = web.get("/sendfile")
    assert response.body == FILE + b"234" + b"|%d,3" % len(FILE)


def test_sendfile_of_a_missing_file(web):
    assert ask(web, "/sendfile_missing") == "OSError"


def test_write_text_and_bytes(web):
    response = web.get("/unicode_write")
    assert response.body == "grüß bytes unflushed".encode()


def test_keep_alive(web):
    with web.connect() as connection:
        ports = set()
        for _ in range(5):
            seen = json.loads(connection.request("GET", "/peers").body)
            ports.add(seen["client"][1])
    assert len(ports) == 1

