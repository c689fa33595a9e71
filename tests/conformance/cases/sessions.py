"""Section 13: mod_python.Session."""

from suite.case import Case, Group

SESSION, BASE, SID = "13.Session(req, ...)", "13.BaseSession", "13.sid"
COOKIE, DBM, FILE = "13.cookie", "13.DbmSession", "13.FileSession"
MEMORY, OURS = "13.MemorySession", "13.SqliteSession, RedisSession"

HEAD = "from mod_python import Session, Cookie\n"
COUNTER = HEAD + """
def handler(req):
    session = Session.Session(req)
    session["hits"] = session.get("hits", 0) + 1
    session.save()
    return answer(req, [session["hits"], bool(session.is_new()), session.timeout(), type(session).__name__])
"""
# A kind with a store of its own, in a file: the next request may come to another process.
OWN = HEAD + """
import pickle
class Own(Session.BaseSession):
    def __init__(self, req, **more):
        self.path = req.get_options()["scratch"] + "/own-"
        self.seen = []
        Session.BaseSession.__init__(self, req, **more)
    def do_load(self):
        self.seen.append("load")
        try:
            with open(self.path + self.id(), "rb") as file:
                return pickle.load(file)
        except IOError:
            return None
    def do_save(self, record):
        self.seen.append(["save", sorted(record)])
        with open(self.path + self.id(), "wb") as file:
            pickle.dump(record, file)
    def do_delete(self):
        self.seen.append("delete")
        os.unlink(self.path + self.id())
    def do_cleanup(self):
        self.seen.append("cleanup")
    def make_cookie(self):
        self.seen.append("cookie")
        return Session.BaseSession.make_cookie(self)
    def init_lock(self):
        self.seen.append("init_lock")
        return Session.BaseSession.init_lock(self)
"""


def cookie_of(response):
    """The last cookie that an answer sets."""
    return response.all("Set-Cookie")[-1].partition(";")[0]


def thrice(talk):
    """A client that keeps its cookie, and one that does not."""
    first = talk.request()
    seen = [talk.body_of(first), len(first.all("Set-Cookie"))]
    send = [("Cookie", cookie_of(first))]
    for _ in range(2):
        response = talk.request(send=send)
        seen += [talk.body_of(response), len(response.all("Set-Cookie"))]
    return [*seen, talk.body_of(talk.request())]


def with_cookie(talk):
    """What is said to a client that comes back."""
    first = talk.request()
    return [talk.body_of(first), talk.body_of(talk.request(send=[("Cookie", cookie_of(first))]))]


def attributes(talk):
    """Name and attributes of the cookie, the id's place kept."""
    name, _, rest = talk.request().all("Set-Cookie")[-1].partition("=")
    value, _, rest = rest.partition("; ")
    return [name, len(value), rest]


def kind(name, row, **more):
    """A counter with a kind of session."""
    return Case(f"session-{name.lower()}", row, COUNTER, drive=thrice, conf=f"""
        PythonOption mod_python.session.session_type {name}Session
        PythonOption mod_python.session.database_directory @scratch@
    """, **more)


GROUP = Group("sessions", (
    kind("File", (FILE, SESSION)),
    kind("Dbm", (DBM, SESSION)),
    kind("Sqlite", (OURS, SESSION), only_ours="mod_python has no such kind"),
    Case("session-memory", MEMORY, HEAD + """
def handler(req):
    session = Session.MemorySession(req)
    session["a"] = {"b": [1]}
    session.save()
    session.unlock()
    again = Session.MemorySession(req, sid=session.id())
    return answer(req, [again["a"], bool(again.is_new()), again.id() == session.id()])
""", expect=[{"b": [1]}, False, True]),
    Case("session-default", SESSION, COUNTER, drive=thrice, conf="PythonOption mod_python.session.database_directory @scratch@",
         differs="SQLite is the default; mod_python takes a dbm file, or the memory of a single process"),
    Case("session-old-option", (SESSION, FILE), COUNTER, drive=thrice, conf="""
        PythonOption session FileSession
        PythonOption session_directory @scratch@
    """),
    Case("session-no-such-type", SESSION, HEAD + """
def handler(req):
    try:
        Session.Session(req)
    except Exception:
        return answer(req, "refused")
""", conf="PythonOption mod_python.session.session_type NoSession", expect="refused"),
    Case("session-hooks", BASE, OWN + """
def handler(req):
    session = Own(req)
    new = bool(session.is_new())
    session["n"] = session.get("n", 0) + 1
    session.save()
    return answer(req, [new, session["n"], session.seen])
""", drive=with_cookie),
    Case("session-methods", BASE, OWN + """
def handler(req):
    session = Own(req, timeout=100)
    seen = [session.timeout(), session.created() <= session.last_accessed(), isinstance(session, dict), len(session.id())]
    session.set_timeout(7)
    session.save()
    seen.append(session.timeout())
    session.unlock()
    again = Own(req, sid=session.id())
    seen += [bool(again.is_new()), again.timeout(), session.id() == again.id()]
    again.unlock()
    return answer(req, seen)
"""),
    Case("session-invalidate", BASE, OWN + """
def handler(req):
    session = Own(req)
    session.save()
    session.invalidate()
    session.save()
    return answer(req, session.seen)
"""),
    Case("session-expired", BASE, OWN + """
def handler(req):
    session = Own(req)
    session["n"] = 1
    session.save()
    session.unlock()
    with open(session.path + session.id(), "rb") as file:
        record = pickle.load(file)
    record["_accessed"] -= 10000
    with open(session.path + session.id(), "wb") as file:
        pickle.dump(record, file)
    again = Own(req, sid=session.id())
    return answer(req, [bool(again.is_new()), again.id() == session.id(), dict(again)])
""", expect=[True, False, {}]),
    Case("session-sid-forms", SID, OWN + """
def handler(req):
    seen = []
    for sid in ("abc", "g" * 32, "A" * 32, "../../etc/passwd", "0" * 33):
        seen.append(attempt(lambda: Own(req, sid=sid, lock=0)))
    unknown = Own(req, sid="0" * 32, lock=0)
    return answer(req, seen + [bool(unknown.is_new()), unknown.id() == "0" * 32])
""", expect=["ValueError"] * 5 + [True, False]),
    Case("session-sid-of-cookie", SID, OWN + """
def handler(req):
    session = Own(req)
    return answer(req, [bool(session.is_new()), len(session.id()), session.id() == "0" * 32])
""", send=[("Cookie", "pysid=../../../etc/passwd")], expect=[True, 32, False]),
    Case("session-sid-unknown", SID, OWN + """
def handler(req):
    session = Own(req)
    return answer(req, [bool(session.is_new()), session.id() == "0" * 32])
""", send=[("Cookie", "pysid=" + "0" * 32)], expect=[True, False]),
    Case("session-cookie", COOKIE, COUNTER, drive=attributes, conf="""
        PythonOption mod_python.session.session_type FileSession
        PythonOption mod_python.session.database_directory @scratch@
    """, expect=["pysid", 32, "path=/session-cookie; samesite=Lax; httponly"],
         differs="the cookie is hidden from scripts and from requests of other sites: httponly, samesite"),
    Case("session-cookie-options", COOKIE, COUNTER, drive=attributes, conf="""
        PythonOption mod_python.session.session_type FileSession
        PythonOption mod_python.session.database_directory @scratch@
        PythonOption mod_python.session.cookie_name other
        PythonOption mod_python.session.application_path /app
        PythonOption mod_python.session.application_domain example.org
        PythonOption mod_python.session.cookie_httponly Off
        PythonOption mod_python.session.cookie_samesite Off
    """, expect=["other", 32, "path=/app; domain=example.org"]),
    Case("session-signed", COOKIE, OWN + """
def handler(req):
    session = Own(req, secret="secret")
    session["n"] = session.get("n", 0) + 1
    session.save()
    return answer(req, [session["n"], bool(session.is_new())])
""", drive=with_cookie, defect="a secret makes a SignedCookie, which cannot be used on Python 3", expect=[[1, True], [2, False]]),
    Case("session-regenerate", BASE, OWN + """
def handler(req):
    session = Own(req)
    old = session.id()
    session["n"] = 1
    session.save()
    new = session.regenerate()
    return answer(req, [old != new == session.id(), session["n"], os.path.exists(session.path + old)])
""", expect=[True, 1, False], only_ours="mod_python cannot change the id of a session"),
    Case("session-values", (FILE, SESSION), HEAD + """
def handler(req):
    session = Session.Session(req)
    session.update(t=(1, 2), d={"a": [1.5, None, True]}, s="é", b=b"x")
    session.save()
    session.unlock()
    again = Session.Session(req, sid=session.id())
    return answer(req, [[name, repr(again[name])] for name in sorted(again)])
""", conf="""
        PythonOption mod_python.session.session_type FileSession
        PythonOption mod_python.session.database_directory @scratch@
    """),
    Case("session-objects", FILE, HEAD + """
class Thing(object):
    pass
def handler(req):
    session = Session.Session(req)
    session["thing"] = Thing()
    return answer(req, attempt(session.save))
""", conf="""
        PythonOption mod_python.session.session_type FileSession
        PythonOption mod_python.session.database_directory @scratch@
    """, expect="TypeError", differs="values are JSON unless `mod_python.session.serializer` says pickle; mod_python pickles"),
))
