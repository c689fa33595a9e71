"""Section 15: the ready-made handlers cgihandler, wsgi and testhandler."""

from suite.case import Case, Group

WSGI = "PythonHandler mod_python.wsgi\nSetHandler mod_python\nPythonOption mod_python.wsgi.application @module@\n" + (
    "PythonOption mod_python.wsgi.base_uri @url@\n"
)
CGI = "SetHandler mod_python\nPythonHandler mod_python.cgihandler\n"
STATUS = "`wsgi_start_response` sets the status line only; httpd then sends 200"
POST = "reading a body through CGIStdin raises TypeError (str and bytes)"


def app(body):
    """A module with an application."""
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return f"def application(env, start):\n{lines}\n"


def text_answer(value):
    """An application that answers with a value as JSON."""
    return app(f"start('200 OK', [('Content-Type', 'application/json')])\nreturn [json.dumps({value}).encode()]")


GROUP = Group("ready-handlers", (
    # wsgi
    Case("wsgi-environment", "15.wsgi", text_answer(
        "sorted((k, v) for k, v in env.items() if k in ('REQUEST_METHOD', 'SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING', "
        "'HTTP_X_OWN', 'HTTP_AUTHORIZATION', 'SERVER_NAME', 'SERVER_PORT', 'SERVER_PROTOCOL', 'REMOTE_ADDR', "
        "'CONTENT_TYPE', 'CONTENT_LENGTH', 'wsgi.version', 'wsgi.url_scheme', 'wsgi.multithread', "
        "'wsgi.multiprocess'))"
    ), bare=True, conf=WSGI, path="a%20b?c=%20", send=(("X-Own", "1"), ("Authorization", "Basic eDp5"))),
    Case("wsgi-post", "15.wsgi", text_answer(
        "[env['CONTENT_LENGTH'], env['wsgi.input'].read(3).decode(), env['wsgi.input'].readline().decode(), "
        "[line.decode() for line in env['wsgi.input'].readlines()]]"
    ), bare=True, conf=WSGI, path="x", method="POST", body=b"one two\nthree\nfour", expect=["18", "one", " two\n", ["three\n", "four"]]),
    Case("wsgi-headers", "15.wsgi", app("""
start('200 OK', [('Content-Type', 'text/x-own'), ('X-One', '1'), ('Set-Cookie', 'a=1'), ('Set-Cookie', 'b=2')])
return [b'body']
"""), bare=True, conf=WSGI, path="page", headers=("X-One", "Set-Cookie"), expect="body"),
    Case("wsgi-content-type", "15.wsgi", app("""
start('200 OK', [('Content-Type', 'text/x-own')])
return [b'body']
"""), bare=True, conf=WSGI, path="@module@.py", headers=("Content-Type",), expect_headers={"Content-Type": ["text/x-own"]},
        differs="the application's Content-Type counts; with mod_python that of the file's extension, if there is one"),
    Case("wsgi-status", ("15.wsgi", "21.wsgi_start_response"), app("""
start('404 Not here', [('Content-Type', 'text/plain')])
return [b'own body']
"""), bare=True, conf=WSGI, status=404, expect="own body", defect=STATUS),
    Case("wsgi-pieces", "15.wsgi", app("""
start('200 OK', [('Content-Type', 'text/plain')])
return ['text ', b'bytes ', '\\xe4']
"""), bare=True, conf=WSGI),
    Case("wsgi-generator", "15.wsgi", app("""
start('200 OK', [('Content-Type', 'text/plain')])
yield b'a'
yield b'b'
"""), bare=True, conf=WSGI, expect="ab"),
    Case("wsgi-write", "15.wsgi", app("""
write = start('200 OK', [('Content-Type', 'text/plain')])
write(b'written ')
return [b'returned']
"""), bare=True, conf=WSGI, expect="written returned"),
    Case("wsgi-close", "15.wsgi", """
class Result:
    def __iter__(self):
        return iter([b'body'])
    def close(self):
        print(MARK + 'closed', file=sys.stderr, flush=True)
def application(env, start):
    start('200 OK', [('Content-Type', 'text/plain')])
    return Result()
""", bare=True, conf=WSGI, expect="body", log=True, log_wait=1, expect_log=["error, client: closed"],
        differs="what is written to standard error or `wsgi.errors` is an entry of the log, with time and client"),
    Case("wsgi-errors-stream", "15.wsgi", app("""
env['wsgi.errors'].write('case wsgi-errors-stream: a line\\n')
env['wsgi.errors'].flush()
start('200 OK', [('Content-Type', 'text/plain')])
return [b'']
"""), bare=True, conf=WSGI, log=True, log_wait=1, expect_log=["error, client: a line"],
        differs="what is written to standard error or `wsgi.errors` is an entry of the log, with time and client"),
    Case("wsgi-fails", "15.wsgi", app("raise KeyError('k')"), bare=True, conf=WSGI, status=500, compare_body=False),
    Case("wsgi-no-application", "15.wsgi", "x = 1", bare=True, conf=WSGI, status=500, compare_body=False,
         differs="a missing application is an error; mod_python declines, and httpd serves the file that is there"),
    Case("wsgi-callable", "15.wsgi", app("").replace("application", "other").rstrip() + """
    start('200 OK', [('Content-Type', 'text/plain')])
    return [b'other']
""", bare=True, conf=WSGI.replace("@module@", "@module@::other"), expect="other"),
    Case("wsgi-not-below", "15.wsgi", text_answer("1"), bare=True, conf=WSGI.replace("@url@", "/somewhere/else"),
         path="x", status=404, compare_body=False),
    Case("wsgi-base-slash", "15.wsgi", text_answer("1"), bare=True, conf=WSGI.replace("@url@", "@url@/"), path="x",
         status=500, compare_body=False),
    Case("wsgi-validator", "15.wsgi", """
from wsgiref.validate import validator
@validator
def application(env, start):
    start('200 OK', [('Content-Type', 'text/plain')])
    return [b'valid']
""", bare=True, conf=WSGI, expect="valid",
        only_ours="mod_python's `wsgi.input` is the request, which is no iterator: the validator refuses it"),
    Case("wsgi-start-twice", "15.wsgi", app("""
start('200 OK', [('Content-Type', 'text/plain')])
start('200 OK', [('Content-Type', 'text/plain')])
return [b'x']
"""), bare=True, conf=WSGI, status=500, compare_body=False,
        differs="a second `start_response` without an error is one, as PEP 3333 says"),
    Case("wsgi-no-start", "15.wsgi", app("return [b'x']"), bare=True, conf=WSGI, status=500, compare_body=False,
         differs="an application that has not called `start_response` is an error, as PEP 3333 says"),
    Case("wsgi-file-wrapper", "15.wsgi", app("""
start('200 OK', [('Content-Type', 'text/plain')])
return env['wsgi.file_wrapper'](open(__file__.replace('.py', '.txt'), 'rb'))
"""), bare=True, conf=WSGI, files={"m_wsgi_file_wrapper.txt": "content"}, expect="content",
        only_ours="mod_python has no `wsgi.file_wrapper`"),

    # cgihandler
    Case("cgi-get", "15.cgihandler", bare=True, conf=CGI, path="script.py/info?a=b", files={"script.py": """
import os, sys
print("Content-Type: text/plain")
print("X-Own: 1")
print()
print(os.environ["QUERY_STRING"], os.environ["REQUEST_METHOD"], os.environ["GATEWAY_INTERFACE"], __name__)
print(os.path.basename(os.getcwd()))
"""}, headers=("Content-Type", "X-Own"), expect="a=b GET Python-CGI/1.1 script\ncgi-get\n"),
    Case("cgi-status", "15.cgihandler", bare=True, conf=CGI, path="script.py", files={"script.py": """
print("Status: 404 Nowhere")
print("Content-Type: text/plain")
print()
print("own body")
"""}, status=404, expect="own body\n"),
    Case("cgi-post", ("15.cgihandler", "21.CGIStdin"), bare=True, conf=CGI, path="script.py", files={"script.py": """
import sys
print("Content-Type: text/plain")
print()
print(sys.stdin.read().upper())
"""}, method="POST", body=b"some text", expect="SOME TEXT\n", defect=POST),
    Case("cgi-put-back", "15.cgihandler", bare=True, conf=CGI + "<Files where>\nPythonHandler m_cgi_put_back\n</Files>",
         code="""
        import threading
        return answer(req, ["LEFT" in os.environ, "QUERY_STRING" in os.environ, os.getcwd().endswith("cgi-put-back")])
    """, files={"script.py": """
import os
os.environ["LEFT"] = "1"
print("Content-Type: text/plain")
print()
print("ran")
"""}, drive=lambda talk: [talk.ask("script.py"), talk.ask("where"), talk.ask("script.py"), talk.ask("where")]),
    Case("cgi-helpers", "15.cgihandler", bare=True, conf=CGI, path="script.py", files={"script.py": """
import cgi_helper_module
print("Content-Type: text/plain")
print()
print(cgi_helper_module.VALUE)
""", "cgi_helper_module.py": "VALUE = 'helped'\n"}, expect="helped\n"),
    Case("cgi-missing", "15.cgihandler", bare=True, conf=CGI, path="none.py", status=404, compare_body=False),
    Case("cgi-fails", "15.cgihandler", bare=True, conf=CGI, path="script.py", files={"script.py": "raise KeyError('k')\n"},
         status=500, compare_body=False),
    Case("cgi-exit", "15.cgihandler", bare=True, conf=CGI, path="script.py", files={"script.py": """
import sys
print("Content-Type: text/plain")
print()
print("before")
sys.exit()
"""}, expect="before\n", differs="`sys.exit()` ends a script; with mod_python it is an error like any other"),
    Case("cgi-no-headers", "15.cgihandler", bare=True, conf=CGI, path="script.py", files={"script.py": "pass\n"},
         status=500, compare_body=False,
         differs="a script that ends without headers is an error, as with mod_cgi; mod_python answers 200 without a body"),

    # testhandler
    Case("testhandler", "15.testhandler", bare=True, conf="SetHandler mod_python\nPythonHandler mod_python.testhandler\n"
         "PythonOption colour green\n", path="page?a=b", send=(("X-Own", "own header"),), drive=lambda talk: [
             [response.status, response.header("Content-Type").partition(";")[0],
              *(each in response.text for each in ("own header", "colour", "green", "PythonHandler"))]
             for response in [talk.request("GET", "page?a=b", [("X-Own", "own header")])]
         ]),
    Case("testhandler-secrets", "15.testhandler", bare=True, conf="SetHandler mod_python\n"
         "PythonHandler mod_python.testhandler\nPythonOption shop.password hidden\n", drive=lambda talk: [
             "hidden" in talk.request("GET", "page", [("Cookie", "sid=hidden"), ("X-Token", "hidden")]).text
         ], expect=[False], differs="values that look like secrets are masked"),
))  # fmt: skip
