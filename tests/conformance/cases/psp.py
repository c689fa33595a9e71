"""Section 14: Python Server Pages."""

from suite.case import Case, Group

CONF = "SetHandler mod_python\nPythonHandler mod_python.psp\n"
TEXT, CODE, INCLUDE = "14.text", "14.code and indentation", "14.include"
CHARSET = "the answer says that it is UTF-8, as what is written is"


def page(case_id, row, text, conf="", files=None, query="", **more):
    """A case of a page that the handler serves."""
    return Case(case_id, row, bare=True, conf=CONF + conf, files={"page.psp": text, **(files or {})},
                **{"path": "page.psp" + query, **more})


def lines(*parts):
    """A page of these lines."""
    return "\n".join(parts) + "\n"


def logs(pattern):
    """A conversation: the status, and whether the log has a line that matches."""
    return lambda talk: [talk.ask("page.psp")[0], bool(talk.log_lines(pattern, wait=1))]


def edited(talk):
    """A page, before and after a change of its file. Each of mod_python's processes has to see it."""
    def shown():
        return {talk.ask("page.psp")[1] for _ in range(8)}

    file = talk.server.htdocs / talk.case.id / "page.psp"
    before = shown()
    file.write_text("after <%= 1 + 1 %>")
    return [sorted(before), sorted(shown())]


GROUP = Group("psp", (
    page("psp-text", TEXT, 'plain & <b class="x">%s {} 100% \' """ "</b>\n'),
    page("psp-unicode", TEXT, "Grüße <%= 'ü€' %> 😀", expect="Grüße ü€ 😀".encode().decode("latin-1")),
    page("psp-backslash", TEXT, "\\n \\t \\r \\d", expect="\\n \\t \\r \\d"),
    page("psp-backslash-pairs", TEXT, "\\\\ \\x41 \\'", expect="\\\\ \\x41 \\'",
         differs="text is sent as it is written; mod_python gives it to Python, which reads the backslashes in it"),
    page("psp-crlf", TEXT, "a\r\nb<%\r\nx = 1\r\n%>\r\nc\r\n"),
    page("psp-empty", TEXT, ""),
    page("psp-comment", TEXT, "a<%-- <%= nothing %> \n --%>b", expect="ab"),
    page("psp-expression", TEXT, "<%= 1 + 1 %><%='x'%>|<%= [1, 'a'] %>|<%= None %>|<%= b'b' %>"),
    page("psp-expression-lines", TEXT, "<%= (1,\n2) %>."),
    page("psp-expression-comment", TEXT, "<%= 1 # one %>.", expect="1.",
         differs="a comment may stand in an expression; mod_python answers 500"),
    page("psp-raw", TEXT, "<%== '<' %>", expect="<", differs="`<%== %>` is new; mod_python answers 500"),
    page("psp-code", CODE, "<% x = 1; y = 2 %><%= x + y %>", expect="3"),
    page("psp-unclosed", CODE, "a<% req.write('b')", expect="ab"),
    page("psp-loop", CODE, lines("<%", "for n in range(3):", "    # each", "%>", "<p><%= n %></p>", "<%", "# end", "%>", "end")),
    page("psp-colon", CODE, lines("<%", "for n in range(3):", "%>", "<p><%= n %></p>", "<%", "%>", "end")),
    page("psp-else", CODE, lines("<%", "if 0:", "%>a<%", "else:", "%>b<%", "%>c")),
    page("psp-nested", CODE, lines(
        "<%", "for x in 1, 2:", "    for y in 1, 2:", "        # inner", "%><%= x * y %>,<%", "    # outer", "%>/<%", "# end", "%>.",
    )),
    page("psp-blank-line", CODE, lines("<%", "for n in range(3):", "    x = n", "", "%><%= x %>"), expect="2\n"),
    page("psp-code-in-loop", CODE, lines("<%", "for n in range(3):", "    # each", "%><% x = n * 2 %><%= x %><%", "%>.")),
    page("psp-function", CODE, lines("<%", "def f(x):", "    # body", "%>[<%= x %>]<%", "# end", "%><% f(1) %><% f(2) %>")),
    page("psp-margin", CODE, lines("<%", "  x = 1", "%>"), status=500, compare_body=False),
    page("psp-one-line", CODE, "<% for n in 1, 2: %><%= n %>,<% end %>.", expect="1,2,.",
         differs="blocks may be opened in one line; mod_python answers 500"),
    page("psp-one-line-else", CODE, "<% if 0: %>a<% else: %>b<% end if %>c", expect="bc",
         differs="blocks may be opened in one line; mod_python answers 500"),
    page("psp-colon-comment", CODE, lines("<%", "for n in 1, 2: # each", "%><%= n %><%", "%>."), expect="12.\n",
         differs="a comment behind the colon does no harm; mod_python answers 500"),
    page("psp-comment-only", CODE, "<% # a note %>a", expect="a",
         differs="a comment ends with its block; mod_python answers 500"),
    page("psp-syntax-error", CODE, "<% if %>", status=500, compare_body=False),
    page("psp-include", INCLUDE, 'a<%@ include file="inc.psp" %>b<%= x %>',
         files={"inc.psp": "[<% x = 5 %>]"}, expect="a[]b5"),
    page("psp-include-below", INCLUDE, '<%@ include file="sub/inc.psp" %>.',
         files={"sub/inc.psp": 'i<%@ include file="other" %>', "sub/other": "sub", "other": "top"}, expect="itop."),
    page("psp-include-path", INCLUDE, '<%@ include file="@dir@/inc.psp" %>.', files={"inc.psp": "inc"}, expect="inc.",
         defect="with an absolute name, the httpd child dies or sends nothing"),
    page("psp-include-quotes", INCLUDE, "a<%@ include file='inc.psp' %>b", files={"inc.psp": "inc"}, expect="aincb",
         differs="either quotes will do; mod_python includes nothing"),
    page("psp-include-missing", INCLUDE, 'a<%@ include file="none" %>b', status=500, compare_body=False),
    page("psp-include-itself", INCLUDE, 'a<%@ include file="page.psp" %>b', status=500, compare_body=False,
         defect="the httpd child dies"),
    page("psp-directive", INCLUDE, "a<%@ inlcude file=\"x\" %>", status=500, compare_body=False,
         differs="a directive that does not exist is an error; mod_python ignores it"),
    page("psp-type", "14.handler", "<p>", headers=("Content-Type",),
         expect_headers={"Content-Type": ["text/html; charset=utf-8"]}, differs=CHARSET),
    page("psp-own-type", "14.handler", "<% req.content_type = 'text/plain' %>x", headers=("Content-Type",)),
    page("psp-missing", "14.handler", "", path="none.psp", status=404),
    page("psp-post", "14.handler", "<%= req.method %>", method="POST", body=b"x=1",
         send=(("Content-Type", "application/x-www-form-urlencoded"),), expect="POST"),
    page("psp-source", "14.handler", "<b><%= 1 %>", path="page.psp_", status=404),
    page("psp-source-debug", "14.handler", "<b><%= 1 %>", conf="PythonDebug On\n", path="page.psp_", compare_body=False),
    page("psp-names", "14.names of a page", """<%
names = "PSP PSPInterface Session apache escape form os parse parsestring psp req session sys util".split()
%><%= [name for name in names if name not in globals()] %>""", expect="[]"),
    page("psp-form-none", "14.names of a page", "<%= globals()['form'] %> <%= globals()['session'] %>", expect="None None"),
    page("psp-form", "14.names of a page", "<%= form.getfirst('name') %>|<%= req.form is form %>", query="?name=%C3%BC",
         expect="ü|True".encode().decode("latin-1"), defect="the fields of a query string come out wrong"),
    page("psp-session", "14.names of a page", "<%= session.is_new() %><% session['a'] = 1 %>", compare_body=False),
    page("psp-error", "14.errors", "<% 1 / 0 %>", status=500, compare_body=False),
    page("psp-error-after-text", "14.errors", "text\n<% 1 / 0 %>", status=500, compare_body=False),
    page("psp-error-line", "14.errors", "<%\nx = 1\n%><%\n1 / 0\n%>", status=200, drive=logs(r'page\.psp", line 4')),
    page("psp-error-line-moved", "14.errors", "<%-- two\nlines --%><% 1 / 0 %>", drive=logs(r'page\.psp", line 2'),
         differs="a comment of several lines does not move the lines of tracebacks"),
    page("psp-error-page", "14.errors", "<% psp.set_error_page('error.psp') %>a<% 1 / 0 %>",
         files={"error.psp": "<%= exception[0].__name__ %>, <%= exception[1] %>"}, expect="aZeroDivisionError, division by zero"),
    page("psp-error-page-root", "14.errors", "<% psp.set_error_page('/psp-error-page-root/error.psp') %><% 1 / 0 %>",
         files={"error.psp": "<%= exception[0].__name__ %>"}, expect="ZeroDivisionError"),
    page("psp-redirect", "14.PSPInterface", "<% psp.redirect('/there') %>never", status=302, headers=("Location",),
         compare_body=False, expect_headers={"Location": ["/there"]}),
    page("psp-redirect-permanent", "14.PSPInterface", "<% psp.redirect('/there', 1) %>", status=301, compare_body=False),
    page("psp-redirect-late", "14.PSPInterface", """<%
req.write('x' * 10)
req.flush()
try:
    psp.redirect('/there')
except IOError:
    req.write(' too late')

%>""", expect="x" * 10 + " too late"),
    page("psp-apply-data", "14.PSPInterface", "<%= psp.apply_data(lambda a, b: a + b, b='2') %>", query="?a=1", expect="12",
         defect="the fields of a query string come out wrong"),
    page("psp-edited", "14.cache", "before <%= 1 %>", drive=edited, expect=[["before 1"], ["after 2"]]),

    # Programs that use pages.
    Case("psp-template", "14.PSP(req, filename, string, vars)", """
        from mod_python import psp
        def handler(req):
            page = psp.PSP(req, filename="sub/template.html", vars={"who": "vars", "other": "o"})
            page.run()
            page.run({"who": "run"}, flush=1)
            return apache.OK
    """, files={"sub/template.html": "Hello, <%= who %><%= other %>! "}, expect="Hello, varso! Hello, runo! "),
    Case("psp-string", "14.PSP(req, filename, string, vars)", """
        from mod_python import psp
        def handler(req):
            page = psp.PSP(req, string=b"Hello, <%= who %>!", vars={"who": "you"})
            page.run()
            req.write("[%s]" % page)
            return apache.OK
    """, expect="Hello, you!Hello, you![]"),
    Case("psp-text-string", "14.PSP(req, filename, string, vars)", """
        from mod_python import psp
        def handler(req):
            psp.PSP(req, string="Hello, <%= who %>!").run({"who": "you"})
            return apache.OK
    """, expect="Hello, you!", differs="the source may be text; with mod_python it must be bytes"),
    Case("psp-both", "14.PSP(req, filename, string, vars)", """
        from mod_python import psp
        return answer(req, attempt(psp.PSP, req, "a", b"b"))
    """, expect="ValueError"),
    Case("psp-template-missing", "14.PSP(req, filename, string, vars)", """
        from mod_python import psp
        def handler(req):
            psp.PSP(req, filename="none.html").run()
            return apache.OK
    """, status=404),
    Case("psp-template-type", "14.PSP(req, filename, string, vars)", """
        from mod_python import psp
        def handler(req):
            psp.PSP(req, filename="t.html").run()
            return apache.OK
    """, files={"t.html": "x"}, headers=("Content-Type",)),
    Case("psp-display", "14.PSP(req, filename, string, vars)", """
        from mod_python import psp
        def handler(req):
            return answer(req, "req.write" in psp.PSP(req, filename="t.html").display_code())
    """, files={"t.html": "<%= x %>"}, expect=True, differs="mod_python fails"),
    Case("psp-parse", "14.parse(file[, dir]), parsestring(bytes)", """
        from mod_python import psp
        FOLDER = os.path.dirname(os.path.abspath(__file__)) + "/"
        def handler(req):
            found = [psp.parse("page.txt", FOLDER), psp.parse(FOLDER + "page.txt")]
            return answer(req, found + [attempt(psp.parse, "none", FOLDER)])
    """, files={"page.txt": "a\n<%= x %>b"},
         expect=['req.write("""a\n""",0); req.write(str( x ),0); req.write("""b""",0)\n'] * 2 + ["OSError"]),
    Case("psp-parsestring", "14.parse(file[, dir]), parsestring(bytes)", """
        from mod_python import psp
        return answer(req, [psp.parsestring(b"text\\n"), psp.parsestring(b"")])
    """, expect=['req.write("""text\n""",0)\n', ""]),
    Case("psp-parsestring-code", "14.parse(file[, dir]), parsestring(bytes)", r"""
        from mod_python import psp
        class Out:
            text = ""
            def write(self, text, flush=1):
                self.text += text
        def run(text):
            out = Out()
            exec(psp.parsestring(text), {"req": out})
            return out.text
        def handler(req):
            return answer(req, [run(b"<%\nfor n in range(3):\n%><%= n %>,<%\n%>."), run(b'"<% x = 1 %>\\n<%= x %>"')])
    """, expect=["0,1,2,.", '"\\n1"']),
    page("psp-autoescape", "14.escaping", "<%= '<&>' %><%== '<' %>", conf="PythonOption mod_python.psp.autoescape On\n",
         expect="&lt;&amp;&gt;<", only_ours="mod_python has no escaping"),
    page("psp-autoescape-page", "14.escaping", '<%@ page autoescape="on" %><%= "<" %>', expect="&lt;",
         only_ours="mod_python has no escaping"),
    page("psp-escape", "14.escaping", "<%= escape('<') %>", expect="&lt;"),
))
