"""Server-side includes: `<!--#python eval="..." -->` and `exec`, and what their errors do."""

from suite.case import Case, Group
from suite.runner import answered

ROW = "15.SSI: #python eval, exec"
RE_ENTERED = "`req.write` in an element goes through mod_include again, which reports an error"
CONF = "Options +Includes\nAddOutputFilter INCLUDES .shtml\nAddType text/html .shtml"


def page(name, text, row=ROW, conf="", **more):
    """A case: a page with includes. Its handler module is only there to be imported."""
    options = {"files": {"page.shtml": text}, "path": "page.shtml", "bare": True, **more}
    return Case(f"ssi-{name}", row, conf=f"{CONF}\n{conf}", **options)


GROUP = Group("includes", (
    page("eval", 'a<!--#python eval="1 + 1" -->b\n', expect="a2b\n"),
    page("eval-values",
         '<!--#python eval="None" -->,<!--#python eval="\'text\'" -->,<!--#python eval="[1, \'x\']" -->\n'),
    page("exec", 'a<!--#python exec="print(1)" -->b\n', compare_body=False),
    page("exec-filter", 'a<!--#python exec="filter.write(\'from python\')" -->b\n', expect="afrom pythonb\n"),
    page("exec-request", 'a<!--#python exec="filter.req.write(\'from python\')" -->b\n', expect="afrom pythonb\n",
         defect=RE_ENTERED),
    page("exec-request-order", 'a<!--#python exec="filter.write(\'1\'); filter.req.write(\'2\'); filter.write(\'3\')" -->b'
         '<!--#python eval="4" -->\n', expect="a123b4\n", defect=RE_ENTERED),
    page("exec-lines", """<!--#python exec="
def double(x):
    return x * 2
value = double(21)
" -->a<!--#python eval="value" -->b
""", expect="a42b\n"),
    page("globals", """<!--#python exec="
import os
names = sorted(n for n in globals() if not n.startswith('__') and n not in ('os', 'names'))
" --><!--#python eval="names" -->|<!--#python eval="os.path.basename(__file__)" -->|<!--#python eval="filter.req.uri" -->
"""),
    page("ssi-globals", 'a<!--#python eval="given" -->b\n', conf="PythonFixupHandler @module@", code="""
        def fixuphandler(req):
            req.ssi_globals = {"given": "by the handler"}
            return apache.OK
    """, expect="aby the handlerb\n"),
    page("kept-in-request", 'a<!--#python exec="x = 5" -->b<!--#python eval="x" -->c\n', drive=lambda talk: [
        talk.ask("page.shtml")[1] for _ in range(2)], expect=["ab5c\n"] * 2),
    page("not-kept", 'a<!--#python eval="\'left\' in globals()" --><!--#python exec="left = 1" -->\n',
         drive=lambda talk: [talk.ask("page.shtml")[1] for _ in range(4)], expect=["aFalse\n"] * 4),
    page("noexec", 'a<!--#python eval="1 + 1" -->b\n', conf="Options -Includes +IncludesNOEXEC"),
    page("no-attribute", "a<!--#python -->b\n"),
    page("two-attributes", 'a<!--#python eval="1" exec="filter.write(\'2\')" -->b\n'),
    page("unknown-attribute", 'a<!--#python run="1" -->b\n'),
    page("with-httpd",
         '<!--#set var="x" value="1" --><!--#if expr="v(\'x\') = 1" -->a<!--#python eval="2" --><!--#endif -->'
         '<!--#python eval="filter.req.subprocess_env.get(\'x\')" -->\n', expect="a21\n"),
    Case("exception-ssi", "3.in SSI",
         conf="Options +Includes\nAddOutputFilter INCLUDES .shtml\nAddType text/html .shtml",
         bare=True, path="page.shtml", files={"page.shtml": 'a<!--#python eval="1/0" -->b\n'},
         expect="a[an error occurred while processing this directive]b\n",
         defect="with PythonDebug Off an exception in SSI breaks the connection"),
    Case("exception-ssi-debug", "3.in SSI", bare=True, path="page.shtml",
         conf="PythonDebug On\nOptions +Includes\nAddOutputFilter INCLUDES .shtml\nAddType text/html .shtml",
         files={"page.shtml": 'a<!--#python eval="1/0" -->b\n'}, drive=answered(lambda r: [
             r.status, r.text[:1], "ZeroDivisionError" in r.text, r.text[-2:]])),
), modules=("include",), allow=("VIV0026",))
