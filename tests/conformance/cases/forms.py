"""Section 11: mod_python.util."""

from suite.case import Case, Group

STORAGE, MAPPING, TYPES = "11.FieldStorage(req, ...)", "11.list and mapping", "11.types of fields"
FIELD, STRING, QUERY = "11.Field", "11.StringField", "11.parse_qs, parse_qsl"
REDIRECT, OTHERS = "11.redirect", "11.apply_fs_data, parse_header, FieldList, readBlockSize"

REALLOC = "parse_qsl of text uses memory after realloc: wrong names, or SystemError"
BYTES = "names and values of an urlencoded body are text; mod_python gives bytes on Python 3"
TEXT = "values of a multipart body that are no file are text; mod_python gives bytes on Python 3"

URLENCODED = [("Content-Type", "application/x-www-form-urlencoded")]
MULTIPART = [("Content-Type", "multipart/form-data; boundary=XbX")]
BODY = (
    b'--XbX\r\nContent-Disposition: form-data; name="a"\r\n\r\nval\xc3\xa9\r\n'
    b'--XbX\r\nContent-Disposition: form-data; name="f"; filename="C:\\dir\\x.txt"\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\nX-Foo: bar\r\n\r\nhello\r\nthere\r\n--XbX--\r\n"
)
CHUNKED = (
    b"POST @url@/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n3\r\na=1\r\n4\r\n&b=2\r\n0\r\n\r\n"
)
SHOW = """
from mod_python import util
def show(form):
    "Names and values, and the type of each."
    return [[name, field.value, type(field.value).__name__, field.filename] for name, field in form.items()]
"""
SHOWN = SHOW + "def handler(req):\n    return answer(req, show(util.FieldStorage(req)))\n"
NAMES = """
from mod_python import util
def handler(req):
    "What of a form with no query string does not depend on its being text or bytes."
    form = util.FieldStorage(req)
    name = form.keys()[0]
    return answer(req, [len(form), len(form.list), name in form, form.has_key(name), len(form.getlist(name)),
                        len(form.items()), form.getlist(b"none"), form.getfirst(b"none", 5), form.get(b"none", 6),
                        type(form[name]).__name__, type(form.getfirst(name)).__name__, type(form.list).__name__])
"""


def post(kind, body, **more):
    """The parts of a case that send a body."""
    return {"method": "POST", "send": kind, "body": body, **more}


GROUP = Group("forms", (
    Case("form-query", (STORAGE, TYPES), SHOWN, path="?a=1&b=x+y&a=%C3%A9;c=2&d=", defect=REALLOC,
         expect=[["a", "1", "str", None], ["b", "x y", "str", None], ["a", "é", "str", None], ["c", "2", "str", None]]),
    Case("form-query-blank", STORAGE, """
        from mod_python import util
        return answer(req, [[n, str(v)] for n, v in util.FieldStorage(req, keep_blank_values=1).items()])
    """, path="?a=&b&c=1", defect=REALLOC, expect=[["a", ""], ["b", ""], ["c", "1"]]),
    Case("form-none", STORAGE, SHOWN, expect=[]),
    Case("form-urlencoded", TYPES, SHOWN, **post(URLENCODED, b"a=b%20c&d=%C3%A9"), differs=BYTES,
         expect=[["a", "b c", "str", None], ["d", "é", "str", None]]),
    Case("form-urlencoded-names", MAPPING, NAMES, **post(URLENCODED, b"a=1&b=2&a=3&e=")),
    Case("form-untyped", STORAGE, NAMES, **post([], b"a=1&b=2")),
    Case("form-charset", STORAGE, NAMES, **post([("Content-Type", URLENCODED[0][1] + "; charset=utf-8")], b"a=1")),
    Case("form-chunked", STORAGE, SHOWN, raw=CHUNKED, expect=[["a", "1", "str", None], ["b", "2", "str", None]],
         differs="chunked bodies can be read; mod_python answers 411"),
    Case("form-put", STORAGE, SHOWN, method="PUT", send=URLENCODED, body=b"a=1", expect=[]),
    Case("form-other-type", STORAGE, SHOWN, **post([("Content-Type", "text/xml")], b"<a/>"), status=501),
    Case("form-no-boundary", STORAGE, SHOWN, **post([("Content-Type", "multipart/form-data")], BODY), status=400),
    Case("form-multipart", (TYPES, FIELD), SHOW + """
def handler(req):
    form = util.FieldStorage(req)
    return answer(req, [form.keys(), form["f"].filename, form["f"].value.decode(), form["f"].file.read().decode(),
                        form["f"].type, form["f"].disposition, form["f"].name, type(form["f"]).__name__,
                        type(form["a"]).__name__])
""", **post(MULTIPART, BODY)),
    Case("form-multipart-text", TYPES, SHOWN, **post(MULTIPART, BODY.replace(b"x.txt\"", b"x.txt\"").split(b"--XbX\r\nContent-D")[0]
         + BODY.split(b'--XbX\r\nContent-Disposition: form-data; name="f"')[0] + b"--XbX--\r\n"),
         expect=[["a", "valé", "str", None]], differs=TEXT),
    Case("form-multipart-other", STORAGE, """
        from mod_python import util
        return answer(req, util.FieldStorage(req).keys())
    """, **post([("Content-Type", "multipart/mixed; boundary=XbX")], BODY), expect=["a", "f"]),
    Case("form-upload-details", FIELD, """
        from mod_python import util
        field = util.FieldStorage(req)["f"]
        return answer(req, [field.type_options, field.disposition_options, field.headers])
    """, **post(MULTIPART, BODY), expect=[
        {"charset": "utf-8"}, {"name": "f", "filename": "C:\\dir\\x.txt"},
        {"Content-Disposition": 'form-data; name="f"; filename="C:\\dir\\x.txt"',
         "Content-Type": "text/plain; charset=utf-8", "X-Foo": "bar"},
    ], differs="options are text, headers have no line ends; mod_python gives bytes as names, and \\r\\n"),
    Case("form-callbacks", STORAGE, """
        from mod_python import util
        import io
        calls = []
        def of_file(*args):
            calls.append(list(args))
            return io.BytesIO()
        def of_field(*args):
            calls.append(list(args))
            return io.BytesIO()
        form = util.FieldStorage(req, file_callback=of_file, field_callback=of_field)
        return answer(req, [calls, type(form["a"].file).__name__, type(form["f"].file).__name__])
    """, **post(MULTIPART, BODY), expect=[[[], ["C:\\dir\\x.txt"]], "BytesIO", "BytesIO"]),
    Case("form-large-upload", FIELD, """
        from mod_python import util
        import hashlib
        field = util.FieldStorage(req)["f"]
        data = field.file.read()
        return answer(req, [len(data), hashlib.sha256(data).hexdigest()])
    """, **post(MULTIPART, b'--XbX\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n'
                + bytes(range(256)) * 8000 + b"\r\n\r\n--XbX--\r\n")),
    Case("form-truncated", STORAGE, SHOWN, **post(MULTIPART, BODY[:150]), status=400,
         differs="a multipart body that ends too early is 400; mod_python takes what there is"),
    Case("form-too-many", STORAGE, SHOWN, **post(URLENCODED, b"a=1&" * 20), conf="PythonOption mod_python.forms.max_fields 10",
         status=413, log="VIV0060", only_ours="limits are Vivarium's own"),
    Case("form-too-large", STORAGE, SHOWN, **post(URLENCODED, b"a=" + b"x" * 5000), status=413, log="VIV0060",
         conf="PythonOption mod_python.forms.max_field_size 4K", only_ours="limits are Vivarium's own"),
    Case("form-add", MAPPING, """
        from mod_python import util
        form = util.FieldStorage(req)
        form.add_field("n", b"1")
        form.add_field("n", b"2")
        form.add_field("m", b"3")
        seen = [len(form["n"]), len(form), form.keys()]
        del form["n"]
        seen += [form.keys(), attempt(lambda: form["n"])]
        form.clear()
        return answer(req, seen + [len(form), form.keys()])
    """, expect=[2, 2, ["n", "m"], ["m"], "KeyError", 0, []]),
    Case("form-changes", MAPPING, """
        from mod_python import util
        form = util.FieldStorage(req)
        form.add_field("n", b"1")
        form.add_field("n", b"2")
        seen = [len(form["n"]), len(form)]
        form["m"] = b"3"
        form["m"] = b"4"
        seen += [len(form.getlist("m")), form.keys()]
        del form["n"]
        seen += [form.keys(), attempt(lambda: form["n"])]
        form.clear()
        return answer(req, seen + [len(form), form.keys()])
    """, expect=[2, 1, 1, ["n", "m"], ["m"], "KeyError", 0, []],
         differs="names may be text; mod_python takes bytes alone on Python 3"),
    Case("form-changes-text", MAPPING, """
        from mod_python import util
        form = util.FieldStorage(req)
        form["m"] = "text"
        return answer(req, [form["m"], attempt(form.add_field, "n", 5)])
    """, expect=["text", "TypeError"], differs="fields can be set to text; mod_python takes bytes alone on Python 3", status=200),
    Case("string-field", STRING, """
        from mod_python import util
        field = util.StringField("é")
        field.name = "n"
        return answer(req, [field, field.value, field.file.read(), field.filename, field.type, field.headers, repr(field)])
    """, expect=["é", "é", "é", None, "text/plain", {}, "Field('n', 'é')"], differs="a StringField is text; in mod_python bytes"),
    Case("string-field-bytes", STRING, """
        from mod_python import util
        field = util.StringField(b"x")
        field.name = "n"
        return answer(req, [field.filename, field.disposition, field.headers, len(field)])
    """),
    Case("parse-qs", QUERY, """
        from mod_python import util
        return answer(req, [repr(util.parse_qs(b"a=1&b=2;a=%33&c=")), repr(util.parse_qsl(b"a=+x&b=", 1)),
                            repr(util.parse_qsl(b"a%3D=%zz&=x&&n=a%00b"))])
    """),
    Case("parse-qs-text", (QUERY, "21.parse_qsl"), """
        from mod_python import util
        return answer(req, [util.parse_qs("a=1&b=2;a=%C3%A9&c="), util.parse_qsl("a=1&b=", 1)])
    """, defect=REALLOC, expect=[{"a": ["1", "é"], "b": ["2"]}, [["a", "1"], ["b", ""]]]),
    Case("parse-header", OTHERS, """
        from mod_python import util
        return answer(req, [repr(util.parse_header(b"text/html; charset=x")), repr(util.parse_header(b"A; B=c")),
                            repr(util.parse_header(b'form-data; name="a"; filename="C:\\\\d\\\\x"')), util.readBlockSize])
    """),
    Case("parse-header-quoted", OTHERS, """
        from mod_python import util
        return answer(req, repr(util.parse_header(b'a; b="c;d"; e=f')))
    """, expect="(b'a', {b'b': 'c;d', b'e': 'f'})", differs="a semicolon in quotes does not end a parameter"),
    Case("apply-fs-data", OTHERS, """
        from mod_python import util
        form = util.FieldStorage(req)
        form.add_field("a", b"1")
        form.add_field("b", b"2")
        form.add_field("b", b"3")
        form.add_field("x", b"4")
        seen = [util.apply_fs_data(lambda a, b, c=5: [len(a), len(b), c], form),
                util.apply_fs_data(lambda req, a: req.method, form, req=req),
                util.apply_fs_data(lambda **kw: sorted(kw), form)]
        return answer(req, seen + [attempt(util.apply_fs_data, lambda missing: 1, form)])
    """, expect=[[1, 2, 5], "GET", ["a", "b", "x"], "TypeError"]),
    Case("redirect", REDIRECT, """
        from mod_python import util
        util.redirect(req, "/there?a=b")
    """, status=302, headers=("Location",), expect_headers={"Location": ["/there?a=b"]}),
    Case("redirect-permanent", REDIRECT, """
        from mod_python import util
        util.redirect(req, "http://example.org/", permanent=1, text="moved")
    """, status=301, headers=("Location",), expect="moved"),
    Case("redirect-cookie", REDIRECT, """
        from mod_python import util, Cookie
        Cookie.add_cookie(req, "a", "b")
        util.redirect(req, "/there")
    """, status=302, headers=("Location", "Set-Cookie")),
    Case("redirect-late", REDIRECT, """
        from mod_python import util
        req.write("begun ")
        try:
            util.redirect(req, "/there")
        except IOError as error:
            req.write(str(error))
        return apache.OK
    """, expect="begun Cannot redirect after headers have already been sent."),
    Case("redirect-line-break", REDIRECT, """
        from mod_python import util
        return answer(req, attempt(util.redirect, req, "/a\\r\\nSet-Cookie: x=y"))
    """, expect="ValueError", differs="a line break in a location is a ValueError; mod_python fails at sending it"),
    Case("redirect-escaped", REDIRECT, """
        from mod_python import util
        util.redirect(req, '/a"><script>')
    """, status=302, expect='<p>The document has moved <a href="/a&quot;&gt;&lt;script&gt;">here</a></p>\n',
         differs="the location is escaped in the page; mod_python puts it there as it is"),
), allow=("VIV0060",))
