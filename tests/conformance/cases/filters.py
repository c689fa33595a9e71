"""Section 8: filters, and their directives.

mod_python sends rubbish when a filter writes an object that nobody holds any more, so `say` keeps them all.
"""

from suite.case import Case, Group

SAY = """
        SAID = []
        def say(flt, data):
            SAID.append(data)
            return flt.write(data)
"""
LOOP = SAY + """
        def {name}(flt):
            data = flt.read()
            while data:
                say(flt, data.upper())
                data = flt.read()
            if data is None:
                flt.close()
"""
UPPER_OUT, UPPER_IN = LOOP.format(name="outputfilter"), LOOP.format(name="inputfilter")

TEXT = SAY + """
        def handler(req):
            req.write("some text")
            return apache.OK
"""
READS = SAY + """
        def handler(req):
            return answer(req, req.read().decode())
"""
REST = "what a filter wrote goes before the rest that it hands on; mod_python turns them round or loses one"
OUT = "PythonOutputFilter @module@ @id@\nSetOutputFilter @id@"
IN = "PythonInputFilter @module@ @id@\nSetInputFilter @id@"
FILE = {"path": "page.txt", "files": {"page.txt": "the file's text\n"}, "bare": True}
POST = {"method": "POST", "body": b"some text"}


def only_first(code):
    """A filter's code that is run for its first brigade only."""
    body = "\n".join("            " + line for line in code.strip().splitlines())
    return TEXT + f"""
        def outputfilter(flt):
            if flt.req.main or hasattr(flt.req, "been"):
                return flt.pass_on()
            flt.req.been = True
{body}
"""


GROUP = Group("filters", (
    Case("filter-out", ("1.PythonInputFilter / PythonOutputFilter", "8.read([n])", "8.write(str|bytes)"),
         TEXT + UPPER_OUT, conf=OUT, expect="SOME TEXT"),
    Case("filter-in", "1.PythonInputFilter / PythonOutputFilter", READS + UPPER_IN, conf=IN, expect="SOME TEXT",
         **POST),
    Case("filter-static", "1.PythonInputFilter / PythonOutputFilter", UPPER_OUT, conf=OUT, expect="THE FILE'S TEXT\n",
         **FILE),
    Case("filter-static-empty", "1.PythonInputFilter / PythonOutputFilter", UPPER_OUT, conf=OUT, expect="",
         bare=True, path="page.txt", files={"page.txt": ""}),
    Case("filter-default-name", "1.PythonInputFilter / PythonOutputFilter", TEXT + UPPER_OUT,
         conf="PythonOutputFilter @module@\nSetOutputFilter @module@", expect="SOME TEXT"),
    Case("filter-named-function", "1.PythonInputFilter / PythonOutputFilter", TEXT + LOOP.format(name="shout"),
         conf="PythonOutputFilter @module@::shout @id@\nSetOutputFilter @id@", expect="SOME TEXT"),
    Case("filter-not-activated", "1.PythonInputFilter / PythonOutputFilter", TEXT + UPPER_OUT,
         conf="PythonOutputFilter @module@ @id@", expect="some text"),
    Case("filter-by-extension", "1.PythonInputFilter / PythonOutputFilter", UPPER_OUT,
         conf="PythonOutputFilter @module@ @id@\nAddOutputFilter @id@ .txt", expect="THE FILE'S TEXT\n", **FILE),
    Case("filter-at-server", "1.PythonInputFilter / PythonOutputFilter", TEXT + UPPER_OUT,
         vhost="PythonPath \"['@dir@'] + sys.path\"\nPythonOutputFilter @module@ @id@\nSetOutputFilter @id@",
         expect="SOME TEXT"),
    Case("filter-object", ("1.PythonInputFilter / PythonOutputFilter", "2.object with dots"), TEXT + """
        class Shouter:
            def __init__(self, flt):
                self.flt = flt
            def shout(self, flt):
                data = flt.read()
                while data:
                    say(flt, str(self.flt is flt) + data.decode().upper())
                    data = flt.read()
                if data is None:
                    flt.close()
    """, conf="PythonOutputFilter @module@::Shouter.shout @id@\nSetOutputFilter @id@", expect="TrueSOME TEXT"),
    Case("filter-attributes", "8.closed, name, is_input, handler, dir", TEXT + """
        def outputfilter(flt):
            data = flt.read()
            if data:
                say(flt, json.dumps([str(type(flt)), flt.name, flt.is_input, flt.handler, flt.dir, flt.closed,
                    flt.softspace,
                                         str(type(flt.req)), flt.req.uri, flt.req.interpreter]).encode())
            elif data is None:
                flt.close()
    """, conf=OUT),
    Case("filter-attributes-in", "8.closed, name, is_input, handler, dir", SAY + """
        def handler(req):
            req.read()
            return answer(req, req.seen)
        def inputfilter(flt):
            flt.req.seen = [str(type(flt)), flt.name, flt.is_input, flt.handler, flt.closed]
            data = flt.read()
            while data:
                say(flt, data)
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=IN, **POST),
    Case("filter-in-longer", "8.write(str|bytes)", READS + UPPER_IN.replace("data.upper()", "data * 2"), conf=IN,
         expect="some textsome text",
         differs="`req.read()` gives the whole of a body that an input filter made longer; "
         "mod_python cuts it at the request's Content-Length", **POST),
    Case("filter-assign", ("8.closed, name, is_input, handler, dir", "8.softspace, req"), only_first("""
seen = [attempt(setattr, flt, name, getattr(flt, name)) for name in ("closed", "name", "is_input", "handler", "dir")]
seen += [assigned(flt, "softspace", 1), attempt(setattr, flt, "mine", 1), attempt(setattr, flt, "req", flt.req)]
data = flt.read()
say(flt, json.dumps(seen).encode())
"""), conf=OUT),
    Case("filter-read-n", "8.read([n])", TEXT + """
        def outputfilter(flt):
            data = flt.read(4)
            while data:
                say(flt, b"[" + data + b"]")
                data = flt.read(4)
            if data is None:
                flt.close()
    """, conf=OUT),
    Case("filter-read-types", "8.read([n])", only_first("""
seen = [attempt(flt.read, "x"), attempt(flt.read, None), attempt(flt.readline, "x"), attempt(flt.write, 5),
        attempt(flt.write, None), attempt(flt.write)]
flt.read()
say(flt, json.dumps(seen).encode())
"""), conf=OUT),
    Case("filter-readline", "8.readline([n])", SAY + """
        def outputfilter(flt):
            line = flt.readline()
            while line:
                say(flt, b"<" + line + b">")
                line = flt.readline()
            if line is None:
                flt.close()
    """, conf=OUT, bare=True, path="page.txt", files={"page.txt": "one\ntwo\n\nno end"}),
    Case("filter-readline-n", "8.readline([n])", SAY + """
        def outputfilter(flt):
            line = flt.readline(3)
            while line:
                say(flt, b"<" + line + b">")
                line = flt.readline(3)
            if line is None:
                flt.close()
    """, conf=OUT, bare=True, path="page.txt", files={"page.txt": "one\nlonger\n"}),
    Case("filter-write-types", "8.write(str|bytes)", only_first(r"""
flt.read()
say(flt, "gr\u00fc\u00df ")
say(flt, b"bytes\xff")
"""), conf=OUT),
    Case("filter-flush", "8.flush()", only_first("""
data = flt.read()
say(flt, data)
got = flt.flush()
say(flt, " after " + str(got))
"""), conf=OUT, expect="some text after None"),
    Case("filter-close", "8.close()", TEXT + """
        def outputfilter(flt):
            if flt.closed:
                return
            data = flt.read()
            say(flt, b"first ")
            flt.close()
            problems = [attempt(flt.write, "x"), attempt(flt.read), attempt(flt.readline), attempt(flt.flush),
                        attempt(flt.close), flt.closed]
            flt.req.log_error(MARK + json.dumps(problems))
    """, conf=OUT, log=True),
    Case("filter-pass-on", "8.pass_on()", TEXT + """
        def outputfilter(flt):
            flt.pass_on()
    """, conf=OUT, expect="some text"),
    Case("filter-pass-on-partly", "8.pass_on()", TEXT + """
        def outputfilter(flt):
            if flt.req.main or hasattr(flt.req, "been"):
                return flt.pass_on()
            flt.req.been = True
            say(flt, flt.read(5).upper())
            flt.pass_on()
    """, conf=OUT, expect="SOME text", differs=REST),
    Case("filter-pass-on-after-a-line", "8.pass_on()", SAY + """
        def outputfilter(flt):
            say(flt, b"<" + flt.readline() + b">")
            flt.pass_on()
    """, conf=OUT, bare=True, path="page.txt", files={"page.txt": "one\ntwo\nthree"},
         differs=REST),
    Case("filter-disable-partly", "8.disable()", TEXT + """
        def outputfilter(flt):
            say(flt, flt.read(5).upper())
            flt.disable()
    """, conf=OUT, expect="SOME text", differs=REST),
    Case("filter-reads-a-part", "8.read([n])", TEXT + """
        def outputfilter(flt):
            if flt.req.main or hasattr(flt.req, "been"):
                return flt.pass_on()
            flt.req.been = True
            say(flt, flt.read(5).upper())
    """, conf=OUT),
    Case("filter-pass-on-first", "8.pass_on()", SAY + """
        def handler(req):
            req.write("one ")
            req.write("two ")
            req.write("three")
            return apache.OK
        def outputfilter(flt):
            if not hasattr(flt.req, "count"):
                flt.req.count = 0
            flt.req.count += 1
            if flt.req.count == 1:
                return flt.pass_on()
            data = flt.read()
            while data:
                say(flt, data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT, expect="one TWO THREE"),
    Case("filter-disable", "8.disable()", SAY + """
        def handler(req):
            req.write("one ")
            req.write("two ")
            req.write("three")
            return apache.OK
        def outputfilter(flt):
            data = flt.read()
            while data:
                say(flt, data.upper())
                data = flt.read()
            flt.disable()
    """, conf=OUT),
    Case("filter-brigades", "8.called per brigade", SAY + """
        def handler(req):
            req.seen = 0
            for number in range(5):
                req.write("%d " % number)
            calls = req.seen
            req.write(str(calls))
            return apache.OK
        def outputfilter(flt):
            flt.req.seen += 1
            data = flt.read()
            while data:
                say(flt, data)
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT, expect="0 1 2 3 4 5"),
    Case("filter-same-request", ("8.softspace, req", "23.same request object"), SAY + """
        def handler(req):
            req.mine = []
            req.write("x")
            req.write(json.dumps([len(req.mine) > 0, req.mine[0] is req]))
            return apache.OK
        def outputfilter(flt):
            data = flt.read()
            while data:
                flt.req.mine.append(flt.req)
                say(flt, data)
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT, expect="x[true, true]"),
    Case("filter-options", "1.PythonOption", TEXT + """
        def outputfilter(flt):
            data = flt.read()
            while data:
                say(flt, flt.req.get_options()["own"])
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT + "\nPythonOption own value", expect="value"),
    Case("filter-interpreter", "2.filters' interpreter", TEXT + """
        def outputfilter(flt):
            data = flt.read()
            while data:
                say(flt, apache.interpreter)
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT + "\nPythonInterpPerDirective On", expect="@htdocs@/filter-interpreter/"),
    Case("filter-headers", "8.softspace, req", TEXT + """
        def outputfilter(flt):
            if not flt.req.sent_bodyct:
                flt.req.headers_out["X-From-Filter"] = "yes"
            data = flt.read()
            while data:
                say(flt, data)
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT, headers=("X-From-Filter",), expect="some text"),
    Case("filter-content-length", "8.write(str|bytes)", UPPER_OUT.replace("data.upper()", "data + data"), conf=OUT,
         headers=("Content-Length",), expect="the file's text\n" * 2, **FILE),
    Case("filter-error-page", "8.called per brigade", UPPER_OUT + """
        def handler(req):
            return apache.HTTP_FORBIDDEN
    """, conf=OUT, status=403),
    Case("filter-large", "8.read([n])", SAY + """
        def outputfilter(flt):
            data = flt.read()
            while data:
                say(flt, data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT, bare=True, path="page.txt", files={"page.txt": "0123456789abcde\n" * 20000},
        expect="0123456789ABCDE\n" * 20000),
))
