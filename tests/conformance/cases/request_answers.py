"""Section 6: methods of the request that answer: writing, sending files, validators."""

from suite.case import Case, Group
from suite.runner import answered


def whole_page(response):
    """What is said of an error page: that it is one, that it has the length that was announced."""
    length = response.header("Content-Length")
    return [response.status, "Internal Server Error" in response.text, length in (None, str(len(response.body))),
            response.header("X-Split"), response.header("X-Added")]


def injected(talk):
    """The different answers to several requests."""
    seen = []
    for _ in range(20):
        answer = whole_page(talk.request())
        if answer not in seen:
            seen.append(answer)
    return seen


GROUP = Group("request-answers", (
    Case("meets-conditions", "6.meets_conditions()", """
        req.update_mtime(1000000000)
        req.set_last_modified()
        return req.meets_conditions() or answer(req, "changed")
    """, send=(("If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT"),), status=304, headers=("Last-Modified",)),
    Case("meets-conditions-changed", "6.meets_conditions()", """
        req.update_mtime(1000000000)
        req.set_last_modified()
        return req.meets_conditions() or answer(req, "changed")
    """, send=(("If-Modified-Since", "Sun, 09 Sep 2001 01:46:39 GMT"),), headers=("Last-Modified",), expect="changed"),
    Case("send-http-header", "6.send_http_header()", """
        req.content_type = "text/plain"
        got = req.send_http_header()
        req.headers_out["X-Late"] = "1"
        req.write(str(got))
        return apache.OK
    """, headers=("X-Late", "Content-Type")),
    Case("head-after-write", "23.live after the first write", """
        req.content_type = "text/x-early"
        req.headers_out["X-Late"] = "early"
        req.write("text,")
        req.content_type = "text/x-late"
        req.headers_out["X-Late"] = "late"
        req.status = 201
        req.write("%s,%s,%s" % (req.content_type, req.headers_out["X-Late"], req.status))
        return apache.OK
    """, drive=lambda talk: sorted({str([r.status, r.text, r.header("Content-Type"), r.header("X-Late")])
                                    for r in (talk.request() for _ in range(20))})),
    Case("head-after-last-write", "23.live after the first write", """
        req.headers_out["X-Late"] = "early"
        req.write("text")
        req.headers_out["X-Late"] = "late"
        return apache.OK
    """, drive=lambda talk: sorted({str([r.status, r.text, r.header("X-Late")])
                                    for r in (talk.request() for _ in range(20))})),
    Case("head-after-unflushed-write", "6.write(s[, flush=1])", """
        req.headers_out["X-Late"] = "early"
        req.write("text", 0)
        req.headers_out["X-Late"] = "late"
        return apache.OK
    """, headers=("X-Late",), expect="text", expect_headers={"X-Late": ["late"]}),
    Case("error-after-unflushed-write", "3.HTTP_xxx int", """
        req.write("text", 0)
        return apache.HTTP_NOT_FOUND
    """, drive=answered(lambda r: [r.status, "Not Found" in r.text, r.text[:4]]), expect=[404, True, "<!DO"]),
    Case("error-after-write", "3.HTTP_xxx int", """
        req.write("text,")
        req.write("more", 0)
        return apache.HTTP_NOT_FOUND
    """, drive=answered(lambda r: [r.status, "Not Found" in r.text, r.text[:5]])),
    *(Case(f"header-{name}", "3.HTTP_xxx int", code + """
        req.write("text")
        return apache.OK
    """, drive=injected, expect=[[500, True, True, None, None]],
           defect="the error page comes twice, or its length is wrong")
      for name, code in (
          ("injected", 'req.headers_out["X-Split"] = "a\\r\\nX-Added: b"'),
          ("injected-error", 'req.err_headers_out.add("X-Split", "a\\nX-Added: b")'),
          ("injected-type", 'req.content_type = "text/plain\\r\\nX-Added: b"'),
          ("name", 'req.headers_out["X Split"] = "a"'))),
    Case("sendfile", "6.sendfile(path[, off[, len]])", """
        path = req.document_root() + "/static/page.txt"
        counts = [req.sendfile(path), req.sendfile(path, 2), req.sendfile(path, 2, 3)]
        req.write(json.dumps(counts))
        return apache.OK
    """, expect="a static page\nstatic page\nsta[14, 12, 3]",
        differs="an offset without a length sends the rest; mod_python wants the whole file's length, and fails"),
    Case("sendfile-lengths", "6.sendfile(path[, off[, len]])", """
        path = req.document_root() + "/static/page.txt"
        counts = [req.sendfile(path), req.sendfile(path, 0, 5), req.sendfile(path, 2, 3)]
        req.write(json.dumps(counts))
        return apache.OK
    """, expect="a static page\na stasta[14, 5, 3]"),
    Case("sendfile-beyond", "6.sendfile(path[, off[, len]])", """
        path = req.document_root() + "/static/page.txt"
        counts = [attempt(req.sendfile, path, 9, 100)]
        req.log_error(MARK + json.dumps(counts))
        return apache.OK
    """, expect_log=["error, client: [5]"], log=True, compare_body=False,
        differs="a length beyond the file's end sends what there is; mod_python breaks the connection"),
    Case("sendfile-errors", "6.sendfile(path[, off[, len]])", """
        return answer(req, [attempt(req.sendfile, "/no/such/file"), attempt(req.sendfile, 5), attempt(req.sendfile)])
    """, expect=["OSError", "TypeError", "TypeError"]),
    Case("set-content-length", "6.set_content_length(n), set_etag(), set_last_modified(), update_mtime(secs)", """
        got = req.set_content_length(4)
        req.write("four")
        return apache.OK
    """, headers=("Content-Length",), expect="four", expect_headers={"Content-Length": ["4"]}),
    Case("update-mtime", "6.set_content_length(n), set_etag(), set_last_modified(), update_mtime(secs)", """
        before = req.mtime
        got = [req.update_mtime(1000000000), req.mtime, req.update_mtime(5), req.mtime, req.set_last_modified(),
               attempt(req.update_mtime, "x"), attempt(req.set_content_length, "x")]
        return answer(req, got)
    """, headers=("Last-Modified",)),
    Case("set-etag", "6.set_content_length(n), set_etag(), set_last_modified(), update_mtime(secs)", """
        got = req.set_etag()
        return answer(req, [got, "ETag" in req.headers_out])
    """, path="@module@.py"),
    Case("write", "6.write(s[, flush=1])", r"""
        got = [req.write("gr\u00fc\u00df "), req.write(b"bytes\xff "), req.write("\u20ac", 0), req.write("", 1),
               attempt(req.write, 5), attempt(req.write, None), attempt(req.write), attempt(lambda: req.write(s="x")),
               attempt(lambda: req.write("y", flush=0)), attempt(req.write, bytearray(b"z")),
               attempt(req.write, memoryview(b"v"))]
        req.write(json.dumps(got))
        return apache.OK
    """),
    Case("write-surrogate", "6.write(s[, flush=1])", r"""
        return answer(req, attempt(req.write, "\udcff"))
    """),
    Case("write-many", "6.write(s[, flush=1])", """
        for number in range(3000):
            req.write("line %d\\n" % number, number % 2)
        return apache.OK
    """, expect="".join(f"line {n}\n" for n in range(3000))),
    Case("write-flushed", "23.many flushed writes", """
        for number in range(20000):
            req.write("x" * 10)
        return apache.OK
    """, expect="x" * 200000),
    Case("write-head", "6.write(s[, flush=1])", """
        req.content_type = "text/plain"
        req.write("not seen")
        return apache.OK
    """, method="HEAD", headers=("Content-Type",)),
    Case("build-wsgi-env", "6.build_wsgi_env(), wsgi_start_response(status, headers[, exc])", """
        env = req.build_wsgi_env()
        return answer(req, [type(env).__name__, sorted(k for k in env if k not in ("SERVER_SIGNATURE",
                            "LD_LIBRARY_PATH")),
                            env["PATH_INFO"], env["SCRIPT_NAME"], env["wsgi.url_scheme"], env["wsgi.version"],
                            env["QUERY_STRING"]])
    """, path="x?a=b", conf="PythonOption mod_python.wsgi.base_uri /build-wsgi-env"),
    Case("wsgi-start-response", ("6.build_wsgi_env(), wsgi_start_response(status, headers[, exc])",
                                 "21.wsgi_start_response"), """
        write = req.wsgi_start_response("202 Accepted", [("X-One", "1"), ("Content-Type", "text/x-own")])
        write(b"body")
        return apache.OK
    """, status=202, expect="body", headers=("X-One", "Content-Type"),
        defect="`wsgi_start_response` sets the status line only; httpd then sends 200"),
), files={"static/page.txt": "a static page\n"}, allow=("VIV0028",))
