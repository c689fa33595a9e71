"""Section 12: mod_python.Cookie."""

from suite.case import Case, Group

COOKIE, PARSE, SIGNED = "12.Cookie(name, value, **attrs)", "12.Cookie.parse", "12.SignedCookie"
MARSHAL, ADD, GET, ERROR = "12.MarshalCookie", "12.add_cookie", "12.get_cookies, get_cookie", "12.CookieError"
BROKEN = "SignedCookie and MarshalCookie cannot be used on Python 3"

ATTRIBUTES = """
    def tried(name="n", value="v", **attributes):
        try:
            return str(Cookie.Cookie(name, value, **attributes))
        except Exception as error:
            return type(error).__name__
"""
HEAD = "from mod_python import Cookie\n"


def code(body):
    """A handler that has `Cookie` and `tried`."""
    return HEAD + "def handler(req):" + ATTRIBUTES + body


GROUP = Group("cookies", (
    Case("cookie-str", COOKIE, code("""
    return answer(req, [tried(), tried(value=""), tried(value=5), tried(value="a=b/c%20"), tried(path="/"), tried(secure=1),
                        tried(domain="example.org", version=1, comment="c m", port="80,81", discard=1)])
"""), expect=["n=v", "n=", "n=5", "n=a=b/c%20", "n=v; path=/", "n=v; secure",
               "n=v; version=1; domain=example.org; comment=c m; discard; port=80,81"]),
    Case("cookie-order", COOKIE, code("""
    return answer(req, tried(httponly=True, samesite="Lax", expires=946684800, comment="c", secure=1, domain="d", path="/p"))
"""), expect="n=v; path=/p; domain=d; secure; comment=c; expires=Sat, 01-Jan-2000 00:00:00 GMT; samesite=Lax; httponly"),
    Case("cookie-value-as-it-is", COOKIE, code("""
    return answer(req, [tried(value="a b"), tried(value="a,b"), tried(value="[1]{2}"), tried(value="a@b:c")])
""")),
    Case("cookie-expires", COOKIE, code("""
    return answer(req, [tried(expires=0), tried(expires=86400.5), tried(expires="Sat, 14-Jun-2003 02:42:36 GMT"),
                        tried(expires="x"), tried(expires="Sat, 14 Jun 2003 02:42:36 GMT")])
""")),
    Case("cookie-max-age", COOKIE, code("    return answer(req, tried(max_age=60))\n"), expect="n=v; max-age=60",
         differs="`max_age` is written as browsers understand it; mod_python writes an underscore"),
    Case("cookie-flags-off", COOKIE, code("    return answer(req, tried(secure=0, httponly=False))\n"), expect="n=v",
         differs="a flag that is off is not written; mod_python writes it"),
    Case("cookie-comment-url", COOKIE, code("    return answer(req, tried(commentURL='http://c/'))\n"),
         expect="n=v; commentURL=http://c/", differs="commentURL can be written; mod_python raises AttributeError"),
    Case("cookie-quoted", COOKIE, code("""
    return answer(req, [tried(value="a;b"), tried(value='a"b'), tried(value="\\u00e9")])
"""), expect=['n="a\\073b"', 'n="a\\"b"', 'n="\\303\\251"'],
         differs="what cannot be written as it is is quoted; mod_python writes it all the same"),
    Case("cookie-line-break", (COOKIE, ERROR), code("""
    return answer(req, [tried(value="a\\r\\nX: y"), tried(name="a\\nb"), tried(path="/\\r\\n"), tried(name="a b")])
"""), expect=["CookieError"] * 4, differs="line breaks, and names that are none, are refused; mod_python sends them"),
    Case("cookie-samesite", COOKIE, code("    return answer(req, [tried(samesite='strict'), tried(samesite='x')])\n"),
         expect=["n=v; samesite=Strict", "CookieError"], differs="`samesite` must be Lax, Strict or None"),
    Case("cookie-unknown", COOKIE, code("""
    cookie = Cookie.Cookie("n", "v")
    return answer(req, [tried(colour="red"), attempt(setattr, cookie, "colour", "red"), hasattr(cookie, "path")])
"""), expect=["AttributeError", "AttributeError", False]),
    Case("cookie-later", COOKIE, code("""
    cookie = Cookie.Cookie("n", "v")
    cookie.path = "/p"
    cookie.value = "w"
    return answer(req, [str(cookie), repr(cookie), cookie.name, cookie.__data__])
"""), expect=["n=w; path=/p", "<Cookie: n=w; path=/p>", "n", {}]),
    Case("cookie-parse", PARSE, HEAD + """
def handler(req):
    seen = []
    for text in ("a=b", "a=b; c=d", "a=b;c=d", "a=b=c", "a", "a=", "a=b;a=c", ";;;", "$Version=1; a=b; $Path=/p", "a=%20b",
                 "a=b; path=/x", "a=b,c=d"):
        seen.append({name: cookie.value for name, cookie in Cookie.Cookie.parse(text).items()})
    return answer(req, seen)
"""),
    Case("cookie-parse-names", PARSE, HEAD + """
def handler(req):
    return answer(req, sorted(Cookie.Cookie.parse("a=b; c=d; e=f", names=["a", "e"])))
""", expect=["a", "e"]),
    Case("cookie-parse-quoted", PARSE, HEAD + """
def handler(req):
    return answer(req, Cookie.Cookie.parse('a="b c"')["a"].value)
""", expect="b c", differs="quotes are taken off; mod_python leaves them"),
    Case("cookie-parse-white", PARSE, HEAD + """
def handler(req):
    return answer(req, [sorted(Cookie.Cookie.parse("=b")), Cookie.Cookie.parse(" a = b ;c=d")["a"].value])
""", expect=[[], "b"], differs="a cookie needs a name, and white space around the value is no part of it"),
    Case("cookie-add", ADD, """
        from mod_python import Cookie
        Cookie.add_cookie(req, "x", "y", path="/", expires=0)
        Cookie.add_cookie(req, Cookie.Cookie("z", "w"))
        return apache.OK
    """, headers=("Set-Cookie", "Cache-Control"), expect_headers={
        "Set-Cookie": ["x=y; path=/; expires=Thu, 01-Jan-1970 00:00:00 GMT", "z=w"],
        "Cache-Control": ['no-cache="set-cookie"'],
    }),
    Case("cookie-get", GET, """
        from mod_python import Cookie
        found = Cookie.get_cookies(req)
        return answer(req, [{name: cookie.value for name, cookie in found.items()}, str(Cookie.get_cookie(req, "a")),
                            Cookie.get_cookie(req, "none")])
    """, send=[("Cookie", "a=b; c=d")], expect=[{"a": "b", "c": "d"}, "a=b", None]),
    Case("cookie-get-none", GET, """
        from mod_python import Cookie
        return answer(req, Cookie.get_cookies(req))
    """, expect={}),
    Case("cookie-signed", SIGNED, """
        from mod_python import Cookie
        wire = str(Cookie.SignedCookie("n", "v", "secret"))
        good = Cookie.SignedCookie.parse(wire, "secret")["n"]
        bad = Cookie.SignedCookie.parse(wire + "x", "secret")["n"]
        return answer(req, [wire, type(good).__name__, good.value, type(bad).__name__,
                            Cookie.SignedCookie.parse(wire + "x", "secret", mismatch=Cookie.Cookie.IGNORE)])
    """, defect=BROKEN, expect=[
        "n=52e2a4f7527b6b742b9e8cc7e9ac83fc7315b02b7d039c1504ab3d1d6f37c9d9v", "SignedCookie", "v", "Cookie", {}]),
    Case("cookie-signed-without-secret", (SIGNED, ERROR), HEAD + """
def handler(req):
    return answer(req, [attempt(lambda: str(Cookie.SignedCookie("n", "v"))),
                        attempt(lambda: str(Cookie.SignedCookie("n", "v", ""))),
                        Cookie.SignedCookie.DOWNGRADE, Cookie.SignedCookie.IGNORE, Cookie.SignedCookie.EXCEPTION])
""", expect=["CookieError", "CookieError", 0, 1, 3]),
    Case("cookie-marshal", MARSHAL, """
        from mod_python import Cookie
        wire = str(Cookie.MarshalCookie("n", {"a": [1, "x"]}, "secret"))
        found = Cookie.MarshalCookie.parse(wire, "secret")["n"]
        return answer(req, [type(found).__name__, found.value])
    """, defect=BROKEN, expect=["MarshalCookie", {"a": [1, "x"]}]),
))
