"""What one tenant does with requests of another's, with connections, and where it decides who is let in."""

import base64
import re

import pytest

from conftest import open_to_tenants, skip_where_impossible
from devlib.httpd import free_port
from harness import client
from harness.wait import wait_until

MARK = b"a secret of"
#: Tenants that cannot answer, and what keeps them.
DOWN = {
    "down": 'python = "/nonexistent/python3"',
    "hung": "[timeouts]\nrequest_s = 1",
    "full": "[httpd]\nmax_threads_per_child = 1\nqueue = 1\nqueue_deadline_ms = 200",
    "unknown": None,
}
BASE = """
StartServers 1
ServerLimit 1
ThreadLimit 20
ThreadsPerChild 20
MaxRequestWorkers 20
MinSpareThreads 1
MaxSpareThreads 20
{listen}
# Who sees every request of the server: nobody's host, a confined tenant's sections.
<Directory "{all}">
    Require all granted
    SetHandler mod_python
    PythonHandler stages
</Directory>
"""
PORT = """
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
    ServerName spoken-{tenant}
    VivariumTenant {tenant}
    PythonPath "['{root}'] + sys.path"
    DocumentRoot "{root}"
    PythonConnectionHandler stages
</VirtualHost>
"""
EXTRA = """
PythonTransHandler stages
<Directory "{root}">
    PythonHandler stages
</Directory>
<Directory "{root}/inner">
    PythonHandler stages
    PythonOutputFilter stages INNER
</Directory>
"""
#: How a section asks the provider of a tenant that cannot answer.
REQUIRE = {
    "group": "Require python-group staff",
    "not": "<RequireAll>\nRequire valid-user\nRequire not python-group banned\n</RequireAll>",
    "any": "<RequireAny>\nRequire python-group staff\nRequire user somebody\n</RequireAny>",
    "any-not": "<RequireAny>\n<RequireAll>\nRequire valid-user\nRequire not python-group banned\n</RequireAll>\n</RequireAny>",
    "none": "<RequireAll>\nRequire valid-user\n<RequireNone>\nRequire python-group banned\n</RequireNone>\n</RequireAll>",
    "all-granted-not": "<RequireAll>\nRequire all granted\nRequire valid-user\nRequire not python-group banned\n</RequireAll>",
    "password": "Require valid-user",
    "password-next": "Require valid-user",
    "password-lenient": "Require valid-user",
}
GATE = """
Alias "/gate/{tenant}/{way}" "{folder}/gated.txt"
<Location "/gate/{tenant}/{way}">
    SetHandler default-handler
    VivariumTenant {tenant}
    PythonInterpreter gate
    PythonPath "['{folder}'] + sys.path"
    AuthType Basic
    AuthName gate
    AuthBasicProvider {provider}
    {more}
    AuthUserFile "{passwords}"
    PythonAuthnProvider stages::ACCOUNTS
    PythonAuthzProvider stages::ACCOUNTS
    {require}
</Location>
"""
GRANTED = base64.b64encode(b"somebody:right").decode()
WRONG = base64.b64encode(b"somebody:wrong").decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The server, with ports for connection handlers and gates of tenants that cannot answer."""
    skip_where_impossible()
    from arena import write  # pylint: disable=import-outside-toplevel
    from tenant_site import TenantSite  # pylint: disable=import-outside-toplevel

    stage = tmp_path_factory.mktemp("stage")
    open_to_tenants(stage)
    made = TenantSite(stage=stage, phases=False, extra=EXTRA)
    try:
        arrange(made, write)
        made.server.start()
        yield made
    finally:
        for root in made.roots.values():
            (root / "release").touch()
        made.finish()


def arrange(made, write):
    """What the tenants of this file need beside the usual."""
    folder = made.roots["other"]
    write(folder / "gated.txt", "gated\n")
    # Of httpd's own list: somebody's password is another one.
    passwords = write(made.site / "people", "somebody:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")  # password
    made.passwords = passwords
    made.ports = {tenant: free_port() for tenant in ("closed", "open")}
    listen = "".join(PORT.format(port=port, tenant=t, root=made.roots[t]) for t, port in made.ports.items())
    made.server.add(BASE.format(listen=listen, all=made.roots["default"]))
    gates = []
    for tenant in [*DOWN, "other"]:
        if DOWN.get(tenant, "") is not None and tenant != "other":
            text = made.tenants.joinpath("other.toml").read_text()
            own, _, sections = text.partition("[files]")
            line = DOWN[tenant]
            if line.startswith("python"):
                own += line + "\n"
                line = ""
            write(made.tenants / f"{tenant}.toml", own + line + "\n[files]" + sections)
        for way, require in REQUIRE.items():
            provider = {"password-next": "python file"}.get(way, "python" if way.startswith("password") else "file")
            more = "AuthBasicAuthoritative Off" if way == "password-lenient" else ""
            gates.append(GATE.format(
                tenant=tenant, way=way, folder=folder, passwords=passwords, require=require, provider=provider, more=more,
            ))
    made.server.add("<VirtualHost *:{port}>\nServerName gates\nDocumentRoot \"{root}\"\n<Directory \"{root}\">\nRequire all granted\n"
                    "</Directory>\n{gates}</VirtualHost>\n".format(port=made.server.port, root=folder, gates="".join(gates)))
    made.server.allow("VIV0011", "VIV0012", "VIV0013", "VIV0014", "VIV0020", "VIV0021", "VIV0022", "VIV0024", "VIV0027",
                      "VIV0045", "VIV0046", "VIV0047", "VIV0049")
    made.server.allow_line(r"AH01618|AH01617|AH01630|AH01631|AH00027|AH01626|AH01629")


# ---- connections and early phases


def spoken(port):
    """What a server says to who only listens, or closes."""
    with client.Connection(port) as connection:
        connection.send(b"GET / HTTP/1.0\r\n\r\n")
        data = b""
        try:
            while piece := connection.socket.recv(4096):
                data += piece
        except ConnectionError:
            pass
        return data


def test_a_connection_handler(site, table):
    wait_until(lambda: spoken(site.ports["open"]), "the handler of who has the grant")
    closed, control = spoken(site.ports["closed"]), spoken(site.ports["open"])
    held = closed == b""
    table.append(("a connection of httpd's ports", held, "closed" if held else repr(closed), control.decode().strip()))
    assert held and control == b"spoken by Python\n", (closed, control)
    site.server.wait_log("VIV0051: tenant closed: PythonConnectionHandler needs the grant connections")


@pytest.mark.parametrize("directive,phase", [("PythonPostReadRequestHandler", "postread"), ("PythonTransHandler", "trans")])
def test_an_early_phase_of_every_request(tmp_path, table, directive, phase):
    """A confined tenant of the whole server would see the requests of all customers before they are anybody's."""
    skip_where_impossible()
    from tenant_site import TenantSite  # pylint: disable=import-outside-toplevel

    open_to_tenants(tmp_path)
    answers = {}
    for tenant in ("closed", "open"):
        made = TenantSite(stage=tmp_path, phases=False)
        try:
            root = made.roots[tenant]
            made.server.add(f'VivariumTenant {tenant}\n{directive} stages\nPythonPath "[\'{root}\'] + sys.path"\nDocumentRoot "{root}"\n'
                            f'<Directory "{root}">\nRequire all granted\n</Directory>\n'
                            f'<VirtualHost *:{made.server.port}>\nServerName main\nVivariumTenant {tenant}\n{directive} stages\n'
                            f'DocumentRoot "{root}"\n</VirtualHost>\n'
                            f'<VirtualHost 127.0.0.1:{free_port()}>\nServerName none\n</VirtualHost>\n')
            # Addresses that no virtual host has are the main server's.
            port = free_port()
            made.server.add(f"Listen 127.0.0.1:{port}\n")
            made.server.start()
            answer = client.request(port, "GET", f"/page.html?say={phase}&value=main", host="anybody")
            own = client.request(made.server.port, "GET", f"/page.html?say={phase}&value=own", host="main")
            seen = len(made.server.log_lines(rf"in {phase} main\."))
            refused = made.server.log_lines(f"VIV0051: tenant {tenant}: {directive} needs the grant early_phases")
            answers[tenant] = (answer.status, seen, len(refused), own.status, len(made.server.log_lines(rf"in {phase} own\.")))
        finally:
            made.finish()
    held = answers["closed"][:2] == (403, 0)
    table.append((f"{phase} of every request of the server", held, f"{answers['closed'][0]}", f"{answers['open'][0]}, seen"))
    assert answers["closed"] == (403, 0, 1, 200, 1), answers
    assert answers["open"][:3] == (200, 1, 0), answers


# ---- filters


def test_python_for_another_tenant_to_run(site, table):
    """Filters and handlers that an early phase adds do not run in the tenant's Python that the request comes to."""
    own = site.get("closed", "/page?sneak=1&secret=1")
    assert b"SNEAKED" in own.body, (own, site.server.log_text()[-2000:])
    uid = site.users["other"].pw_uid
    inner = site.get("closed", "/inner/page?sneak=1&secret=1")
    foreign = site.server.log_lines(rf"sneaked uid {uid}\b")
    # Its access handler cannot run, and what that would have forbidden is not known: the request is refused.
    held = inner.status == 500 and not foreign
    table.append(("Python for another tenant to run", held, f"{inner.status}", "its own: " + own.body.decode().strip()))
    assert held, (inner, foreign)
    site.server.wait_log("VIV0029: PythonAccessHandler: tenant closed has added a handler")


def test_the_administrators_handler_in_a_tenants_section(site):
    """What the built-in tenant adds in an early phase runs, in its own Python, wherever the request comes to."""
    def seen():
        lines = site.server.log_lines(r"sneaked uid \d+")
        return [line for line in lines if not any(f"sneaked uid {user.pw_uid}" in line for user in site.users.values())]

    before = len(seen())
    inner = site.get("default", "/inner/page?sneak=1&secret=1")
    assert inner.status == 200, (inner, site.server.log_text()[-2000:])
    assert len(seen()) > before
    assert not site.server.log_lines(rf"sneaked uid {site.users['other'].pw_uid}\b")


def test_the_body_of_another_tenant(site, table):
    """Filters stay behind when a request is redirected to another tenant, and see neither question nor answer there."""
    uid = site.users["open"].pw_uid
    own = site.server.post("/page?secret=1&read=1&sneaky=1", b"a secret question\n", host="open")
    assert own.status == 200 and b"SNEAKED of" in own.body, (own, site.server.log_text()[-2000:])
    before = len(site.server.log_lines(rf"sneaked uid {uid}\b"))
    answer = site.server.post("/page?to=/inner/page&sneaky=1", b"a secret question\n", host="open")
    held = b"SNEAKED" not in answer.body and b"a secret question" in answer.body
    table.append(("another tenant's body", held, repr(answer.body[:50]), "its own: " + repr(own.body[:40])))
    assert held and before, answer


HTTPDS = [
    ("output", "INCLUDES"), ("output", "includes"), ("output", "Includes"), ("output", "HTTP_HEADER"), ("output", "CHUNK"),
    ("output", "CONTENT_LENGTH"), ("output", "OLD_WRITE"), ("output", "CORE"), ("output", "SUBREQ_CORE"), ("output", "BYTERANGE"),
    ("output", "SSL/TLS Filter"), ("output", "mod_python.output"), ("output", "vivarium.length"), ("output", "CACHE_SAVE"),
    ("output", "PROXY_HTML"), ("output", "INFLATE"), ("output", "INNER"), ("output", "inner"),
    ("input", "HTTP_IN"), ("input", "CORE_IN"), ("input", "SSL/TLS Filter"), ("input", "DEFLATE"), ("input", "mod_python.input"),
]


@pytest.mark.parametrize("way,name", HTTPDS, ids=lambda v: v.replace("/", "-").replace(" ", "-"))
def test_a_filter_by_name(site, table, way, name):
    """Filters of httpd's, and those of another tenant's section."""
    target = f"/page?filter={name.replace(' ', '%20')}&way={way}".replace("%20", "+")
    answer = site.get("closed", target.replace("+", "%20") if " " not in name else target)
    held = b"refused" in answer.body and b"needs the grant filters" in answer.body
    own = site.get("closed", f"/page?filter=DEFLATE&way={way}") if way == "output" else site.get("closed", "/page?filter=x&own=input&way=input")
    assert own.status == 200 and b"refused" not in own.body, own
    table.append((f"the {way} filter {name}", held, answer.body.decode().strip()[:70], "its own and DEFLATE"))
    assert held, answer


def test_httpds_name_for_ones_own_filter(site, table):
    """Python that is called INCLUDES is Python: httpd's filter of that name does not run."""
    seen = {}
    for name in ("INCLUDES", "includes", "Includes"):
        seen[name] = site.get("closed", f"/page?filter={name}&own=output").body
    held = all(b"SNEAKED <!--#echo" in body for body in seen.values())
    control = site.get("open", "/page?filter=INCLUDES")
    table.append(("httpd's name for one's own filter", held, repr(seen["INCLUDES"][:40]), repr(control.body[:40])))
    assert held and b"#echo" not in control.body, (seen, control)


# ---- who is let in


def gate(site, tenant, way, more="", key=GRANTED):
    if not way.startswith("password") and key == GRANTED:
        key = base64.b64encode(b"somebody:password").decode()
    return client.request(site.server.port, "GET", f"/gate/{tenant}/{way}{more}", [("Authorization", "Basic " + key)], host="gates")


TROUBLE = {"down": "", "hung": "?how=hang&root=/nonexistent&value=gate", "full": "", "unknown": "", "other": "?how=raise"}


@pytest.mark.parametrize("way", REQUIRE)
@pytest.mark.parametrize("tenant", TROUBLE)
def test_who_cannot_be_asked_lets_nobody_in(site, table, tenant, way):
    """A tenant that is down, hung, full, unknown or raises: nobody comes in, however the question is put."""
    wait_until(lambda: gate(site, "other", way).status == 200, f"the control, {way}")
    if tenant == "full":
        wait_until(lambda: gate(site, "full", "group").status == 200, "the tenant to be up")
        answer = while_full(site, way)
    else:
        answer = gate(site, tenant, way, TROUBLE[tenant])
    held = answer.status in (401, 403, 500, 503) and b"gated" not in answer.body
    what = "raises" if tenant == "other" else tenant
    table.append((f"a gate whose tenant is {what}: {way}", held, str(answer.status), "200 when it can be asked"))
    assert held, (answer, site.server.log_text()[-2000:])
    # Also for who has another key that fits elsewhere.
    if way.startswith("password") and tenant != "full":
        key = base64.b64encode(b"somebody:password").decode()
        other = gate(site, tenant, way, TROUBLE[tenant], key=key)
        assert other.status in (401, 403, 500, 503), other


def while_full(site, way):
    """The answer while the tenant's only place is taken."""
    import threading  # pylint: disable=import-outside-toplevel

    root = site.roots["other"]
    (root / "release").unlink(missing_ok=True)
    before = len(site.server.log_lines(rf"asked and hangs {way}\."))
    thread = threading.Thread(target=gate, args=(site, "full", "group", f"?how=hang&root={root}&value={way}"))
    thread.start()
    try:
        wait_until(lambda: len(site.server.log_lines(rf"asked and hangs {way}\.")) > before, "the one that hangs")
        return gate(site, "full", way)
    finally:
        (root / "release").touch()
        thread.join()


def test_a_wrong_key_fits_nowhere(site):
    """With everything in order, the ways differ as they should."""
    for way in REQUIRE:
        assert gate(site, "other", way, key=WRONG).status == 401, way
    assert re.search(rb"gated", gate(site, "other", "not").body)
