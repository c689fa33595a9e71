"""Section 6: the request's attributes, what they are, and that those that are not to be changed cannot be."""

from suite.case import Case, Group

RO = (
    "connection server next prev main the_request header_only protocol proto_num hostname request_time method "
    "method_number allowed allowed_xmethods allowed_methods sent_bodyct bytes_sent mtime range clength remaining "
    "read_length read_body read_chunked expecting_100 content_encoding content_languages vlist_validator unparsed_uri "
    "parsed_uri eos_sent useragent_addr useragent_ip interpreter phase extension hlist _content_type_set _bytes_queued"
).split()


def value(name, row=None, **more):
    """A case that shows an attribute."""
    return Case(f"ro-{name.replace('_', '-').strip('-')}", row or f"6.{name}", f"return answer(req, req.{name})",
        **more)


GROUP = Group("request-readonly", (
    Case("ro-not-writable", "6.read-only attributes", f"""
        def error(name, value):
            try:
                setattr(req, name, value)
            except Exception as problem:
                return type(problem).__name__
            return "no error"
        names = {RO!r}
        return answer(req, {{name: error(name, getattr(req, name)) for name in names}})
    """, expect={name: "AttributeError" for name in RO}),
    Case("ro-not-deletable", "6.read-only attributes", f"""
        def drop(name):
            try:
                delattr(req, name)
            except Exception as problem:
                return type(problem).__name__
            return "no error"
        return answer(req, {{name: drop(name) for name in {RO!r}}})
    """),
    Case("ro-types", "6.read-only attributes", f"""
        return answer(req, {{name: type(getattr(req, name)).__name__ for name in {RO!r}}})
    """),
    Case("ro-type-names", "23.type names", """
        return answer(req, [str(type(x)) for x in (req, req.connection, req.server, req.headers_in, req.finfo)])
    """, expect=[f"<class 'mp_{x}'>" for x in ("request", "conn", "server", "table", "finfo")]),
    Case("ro-tree", "6.connection, server, next, prev, main", """
        return answer(req, [req.connection is req.connection, req.next, req.prev, req.main])
    """, expect=[True, None, None, None]),
    Case("ro-line", "6.the_request, header_only, protocol, proto_num, hostname, method, method_number", """
        return answer(req, [req.the_request, bool(req.header_only), req.protocol, req.proto_num, req.hostname,
                            req.method,
                            req.method_number])
    """, path="a%20b?c=d%20e"),
    Case("ro-line-post", "6.the_request, header_only, protocol, proto_num, hostname, method, method_number", """
        return answer(req, [req.the_request, bool(req.header_only), req.method, req.method_number == apache.M_POST])
    """, method="POST", body=b""),
    Case("ro-line-own-method", "6.the_request, header_only, protocol, proto_num, hostname, method, method_number", """
        return answer(req, [req.method, req.method_number, req.method_number == apache.M_INVALID])
    """, method="BREW"),
    Case("ro-line-head", "6.the_request, header_only, protocol, proto_num, hostname, method, method_number", """
        req.headers_out["X-Seen"] = "%s %s %s" % (req.method, req.method_number, bool(req.header_only))
        return apache.OK
    """, method="HEAD", headers=("X-Seen",), expect_headers={"X-Seen": ["HEAD 0 True"]}),
    Case("ro-line-10", "6.the_request, header_only, protocol, proto_num, hostname, method, method_number", """
        return answer(req, [req.protocol, req.proto_num, req.hostname, bool(req.assbackwards)])
    """, raw=b"GET @url@/ HTTP/1.0\r\n\r\n", expect=["HTTP/1.0", 1000, None, False]),
    Case("ro-line-absolute", "6.the_request, header_only, protocol, proto_num, hostname, method, method_number", """
        return answer(req, [req.the_request, req.hostname, req.unparsed_uri, req.uri, req.parsed_uri])
    """, raw=b"GET http://Some.Host:8080@url@/x?y HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"),
    Case("ro-request-time", "6.request_time", """
        import time
        return answer(req, [type(req.request_time).__name__, abs(time.time() - req.request_time) < 60])
    """, expect=["float", True]),
    Case("ro-allowed", "6.allowed, allowed_xmethods, allowed_methods", """
        return answer(req, [req.allowed, req.allowed_xmethods, req.allowed_methods])
    """),
    Case("ro-sent", ("6.sent_bodyct, bytes_sent", "23.live after the first write"), """
        seen = [req.sent_bodyct, req.bytes_sent, req.eos_sent, req._bytes_queued]
        req.write("x" * 100)
        seen += [req.sent_bodyct, req.bytes_sent, req._bytes_queued]
        req.write(json.dumps(seen))
        return apache.OK
    """, expect="x" * 100 + "[0, 0, 0, 0, 1, 100, 100]"),
    Case("ro-chunked-live", "23.live after the first write", """
        before = [bool(req.chunked), sorted(req.headers_out.keys())]
        req.write("text ")
        req.write(json.dumps([before, bool(req.chunked), sorted(req.headers_out.keys())]))
        return apache.OK
    """),
    Case("ro-mtime", "6.mtime", "return answer(req, [req.mtime, type(req.mtime).__name__])"),
    Case("ro-range", "6.range", "return answer(req, req.range)", send=(("Range", "bytes=0-3"),),
         drive=lambda talk: talk.ask()[1], expect=None),
    Case("ro-lengths", "6.clength, remaining, read_length, read_body, read_chunked, expecting_100, eos_sent", """
        return answer(req, [req.clength, req.remaining, req.read_length, req.read_body, req.read_chunked,
                            req.expecting_100, req.eos_sent])
    """),
    Case("ro-content", "6.content_encoding, content_languages, vlist_validator", """
        return answer(req, [req.content_encoding, req.content_languages, req.vlist_validator, req.content_type,
                            req._content_type_set])
    """),
    Case("ro-content-mime", "6.content_encoding, content_languages, vlist_validator", """
        return answer(req, [req.content_encoding, req.content_languages, req.content_type, req._content_type_set,
                            req.handler])
    """, path="page.html.en.gz", conf="AddLanguage en .en\nAddEncoding x-gzip .gz", files={"page.html.en.gz": "x"}),
    Case("ro-unparsed", "6.unparsed_uri, parsed_uri", """
        return answer(req, [req.unparsed_uri, req.uri, req.args, req.parsed_uri,
                            req.parsed_uri[apache.URI_PATH], req.parsed_uri[apache.URI_QUERY]])
    """, path="a%20b/../c;d?e=f%20g&h"),
    Case("ro-useragent", "6.useragent_addr, useragent_ip", """
        return answer(req, [req.useragent_addr[0], type(req.useragent_addr[1]).__name__, req.useragent_addr[1] > 0,
                            req.useragent_addr[1] == req.connection.client_addr[1], req.useragent_ip])
    """, expect=["127.0.0.1", "int", True, True, "127.0.0.1"]),
    Case("ro-useragent-remoteip", "6.useragent_addr, useragent_ip", """
        return answer(req, [req.useragent_ip, req.useragent_addr[0], req.connection.client_ip,
                            req.connection.client_addr[0]])
    """, send=(("X-Real", "192.0.2.7"),)),
    value("interpreter", expect="127.0.0.1"),
    value("phase", expect="PythonHandler"),
    Case("ro-phase-others", "6.phase", """
        def accesshandler(req):
            req.phases = [req.phase]
            return apache.OK
        def fixuphandler(req):
            req.phases.append(req.phase)
            return apache.OK
        def handler(req):
            req.phases.append(req.phase)
            return answer(req, req.phases)
    """, conf="PythonAccessHandler @module@\nPythonFixupHandler @module@",
        expect=["PythonAccessHandler", "PythonFixupHandler", "PythonHandler"]),
    value("extension"),
    Case("ro-extension-matched", "6.extension", "return answer(req, req.extension)", path="a.one.two",
         conf="PythonHandler @module@ | .one.two .two"),
    value("hlist", compare_body=False),
    Case("ro-capsule", "6._request_rec (capsule)", """
        return answer(req, [hasattr(x, n) for x, n in ((req, "_request_rec"), (req.connection, "_conn_rec"),
                                                       (req.server, "_server_rec"))])
    """, expect=[False, False, False],
        differs="raw pointers into httpd mean nothing in another process, so there are none"),
    Case("ro-unknown", "6.free attributes",
         "return answer(req, [attempt(lambda: req.no_such), hasattr(req, 'no_such')])",
         expect=["AttributeError", False]),
    Case("ro-free", "6.free attributes", """
        def fixuphandler(req):
            req.mine = {"a": [1]}
            req.kept = req
            return apache.OK
        def handler(req):
            req.mine["a"].append(2)
            same = req.kept is req
            del req.mine
            return answer(req, [same, hasattr(req, "mine"), attempt(delattr, req, "mine")])
    """, conf="PythonFixupHandler @module@"),
    Case("ro-free-fresh", "6.free attributes", """
        before = hasattr(req, "mine")
        req.mine = 1
        return answer(req, before)
    """, drive=lambda talk: [talk.ask() for _ in range(5)], expect=[[200, False]] * 5),
), modules=("remoteip",), conf="RemoteIPHeader X-Real\nRemoteIPInternalProxy 127.0.0.1")
