"""One tenant whose Python hangs in any phase: its places come back, and nobody else notices.

And a request keeps the place that it has got: none is refused in a later phase because others have come meanwhile.
"""

import threading

import pytest

from harness import client
from harness.client import Truncated
from harness.wait import wait_until
from test_bulkheads import ONE_CHILD, make_site, warm  # noqa: F401 (a fixture)

ALL_PHASES = """
PythonPostReadRequestHandler stages
PythonOutputFilter stages COPY
<Directory "{root}">
    PythonAccessHandler stages
    PythonFixupHandler stages
    PythonHandler stages
    PythonLogHandler stages
</Directory>
<Location "/stay">
    SetHandler mod_python
    PythonHandler stages
    AuthType Basic
    AuthName stay
    PythonAuthenHandler stages
    Require valid-user
</Location>
<Location "/copied">
    SetOutputFilter COPY
</Location>
"""
#: Of the tenant that hangs.
LIMITS = "[httpd]\nmax_threads_per_child = {most}\nqueue = {queue}\nqueue_deadline_ms = {wait}\n[timeouts]\nrequest_s = {limit}\n"
#: Where each phase is met.
PLACES = {
    "postread": "/page", "access": "/page", "authen": "/stay", "fixup": "/page", "handler": "/page", "filter": "/copied",
    "log": "/page",
}
#: What httpd may say of workers that are ended for hanging.
ENDED = ("VIV0011", "VIV0012", "VIV0013", "VIV0014", "VIV0020", "VIV0021", "VIV0022", "VIV0024", "VIV0027")


class Asking:
    """One request under way."""

    def __init__(self, site, host, target, headers=()):
        self.status, self.how = None, ""
        self._args = (site.server.port, "GET", target, headers)
        self._host = host
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            answer = client.request(*self._args, host=self._host)
            self.status, self.how = answer.status, repr(answer)
        except (Truncated, OSError) as error:
            self.status, self.how = 0, repr(error)

    @property
    def over(self):
        return self.status is not None


def hang(site, name, value, until="release"):
    target = f"{PLACES[name]}?hang={name}&value={value}&root={site.roots['closed']}&until={until}"
    return Asking(site, "closed", target)


def begun(site, name, value):
    """How many requests have come to a phase."""
    return len(site.server.log_lines(rf"in {name} {value}\."))


def both_at_once(site):
    """Two requests that are in the handler at the same time: both places are free."""
    pair = [Asking(site, "closed", "/page?meet=1") for _ in range(2)]
    wait_until(lambda: all(one.over for one in pair), "two requests that meet")
    return [one.status for one in pair] == [200, 200]


def test_a_hang_in_each_phase(make_site, table):  # noqa: F811
    limits = LIMITS.format(most=2, queue=1, wait=1000000, limit=2)
    site = make_site(base=ONE_CHILD, extra=ALL_PHASES, tenant_text={"closed": limits})
    site.server.allow(*ENDED)
    warm(site, "closed", "open")
    # Until a phase was ended for its length, nothing of the tenant's is served: both places are taken.
    for name in PLACES:
        crowd = [hang(site, name, f"first-{name}") for _ in range(2)]
        wait_until(lambda name=name: begun(site, name, f"first-{name}"), f"a request that hangs in {name}")
        for _ in range(10):
            assert site.get("open", "/page").status == 200
        wait_until(lambda crowd=crowd: all(one.over for one in crowd), f"an end of the hang in {name}")
        good = {"log": (200,), "filter": (0, 502, 500, 504, 503)}.get(name, (504, 500, 503))
        assert all(one.status in good for one in crowd), (name, [one.how for one in crowd])
        wait_until(lambda: both_at_once(site), f"both places to be free after the hang in {name}")
        assert site.get("open", "/page").status == 200
    site.server.wait_log("VIV0053: .*longer than|longer than its tenant")
    table.append(("a hang in each phase in turn", True, "ended; both places are free again", "see the next line"))


@pytest.mark.parametrize("name", ["postread", "access", "authen", "fixup", "handler", "filter"])
def test_without_a_limit_it_holds_its_place(make_site, table, name):  # noqa: F811
    """The control: nobody else of the tenant is served as long as one hangs, whatever the phase; all others are."""
    site = make_site(base=ONE_CHILD, extra=ALL_PHASES, tenant_text={"closed": LIMITS.format(most=1, queue=1, wait=1000, limit=0)})
    warm(site, "closed", "open")
    first = hang(site, name, "first")
    wait_until(lambda: begun(site, name, "first"), f"a request that hangs in {name}")
    assert site.get("closed", "/page").status == 503
    assert site.get("open", "/page").status == 200
    assert not first.over
    (site.roots["closed"] / "release").touch()
    wait_until(lambda: first.over, "the answer")
    assert first.status == 200, first.how
    wait_until(lambda: site.get("closed", "/page").status == 200, "the place to be free")
    table.append((f"a hang in {name}, no limit", True, "one place held, the others are served", "503 for its own"))


def test_a_request_keeps_its_place(make_site, table):  # noqa: F811
    """It is not refused in a later phase because others have come while it was in an early one."""
    site = make_site(base=ONE_CHILD, extra=ALL_PHASES, tenant_text={"closed": LIMITS.format(most=1, queue=2, wait=10000, limit=0)})
    warm(site, "closed")
    root = site.roots["closed"]
    first = hang(site, "access", "first", until="go")
    wait_until(lambda: begun(site, "access", "first"), "the first one")
    # They would take its place between two of its phases, and keep it.
    others = [hang(site, "access", f"other{n}", until="never") for n in range(2)]
    refused = [Asking(site, "closed", "/page") for _ in range(3)]
    wait_until(lambda: any(one.over for one in refused), "the queue to be full")
    (root / "go").touch()
    wait_until(lambda: first.over, "the first one's answer")
    (root / "never").touch()
    wait_until(lambda: all(one.over for one in [*others, *refused]), "all answers")
    table.append(("a place taken between two phases", first.status == 200, f"{first.status} in the end", "it would be 503"))
    assert first.status == 200, first.how
    wait_until(lambda: site.get("closed", "/page").status == 200, "the place to be free")


PIPELINED = {
    "a refusal": ("/page?no=access", 403), "an answer": ("/page", 200), "a filtered answer": ("/copied", 200),
    "a file": ("/file/page.html", 200), "a filtered file": ("/copiedfile", 200), "an error page": ("/nowhere", 404),
}
FILES = """
Alias /file "{root}"
Alias /copiedfile "{root}/page.html"
<Location "/file">
    SetHandler default-handler
</Location>
<Location "/copiedfile">
    SetHandler default-handler
    SetOutputFilter COPY
</Location>
<Location "/nowhere">
    SetHandler default-handler
</Location>
"""


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_a_request_gives_its_place_to_the_next(make_site, mpm):  # noqa: F811
    """httpd may keep an answer back until the next request of the connection is answered: that one needs the place."""
    base = ONE_CHILD if mpm == "event" else "StartServers 2\nMinSpareServers 1\nMaxSpareServers 2\nServerLimit 2\nMaxRequestWorkers 2\n"
    limits = LIMITS.format(most=1, queue=1, wait=10000, limit=0)
    site = make_site(mpm=mpm, base=base, extra=ALL_PHASES + FILES, tenant_text={"closed": limits})
    warm(site, "closed")
    for title, (target, status) in PIPELINED.items():
        with site.server.connect() as connection:
            for _ in range(3):
                connection.send_head("GET", target, host="closed")
            connection.send_head("GET", "/page?value=last", host="closed")
            answers = [connection.response() for _ in range(4)]
        assert [a.status for a in answers] == [status] * 3 + [200], (title, answers, site.server.log_text()[-2000:])


def test_another_tenants_hang_in_ones_own_host(make_site, table):  # noqa: F811
    """A request that goes on to another tenant's Python gives its place back."""
    host = "PythonTransHandler stages\n<Directory \"{root}/inner\">\n    PythonHandler stages\n</Directory>"
    site = make_site(base=ONE_CHILD, extra=host, tenant_text={"closed": LIMITS.format(most=1, queue=1, wait=10000, limit=0)})
    warm(site, "closed")
    target = f"/inner/page?hang=handler&value=inner&root={site.roots['closed']}&say=trans"
    first = Asking(site, "closed", target)
    wait_until(lambda: begun(site, "handler", "inner"), "the other tenant's hang")
    second = Asking(site, "closed", target)
    for _ in range(20):
        assert site.get("closed", "/page").status == 200
    assert not first.over
    (site.roots["closed"] / "release").touch()
    wait_until(lambda: first.over and second.over, "their answers")
    assert first.status == 200, first.how
    table.append(("another tenant's hang in one's own host", True, "20 of 20 answers", "it holds its own place"))
