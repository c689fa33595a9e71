"""Section 15: the publisher."""

import base64

from suite.case import Case, Group

CONF = "SetHandler mod_python\nPythonHandler mod_python.publisher\n"
FOUND, WALK = "15.publisher: module", "15.publisher: traversal"
CALL, RESULT, AUTH = "15.publisher: call", "15.publisher: results", "15.publisher: auth"
FORM = ("Content-Type", "application/x-www-form-urlencoded")
BROKEN = "the fields of a query string come out wrong"
HEADER = "a header with a name and a password is answered 400, whatever they are"

PAGE = '''
import os, datetime, functools
from os import path, getcwd
def index(req): return "index of " + str(req.path_info)
def hello(req, name="nobody"): return "hello " + str(name)
def no_request(): return "no request"
def two(req, a, b="b"): return a + b
def kw(req, **kw): return str(sorted(kw))
def _private(req): return "private"
def own(req): req.write("own")
def form(req): return str(sorted(req.form.keys()))
text, number, nothing, items = "text", 5, None, [1, "a"]
data = b"data"
class Thing:
    value = "value"
    def method(self, req, a="none"): return "method " + a
    def _private(self): return "private"
    def __str__(self): return "a thing"
class Called(Thing):
    def __call__(self, req): return "called"
thing, called = Thing(), Called()
thing.inner = called
date = datetime.date(2006, 1, 2)
builtin, bound = len, "x".upper
generated = (n for n in (1, 2))
partial = functools.partial(hello, name="partial")
'''


def publish(case_id, row, path="", code=PAGE, conf="", files=None, **more):
    """A case of a URL below the published folder."""
    return Case(case_id, row, bare=True, conf=CONF + conf, files={"index.py": code, **(files or {})}, path=path, **more)


def found(case_id, path, expect, row=WALK, **more):
    """A URL that is answered."""
    return publish(case_id, row, path, expect=expect, **more)


def refused(case_id, path, status, **more):
    """A URL that is refused."""
    return publish(case_id, WALK, path, status=status, **{"compare_body": False, **more})


def basic(text):
    """The header of a name and a password."""
    return ("Authorization", "Basic " + base64.b64encode(text.encode()).decode())


def returning(value):
    """A module whose `index` returns that."""
    return f"def index(req):\n    return {value}\n"


def edited(talk):
    """A module, before and after a change of its file. Each of mod_python's processes has to see it."""
    file = talk.server.htdocs / talk.case.id / "index.py"
    before = {talk.ask("")[1] for _ in range(8)}
    file.write_text(returning("'after'"))

    def all_new():
        seen = {talk.ask("")[1] for _ in range(8)}
        return seen == {"after"}

    talk.wait(all_new, 30)
    return sorted(before)


def streamed(talk):
    """The first piece of a stream, which comes while the second is still being made."""
    with talk.connect() as connection:
        connection.send_head("GET", talk.target(""))
        response = connection.head()
        pieces = connection.pieces(response)
        first = next(pieces)
        (talk.server.scratch / talk.case.id).write_text("")
        return [first, b"".join(pieces)]


OTHERS = {
    "other.py": "def index(req): return 'other'\ndef more(req): return 'more of other'\n",
    "sub/index.py": "def index(req): return 'sub'\ndef more(req): return 'more of sub'\n",
    "dashed-name.py": "def index(req): return 'dashed'\n",
    "broken.py": "def index(\n",
}

GROUP = Group("publisher", (
    *(publish(f"pub-found-{number}", FOUND, path, files=OTHERS, expect=body) for number, (path, body) in enumerate({
        "": "index of ", "index": "index of ", "index/": "index of /", "index.py": "index of ", "index/index": "index of /index",
        "hello": "hello nobody", "hello.py": "hello nobody", "hello/": "hello nobody", "index/hello": "hello nobody",
        "index.py/hello": "hello nobody", "/@id@//hello//".replace("@id@", "pub-found-10"): "hello nobody",
        "other": "other", "other/": "other", "other/more": "more of other", "sub/": "sub", "sub/more": "more of sub",
        "sub/index/more": "more of sub", "dashed-name": "dashed",
    }.items())),
    *(publish(f"pub-missing-{number}", FOUND, path, files=OTHERS, status=404) for number, path in enumerate(
        ("none", "index/none", "sub", "sub/none", "sub/other", "other/none", "other/none/more", "other.txt"))),
    publish("pub-own-module", FOUND, "_own", files={"_own.py": returning("'own'")}, status=403, compare_body=False,
            differs="a module with an underscore in front is not published; mod_python shows it"),
    publish("pub-broken", FOUND, "broken", files=OTHERS, status=500, compare_body=False),
    publish("pub-suffix", FOUND, "hello.own", conf="AddHandler mod_python .own\n", expect="hello nobody"),
    publish("pub-edited", FOUND, code=returning("'before'"), drive=edited, expect=["before"]),
    publish("pub-import", FOUND, code="import helper_of_pub_import as h\ndef index(req): return h.NAME\n",
            files={"helper_of_pub_import.py": "NAME = 'helped'\n"}, expect="helped"),
    *(publish(f"pub-method-{method.lower()}", FOUND, "hello", method=method, status=405) for method in ("PUT", "DELETE", "OPTIONS")),
    publish("pub-method-head", FOUND, "hello", method="HEAD", expect=""),

    found("pub-text", "text", "text"),
    found("pub-number", "number", "5"),
    found("pub-nothing", "nothing", ""),
    found("pub-items", "items", "[1, 'a']"),
    found("pub-thing", "thing", "a thing"),
    found("pub-value", "thing/value", "value"),
    found("pub-method", "thing/method", "method none"),
    found("pub-called", "called", "called"),
    found("pub-inner", "thing/inner", "called"),
    found("pub-inner-method", "thing/inner/method", "method none"),
    found("pub-c-object", "date/year", "2006"),
    *(refused(f"pub-refused-{number}", path, 403) for number, path in enumerate((
        "_private", "index/_private", "thing/_private", "thing/__class__", "__builtins__", "hello/__globals__",
        "hello/func_globals", "os", "os/environ", "path", "path/join", "getcwd", "Thing", "Thing/value", "text/upper",
        "items/append", "nothing/x", "builtin", "bound", "thing/method/__func__", "generated/gi_frame",
    ))),
    refused("pub-number-part", "number/real", 403, differs="what is built into Python has no parts; mod_python shows those of numbers"),
    refused("pub-partial", "partial", 403, differs="an object that is no Python function is not called; mod_python tries, and fails"),

    found("pub-no-request", "no_request", "no request", CALL),
    found("pub-default", "hello?other=1", "hello nobody", CALL),
    found("pub-field", "hello?name=me", "hello me", CALL),
    found("pub-fields", "hello?name=a&name=b", "hello ['a', 'b']", CALL),
    found("pub-utf-8", "hello?name=%C3%BC", "hello ü".encode().decode("latin-1"), CALL),
    found("pub-two", "two?a=1&b=2", "12", CALL, defect=BROKEN),
    found("pub-method-field", "thing/method?a=1", "method 1", CALL, defect=BROKEN),
    found("pub-kw", "kw?a=1&b=2", "['a', 'b']", CALL, defect=BROKEN),
    found("pub-form", "form?a=1&b=", "['a', 'b']", CALL, defect=BROKEN),
    publish("pub-required", CALL, "two", status=400, compare_body=False,
            differs="a missing field is the client's mistake (400); mod_python answers 500"),
    publish("pub-post", CALL, "hello", method="POST", body=b"name=%C3%BC", send=(FORM,),
            expect="hello ü".encode().decode("latin-1"), differs="fields of a POST are text; with mod_python they are lost"),

    *(publish(f"pub-result-{name}", RESULT, code=returning(value), headers=("Content-Type",), expect=body,
              **({"expect_headers": {"Content-Type": kind}} if kind else {}),
              differs="" if not kind else "the answer says that it is UTF-8, as what is written is")
      for name, value, body, kind in (
          ("none", "None", "", []),
          ("text", "'text'", "text", ["text/plain; charset=utf-8"]),
          ("html", "'<html></html>'", "<html></html>", ["text/html; charset=utf-8"]),
          ("html-end", "'<p></HTML>\\n'", "<p></HTML>\n", ["text/html; charset=utf-8"]),
          ("int", "404", "404", ["text/plain; charset=utf-8"]),
          ("list", "[1, 'a']", "[1, 'a']", ["text/plain; charset=utf-8"]),
      )),
    publish("pub-result-own-type", RESULT, code="def index(req):\n    req.content_type = 'text/x-own'\n    return 'x'\n",
            headers=("Content-Type",), expect_headers={"Content-Type": ["text/x-own"]}),
    publish("pub-result-status", RESULT, code="def index(req):\n    req.status = 404\n    return 'own page'\n",
            status=404, expect="own page"),
    publish("pub-result-raise", RESULT, status=403, compare_body=False,
            code="from mod_python import apache\ndef index(req):\n    raise apache.SERVER_RETURN(403)\n"),
    publish("pub-result-function", RESULT, code="def inner(req): return 'inner'\n" + returning("inner"), expect="inner"),
    publish("pub-result-written", RESULT, "own", expect="own"),
    publish("pub-result-error", RESULT, code=returning("1 / 0"), status=500, compare_body=False),
    publish("pub-result-bytes", RESULT, code=returning("b'data'"), expect="data",
            differs="bytes are sent as they are; mod_python sends b'data'"),
    publish("pub-variable-bytes", RESULT, "data", expect="data", differs="bytes are sent as they are; mod_python sends b'data'"),
    publish("pub-result-generator", RESULT, code="def index(req):\n    yield 'a'\n    yield 'b'\n", expect="ab",
            differs="iterators are streamed; mod_python sends their repr"),
    publish("pub-result-stream", RESULT, code="""
import os, time
def index(req):
    yield "first"
    while not os.path.exists(req.get_options()["scratch"] + "/pub-result-stream"):
        time.sleep(0.01)
    yield "second"
""", drive=streamed, expect=["first", "second"], only_ours="mod_python does not stream"),
    publish("pub-result-async", RESULT, code="import asyncio\nasync def index(req):\n    await asyncio.sleep(0)\n    return 'async'\n",
            expect="async", only_ours="mod_python knows no coroutines"),
))

RULED = '''
__auth_realm__ = "Members"
def index(req): return "open"
class A:
    def __auth__(self, req, user, password): return (user, password) == ("eve", "pw")
    def __access__(self, req, user): return user == "eve"
    def method(self, req): return "in as " + req.user
class B:
    __auth__ = {"eve": "pw"}
    __auth_realm__ = "B"
    def method(self, req): return "in"
class C:
    __auth__ = 0
    def method(self, req): return "in"
class D:
    __access__ = ["eve"]
    def method(self, req): return "in"
class E:
    __access__ = 0
    def method(self, req): return "in"
class F:
    __auth__ = 1
    __access__ = lambda self, req, user: 1
    def method(self, req): return "in"
a, b, c, d, e, f = A(), B(), C(), D(), E(), F()
def nested(req):
    __auth_realm__ = "Nested"
    def __auth__(req, user, password): return user == "eve"
    def __access__(req, user): return user == "eve"
    return "in"
def constant(req):
    __auth__ = 0
    return "in"
def access(req):
    __access__ = 0
    return "in"
def dictionary(req):
    __auth__ = {"eve": "pw"}
    return "in"
def names(req):
    __access__ = ["eve"]
    return "in"
def attribute(req): return "in"
attribute.__auth__ = {"eve": "pw"}
def fails(req):
    def __auth__(req, user, password): raise ValueError
    return "in"
'''
GOOD, BAD = basic("eve:pw"), basic("adam:no")
CHALLENGE = ("WWW-Authenticate",)


def ruled(name, path, status, send=(), **more):
    """A case of a rule."""
    return publish(f"pub-auth-{name}", AUTH, path, code=RULED, status=status, send=send, headers=CHALLENGE,
                   **{"compare_body": status == 200, **more})


def challenge(realm):
    """The header that asks for a password."""
    return {"expect_headers": {"WWW-Authenticate": [f'Basic realm="{realm}"']}}


RULES = Group("publisher-rules", (
    ruled("open", "", 200, expect="open"),
    ruled("open-bad-header", "", 200, (("Authorization", "Digest x=1"),), expect="open"),
    *(ruled(f"{name}-{how}", path, status, send, defect=HEADER if send else "it is answered 500" if name == "nested" else "",
            **(challenge(realm) if status == 401 else {}))
      for name, path, realm, codes in (
          ("callable", "a/method", "Members", (401, 200, 401)),
          ("dict", "b/method", "B", (401, 200, 401)),
          ("constant", "c/method", "Members", (401, 401, 401)),
          ("one", "f/method", "Members", (401, 200, 200)),
          ("no-access", "e/method", "", (403, 403, 403)),
          ("nested", "nested", "Nested", (401, 200, 401)),
          ("nested-constant", "constant", "Members", (401, 401, 401)),
          ("nested-access", "access", "", (403, 403, 403)),
          ("nested-dict", "dictionary", "Members", (401, 200, 401)),
          ("on-the-way", "b", "B", (401, 200, 401)),
          ("before-404", "b/none", "B", (401, 404, 401)),
      ) for (how, send), status in zip((("none", ()), ("good", (GOOD,)), ("bad", (BAD,))), codes)),
    ruled("list", "d/method", 403),
    ruled("list-unchecked", "d/method", 403, (GOOD,),
          differs="a name whose password nobody has seen is no user; mod_python takes it, once it can read the header"),
    ruled("nested-list", "names", 403, differs="a list in a function counts; mod_python lets everybody in"),
    ruled("attribute", "attribute", 401, differs="an attribute of a function counts; mod_python lets everybody in",
          **challenge("Members")),
    ruled("fails", "fails", 500, (GOOD,), defect=HEADER),
    ruled("digest", "a/method", 400, (("Authorization", "Digest x=1"),)),
    ruled("rubbish", "a/method", 400, (("Authorization", "Basic !!!"),)),
    ruled("no-colon", "a/method", 400, (basic("nocolon"),)),
))
