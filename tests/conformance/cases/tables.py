"""Section 5: the table type."""

from suite.case import Case, Group

def head(talk):
    """The status line, and whether the header that was smuggled in came through. (How long httpd says its page is
    depends on how much of the answer had been written.)"""
    data = talk.exchange(f"GET {talk.target('')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
                         talk.server.port, half_close=False)
    return [data.split(b"\r\n")[0], b"X-Two" in data]


GROUP = Group("tables", (
    Case("table-get", "5.t[k]", """
        t = apache.table({"A": "1"})
        t.add("B", "2"); t.add("b", "3"); t.add("B", "4")
        return answer(req, [t["a"], t["A"], t["b"], attempt(lambda: t["none"]), attempt(lambda: t[1])])
    """, expect=["1", "1", ["2", "3", "4"], "KeyError", "TypeError"]),
    Case("table-get-bytes", "5.t[k]", """
        t = apache.table({"A": "1"})
        return answer(req, [t[b"a"], b"A" in t, t.get(b"a")])
    """, expect=["1", True, "1"]),
    Case("table-set", "5.t[k]=v, del t[k]", """
        t = apache.table()
        t.add("Key", "a"); t.add("KEY", "b"); t.add("other", "x"); t["kEy"] = "c"
        set_once = list(t.items())
        del t["key"]; del t["missing"]
        return answer(req, [set_once, t.items()])
    """, expect=[[["Key", "c"], ["other", "x"]], [["other", "x"]]]),
    Case("table-set-types", "5.t[k]=v, del t[k]", """
        t = apache.table()
        t[b"bytes"] = b"value"
        t["latin"] = "gr\\u00fc\\u00df"
        def why(*pair):
            try:
                t[pair[0]] = pair[1]
            except Exception as error:
                return [type(error).__name__, "ISO-8859-1" in str(error)]
        return answer(req, [t.items(), why(1, "v"), why("k", 1), why("k", None), why("k", "\\u20ac")])
    """, expect=[[["bytes", "value"], ["latin", "gr\u00fc\u00df"]], *[["TypeError", True]] * 4],
        differs="Latin-1 text that was put into a table can be read; mod_python raises SystemError (sec. 21)"),
    Case("table-del-types", "5.t[k]=v, del t[k]", """
        t = apache.table({"a": "1"})
        def drop(key):
            del t[key]
        return answer(req, [attempt(drop, 1), attempt(drop, b"a"), len(t)])
    """),
    Case("table-add", "5.add(k, v)", """
        t = apache.table()
        results = [t.add("X", "1"), t.add("x", "2"), attempt(t.add, "x", 3), attempt(t.add, "x")]
        return answer(req, [results, t.items(), t["X"]])
    """, expect=[[None, None, "TypeError", "TypeError"], [["X", "1"], ["x", "2"]], ["1", "2"]]),
    Case("table-lookups", "5.get(k[, d]) / has_key(k) / in / len", """
        t = apache.table([("a", "1"), ("A", "2"), ("b", "3")])
        return answer(req, [t.get("A"), t.get("z"), t.get("z", "d"), t.get("z", 5), t.has_key("B"), t.has_key("z"),
                            "B" in t, "z" in t, len(t), attempt(t.get, 1), attempt(t.has_key, 1)])
    """),
    Case("table-in-wrong-type", "5.get(k[, d]) / has_key(k) / in / len", """
        t = apache.table({"a": "1"})
        return answer(req, [attempt(lambda: 1 in t), attempt(lambda: None in t)])
    """),
    Case("table-setdefault-there", '5.setdefault(k[, ""]), popitem(), clear(), copy()', """
        t = apache.table({"a": "1"})
        return answer(req, [t.setdefault("A"), t.setdefault("a", "2"), t.items()])
    """, expect=["1", "1", [["a", "1"]]]),
    Case("table-setdefault-missing", ('5.setdefault(k[, ""]), popitem(), clear(), copy()', "21.table.setdefault"), """
        t = apache.table({"a": "1"})
        return answer(req, [t.setdefault("b", "2"), t.setdefault("c"), t["b"], t["c"]])
    """, expect=["2", "", "2", ""], defect="`setdefault` of a missing key kills httpd's child (SIGSEGV)"),
    Case("table-popitem", '5.setdefault(k[, ""]), popitem(), clear(), copy()', """
        t = apache.table([("first", "1"), ("second", "2"), ("third", "3")])
        return answer(req, [t.popitem(), t.items(), t.popitem(), t.popitem(), attempt(t.popitem)])
    """, expect=[["first", "1"], [["second", "2"], ["third", "3"]], ["second", "2"], ["third", "3"], "KeyError"],
        differs="the pair that is given is the one removed; mod_python gives the first and removes the last"),
    Case("table-clear-copy", '5.setdefault(k[, ""]), popitem(), clear(), copy()', """
        t = apache.table([("a", "1"), ("A", "2")])
        u = t.copy()
        u["b"] = "3"
        seen = [t.items(), u.items(), str(type(u)), t.clear(), len(t), len(u)]
        return answer(req, seen)
    """, expect=[[["a", "2"]], [["a", "2"], ["b", "3"]], "<class 'mp_table'>", None, 0, 2]),
    Case("table-update", "5.update(m)", """
        t = apache.table({"a": "1"})
        done = t.update({"A": "2", "b": "3"})
        seen = [done, sorted(t.items())]
        seen.append([attempt(t.update, [("c", "4")]), attempt(t.update, {"n": 5}), attempt(t.update, {6: "x"})])
        return answer(req, [seen, sorted(t.items())])
    """),
    Case("table-update-table", "5.update(m)", """
        t, other = apache.table({"a": "1"}), apache.table({"b": "2"})
        t.update(other)
        return answer(req, sorted(t.items()))
    """, expect=[["a", "1"], ["b", "2"]]),
    Case("table-lists", "5.keys, values, items and their iterators", """
        t = apache.table([("a", "1"), ("B", "2")])
        t.add("A", "3")
        return answer(req, [t.keys(), t.values(), t.items(), type(t.keys()).__name__, type(t.items()[0]).__name__,
                            list(t), [k for k in t]])
    """, expect=[["a", "B", "A"], ["1", "2", "3"], [["a", "1"], ["B", "2"], ["A", "3"]], "list", "tuple",
                 ["a", "B", "A"], ["a", "B", "A"]]),
    Case("table-iterators", "5.keys, values, items and their iterators", """
        t = apache.table([("a", "1"), ("B", "2")])
        return answer(req, [list(t.iterkeys()), list(t.itervalues()), list(t.iteritems()), hasattr(t.iterkeys(),
                            "__next__")])
    """, expect=[["a", "B"], ["1", "2"], [["a", "1"], ["B", "2"]], True]),
    Case("table-compare", "5.==, !=", """
        t, u = apache.table([("a", "1"), ("b", "2")]), apache.table([("b", "2"), ("a", "1")])
        return answer(req, [t == u, t != u, t == {"a": "1", "b": "2"}, t == {"a": "1"}, t != {"a": "1"}])
    """),
    Case("table-compare-case", "5.==, !=", """
        t, u = apache.table({"a": "1"}), apache.table({"A": "1"})
        return answer(req, [t == u, t == {"A": "1"}, t is None])
    """),
    Case("table-compare-other", "5.==, !=", """
        t = apache.table({"a": "1"})
        return answer(req, [t == None, t == "a", t != 5])
    """, expect=[False, False, True],
        differs="a table is unequal to what is no mapping; mod_python raises AttributeError"),
    Case("table-repr", "5.repr", """
        t = apache.table([("a", "1"), ("b", "it's")])
        return answer(req, [repr(t), str(t), repr(apache.table())])
    """, expect=['{\'b\': "it\'s", \'a\': \'1\'}', '{\'b\': "it\'s", \'a\': \'1\'}', "{}"]),
    Case("table-make", "5.table(x)", """
        made = [apache.table({"a": "1"}), apache.table([("a", "1"), ("a", "2")]), apache.table(),
                apache.table(apache.table({"x": "y"}))]
        return answer(req, [[t.items() for t in made], attempt(apache.table, 1), attempt(apache.table, "ab"),
                            attempt(lambda: apache.table(a="1")), attempt(apache.table, [("a", 1)]),
                            attempt(apache.table, [("a",)])])
    """),
    Case("table-subclass", "5.table(x)", """
        class Mine(apache.table):
            def shout(self):
                return [key.upper() for key in self]
        t = Mine({"a": "1"})
        return answer(req, [t.shout(), t["A"], isinstance(t, apache.table), hasattr(t, "pop")])
    """, expect=[["A"], "1", True, False],
        differs="an object of a subclass is one; mod_python makes a plain table"),
    Case("table-make-table", "4.table([map or pairs]), make_table", """
        return answer(req, [str(type(apache.table())), str(type(apache.make_table())), len(apache.make_table())])
    """, expect=["<class 'mp_table'>", "<class 'mp_table'>", 0]),
    Case("table-bool", "5.get(k[, d]) / has_key(k) / in / len", """
        return answer(req, [bool(apache.table()), bool(apache.table({"a": ""}))])
    """, expect=[False, True]),
    Case("table-hash", "5.==, !=", """
        return answer(req, attempt(hash, apache.table()) == "TypeError")
    """),
    Case("table-live-headers-out", "5.live tables", """
        req.headers_out["X-One"] = "1"
        req.headers_out["x-one"] = "2"
        req.headers_out.add("X-Two", "a"); req.headers_out.add("X-Two", "b")
        req.headers_out["X-Gone"] = "1"
        del req.headers_out["X-GONE"]
        return answer(req, sorted(req.headers_out.keys()))
    """, headers=("X-One", "X-Two", "X-Gone"), expect_headers={"X-One": ["2"], "X-Two": ["a", "b"], "X-Gone": []}),
    Case("table-live-kept", "5.live tables", """
        first = req.headers_out
        first["X-One"] = "1"
        return answer(req, [req.headers_out["X-One"], req.headers_out == first, str(type(first))])
    """, headers=("X-One",), expect=["1", True, "<class 'mp_table'>"]),
    Case("table-live-all", "5.live tables", """
        tables = {
            "headers_in": req.headers_in, "headers_out": req.headers_out, "err_headers_out": req.err_headers_out,
            "subprocess_env": req.subprocess_env, "notes": req.notes, "get_config": req.get_config(),
            "get_options": req.get_options(), "conn.notes": req.connection.notes,
            "server.get_config": req.server.get_config(), "server.get_options": req.server.get_options(),
        }
        return answer(req, {name: str(type(table)) for name, table in tables.items()})
    """),
    Case("table-live-written", "5.live tables", """
        seen = []
        for table in (req.headers_in, req.headers_out, req.err_headers_out, req.subprocess_env, req.notes,
                      req.get_options(), req.connection.notes):
            table["X-New"] = "v"
            seen.append(table["x-new"])
        again = [req.headers_in, req.headers_out, req.err_headers_out, req.subprocess_env, req.notes,
                 req.connection.notes]
        return answer(req, [seen, [table.get("X-New") for table in again]])
    """, expect=[["v"] * 7, ["v"] * 6]),
    Case("table-live-phases", "5.live tables", """
        def fixuphandler(req):
            req.notes["one"] = "1"
            req.notes.add("two", "a"); req.notes.add("two", "b")
            req.subprocess_env["E"] = "env"
            req.headers_in["X-In"] = "in"
            req.connection.notes["c"] = "conn"
            return apache.OK
        def handler(req):
            return answer(req, [req.notes["one"], req.notes["two"], req.subprocess_env["e"], req.headers_in["x-in"],
                                req.connection.notes["C"]])
    """, conf="PythonFixupHandler @module@", expect=["1", ["a", "b"], "env", "in", "conn"]),
    Case("table-header-several", "5.t[k]", """
        return answer(req, [req.headers_in["x-twice"], req.headers_in.get("X-Twice"), req.headers_in["x-latin"]])
    """, send=(("X-Twice", "a"), ("X-Twice", "b"), ("X-Latin", "plain"))),
    Case("table-header-utf8", ("5.t[k]", "21.non-UTF-8 header"), """
        return answer(req, req.headers_in["x-utf"])
    """, send=(("X-Utf", "gr\u00c3\u00bc\u00c3\u009f"),)),
    Case("table-header-latin", ("5.t[k]", "21.non-UTF-8 header"), """
        value = req.headers_in["x-latin"]
        return answer(req, [len(value), value[:2], value in dict(req.headers_in.items()).values()])
    """, send=(("X-Latin", "gr\u00fc\u00df"),), expect=[4, "gr", True],
        defect="a request header that is not UTF-8 kills httpd's child, or raises SystemError"),
    Case("table-crlf", "5.live tables", """
        req.headers_out["X-One"] = "a\\r\\nX-Two: b"
        return answer(req, "sent")
    """, drive=head, expect=["HTTP/1.1 500 Internal Server Error", False]),
), allow=("VIV0028",))
