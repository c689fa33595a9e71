"""Sections 3 and 8: filters that fail, or that do not end properly."""

from suite.case import Case, Group
from suite.runner import answered

from .filters import IN, OUT, POST, READS, SAY, TEXT

LOST = "a filter that fails hands on what it was given; mod_python loses it"
ENDLESS = "an answer ends even if its filter does not close; mod_python leaves it without an end"

GROUP = Group("filter-errors", (
    Case("filter-missing-module", "3.in a filter", TEXT,
         conf="PythonOutputFilter no_such_module @id@\nSetOutputFilter @id@", expect="some text",
         differs=LOST),
    Case("filter-missing-function", "3.in a filter", TEXT, conf=OUT, expect="some text", differs=LOST),
    Case("filter-error", "3.in a filter", TEXT + """
        def outputfilter(flt):
            raise ValueError("in filter-error")
    """, conf=OUT, drive=lambda talk: [talk.ask(), [line.rpartition(": ")[2] for line in talk.log_lines(
        "ValueError: in filter-error", wait=1)]], expect=[[200, "some text"], ["in filter-error"]],
        differs=LOST),
    Case("filter-error-debug", "3.in a filter", TEXT + """
        def outputfilter(flt):
            raise ValueError("in the <filter>")
    """, conf=OUT + "\nPythonDebug On", drive=answered(lambda r: [
        r.status, r.text[:44], "ValueError: in the &lt;filter&gt;" in r.text, r.text[-10:]]),
        expect=[500, '\n<pre>\nMod_python error: "filter-error-debug', True, "\nsome text"], differs=LOST),
    Case("filter-error-late", "3.in a filter", SAY + """
        def handler(req):
            req.write("one ")
            req.write("two ")
            req.write("three")
            return apache.OK
        def outputfilter(flt):
            data = flt.read()
            if data == b"two ":
                raise ValueError("late")
            while data:
                say(flt, data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT),
    Case("filter-input-error", "3.in a filter", READS + """
        def inputfilter(flt):
            raise ValueError("in filter-input-error")
    """, conf=IN, expect="some text", differs=LOST, **POST),
    Case("filter-server-return", "3.in a filter", TEXT + """
        def outputfilter(flt):
            raise apache.SERVER_RETURN(apache.OK)
    """, conf=OUT, compare_body=False, differs="`SERVER_RETURN` ends the stream; mod_python breaks the connection"),
    Case("filter-nothing", "8.return value ignored", TEXT + """
        def outputfilter(flt):
            return 500
    """, conf=OUT, expect="", differs=ENDLESS),
    Case("filter-not-closed", "8.flushed automatically", TEXT + """
        def outputfilter(flt):
            data = flt.read()
            while data:
                say(flt, data.upper())
                data = flt.read()
            return apache.HTTP_FORBIDDEN
    """, conf=OUT, expect="SOME TEXT", differs=ENDLESS),
    Case("filter-temporaries", "8.write(str|bytes)", """
        def handler(req):
            for number in range(50):
                req.write("some text %d " % number)
            return apache.OK
        def outputfilter(flt):
            data = flt.read()
            while data:
                flt.write(data.upper())
                data = flt.read()
            if data is None:
                flt.close()
    """, conf=OUT, expect="".join(f"SOME TEXT {number} " for number in range(50)),
        defect="a filter that writes an object which nobody holds any more sends rubbish"),
))
