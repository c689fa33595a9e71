"""Every grant of docs/threat-model.md asked for without having it.

A case is one request by a confined tenant's Python. The control is the same request by a tenant that has the grant, or by the
built-in tenant: there the attack works.
"""

import base64
import os
import re

import pytest

from conftest import open_to_tenants, skip_where_impossible
from harness.wait import wait_until

BASIC = ("Authorization", "Basic " + base64.b64encode(b"bob:password").decode())
PROXY = ("Proxy-Authorization", "Basic c2VjcmV0")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The server, with all tenants."""
    skip_where_impossible()
    from tenant_site import TenantSite  # pylint: disable=import-outside-toplevel

    stage = tmp_path_factory.mktemp("stage")
    open_to_tenants(stage)
    made = TenantSite(stage=stage, base='Alias /foreign "/nonexistent"\n')
    try:
        made.server.start()
        yield made
    finally:
        made.finish()


def has(text):
    """The answer's body has it."""
    return lambda site, response: text.format(mark=site.mark).encode() in response.body


def kind(value):
    """The answer's type is this. (httpd before 2.4.60 took it for a handler if there was no other.)"""
    return lambda site, response: response.header("Content-Type") == value


def header(name):
    """The answer has the header."""
    return lambda site, response: response.header(name) is not None


#: title; grant; target ("{root}" is the tenant's document root, "{foreign}" a folder of nobody's); headers; what the answer
#: looks like if the attack works; the tenant of the control.
CASES = [
    ("a CGI handler", "cgi", "/page?fixup=cgi&value={root}/script.cgi", (), has("cgi ran"), "open"),
    ("a CGI handler by its content type", "cgi", "/page.html?fixup=type&value=application/x-httpd-cgi&file={root}/script.cgi", (),
     kind("application/x-httpd-cgi"), "open"),
    ("a handler's name as content type", "cgi", "/page.html?fixup=type&value=cgi-script&file={root}/script.cgi", (),
     kind("cgi-script"), "open"),
    ("server-status", "handlers", "/page?fixup=handler&value=server-status", (), has("Server Status"), "open"),
    ("a reverse proxy", "proxy", "/page?fixup=proxy&value=http://127.0.0.1:{port}/page.html", (), has("nothing"), "open"),
    ("req.proxyreq", "proxy", "/page?do=proxyreq", (), has("result: "), "open"),
    ("a file name for the proxy", "proxy", "/page?do=proxy_filename", (), has("result: "), "open"),
    ("a redirect to another server", "proxy", "/page?do=redirect&value=http://127.0.0.1:{port}/", (), has("nothing"), "open"),
    ("a file outside the document roots", "foreign_files", "/page.html?fixup=foreign_file&value={foreign}/secret.txt", (),
     has("foreign {mark}"), "open"),
    ("a link that leads out", "foreign_files", "/page.html?fixup=foreign_file&value={root}/link", (), has("foreign {mark}"), "open"),
    ("dots that lead out", "foreign_files", "/page.html?fixup=foreign_file&value={root}/../foreign/secret.txt", (),
     has("foreign {mark}"), "open"),
    ("req.canonical_filename", "foreign_files", "/page?do=canonical_filename&value=/etc/passwd", (), has("result: "), "open"),
    ("X-Sendfile", "foreign_files", "/page?do=header_out&value=X-Sendfile&to=/etc/passwd", (), header("X-Sendfile"), "open"),
    ("server-side includes", "filters", "/page?do=includes", (), has("included"), "open"),
    ("an input filter of httpd's", "filters", "/page?do=input_filter&value=DEFLATE", (), has("result: added"), "open"),
    ("LD_PRELOAD in front of a program", "environment", "/page?do=environment&value=LD_PRELOAD", (), has("result: x"), "open"),
    ("PATH in front of a program", "environment", "/page?do=environment&value=PATH", (), has("result: x"), "open"),
    ("a switch of httpd's in the environment", "environment", "/page?do=environment&value=dontlog", (), has("result: x"), "open"),
    ("an empty environment", "environment", "/page?do=clear_environment", (), has("result: 0"), "open"),
    ("a redirect into somebody else's corner", "foreign_uris", "/page?do=redirect&value=/inner/page?do=who&silent=1", (),
     has("result: uid"), "open"),
    ("the whole configuration", "server_config", "/page?do=config_tree", (), has("ServerName', 'other"), "open"),
    ("ServerRoot", "server_config", "/page?do=server_root", (), has("result: /"), "open"),
    ("httpd's own environment", "server_config", "/page?do=ssl_var&value=ENV:PATH", (), has("result: '/usr"), "open"),
    ("how large the server is", "scoreboard", "/page?do=mpm_query", (), has("result: "), "open"),
    ("what httpd was started with", "scoreboard", "/page?do=define", (), has("result: "), "open"),
    ("somebody else's name", "identity", "/page?do=user", (), has("result: admin"), "open"),
    ("how somebody was authenticated", "identity", "/page?do=auth_type", (), has("result: Basic"), "open"),
    ("headers that authenticate", "identity", "/page?do=header_in&value=Authorization", (), has("result: 1"), "open"),
    ("a password that httpd checks", "authorization", "/basic/page?do=authorization", (BASIC,), has("result: Basic "), "open"),
    ("the same, asked for", "authorization", "/basic/page?do=password", (BASIC,), has("result: password"), "open"),
    ("a proxy's password", "authorization", "/page?do=proxy_authorization", (PROXY,), has("result: Basic "), "open"),
    ("a hidden header by another way", "authorization", "/basic/page?do=ssl_var&value=HTTP:Authorization", (BASIC,),
     has("result: 'Basic"), "open"),
    ("an answer without a head", "connections", "/page?do=raw_answer&silent=1", (), has("result: "), "raw"),
    ("chunks of one's own", "connections", "/page?do=header_out&value=Transfer-Encoding&to=chunked", (), header("Transfer-Encoding"), "raw"),
    ("the end of a request's body", "connections", "/page?do=header_in&value=Content-Length", (), has("result: 1"), "open"),
    ("notes for whoever comes next on the connection", "connections", "/page?do=connection_note", (), has("result: 1"), "open"),
    ("a connection that stays open", "server_state", "/page?do=keepalive", (), has("result: set"), "open"),
    ("notes between httpd's modules", "server_state", "/page?do=note&value=mod_userdir_user", (), has("result: x"), "open"),
]


def fetch(site, host, target, headers):
    target = target.format(root=site.roots[host], foreign=site.foreign, port=site.server.port)
    return site.get(host, target, headers)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].replace(" ", "-"))
def test_a_grant_that_is_missing(site, table, case):
    title, grant, target, headers, won, control = case
    if control == "raw":
        return raw(site, table, case)
    before = len(site.server.log_lines("VIV0051"))
    response = fetch(site, "closed", target, headers)
    held = not won(site, response) and response.status in (200, 403, 404)
    shown = response.body.decode(errors="replace").strip()[:100] or str(response.status)
    works = "shown to who has the grant"
    if control:
        granted = fetch(site, control, target, headers)
        assert won(site, granted), (granted, site.server.log_text()[-3000:])
        works = granted.body.decode(errors="replace").strip().splitlines()[0][:50] if granted.body.strip() else str(granted.status)
    table.append((title, held, shown, works))
    assert held, response
    if b"refused" in response.body:
        assert f"needs the grant {grant}".encode() in response.body, response
        wait_until(
            lambda: [line for line in site.server.log_lines("VIV0051: tenant closed")[0:] if grant in line]
            and len(site.server.log_lines("VIV0051")) > before, "a line that names the grant",
        )
    return None


def raw(site, table, case):
    """Answers that are no HTTP any more: read as bytes."""
    title, grant, target, _headers, _won, _control = case
    seen = {}
    for host in ("closed", "open"):
        with site.server.connect() as connection:
            connection.send_head("GET", target, [("Connection", "close")], host=host)
            data = b""
            while piece := connection.socket.recv(65536):
                data += piece
        seen[host] = data

    def forged(data):
        head = data.split(b"\r\n\r\n")[0]
        return data.startswith(b"HTTP/1.1 200 forged") or b"Transfer-Encoding: chunked" in head and b"\r\n\r\nresult" in data
    held = not forged(seen["closed"])
    table.append((title, held, seen["closed"].splitlines()[-1].decode()[:70], seen["open"].splitlines()[0].decode()[:50]))
    assert held and forged(seen["open"]), seen
    assert re.search(rf"VIV0051: tenant closed: .* needs the grant {grant}", site.server.log_text())


def test_ones_own_is_ones_own(site):
    """What needs no grant works for a confined tenant."""
    root = site.roots["closed"]
    response = site.get("closed", f"/page?fixup=own_file&value={root}/page.html")
    assert (response.status, response.body) == (200, b"page of closed".ljust(99) + b"\n"), response
    etag = response.header("ETag")
    assert etag and response.header("Last-Modified") and response.header("Content-Length") == "100"
    again = site.get("closed", f"/page?fixup=own_file&value={root}/page.html", [("If-None-Match", etag)])
    assert again.status == 304, again
    part = site.get("closed", f"/page?fixup=own_file&value={root}/page.html", [("Range", "bytes=0-3")])
    assert (part.status, part.body) == (206, b"page"), part
    missing = site.get("closed", f"/page?fixup=own_file&value={root}/no-such-file")
    assert missing.status in (403, 404, 500), missing
    for target, text in [
        ("/page?do=environment&value=APP_MODE", b"result: x"),
        ("/page?do=note&value=mine", b"result: x"),
        ("/page?do=output_filter&value=DEFLATE", b"result: added"),
        ("/page?do=redirect&value=/page?do=own_server", b"closed"),
        ("/page?do=ssl_var&value=SSL_PROTOCOL", b"result: "),
        ("/page?do=authorization", b"result: Basic "),
        ("/page?do=header_out&value=X-Mine", b"result: set"),
        ("/page?do=handler&value=mod_python", b"result: mod_python"),
    ]:
        response = site.get("closed", target, [BASIC])
        assert response.status == 200 and text in response.body, (target, response, site.server.log_text()[-2000:])


def test_a_file_that_becomes_a_link(site, table):
    """The file is in the document root when it is named and a link out of it when it is sent."""
    seen = {}
    for host in ("closed", "open"):
        root = site.roots[host]
        swap = root / "swap"
        swap.mkdir(exist_ok=True)
        (swap / "page").unlink(missing_ok=True)
        (swap / "page").write_text("mine\n")
        owner = site.users[host]
        for path in (swap, swap / "page"):
            os.chmod(path, 0o755)
            os.chown(path, owner.pw_uid, owner.pw_gid)
        target = f"/page.html?fixup=swapped_file&value={root}&to={site.foreign}/secret.txt"
        seen[host] = site.get(host, target)
    text = f"foreign {site.mark}".encode()
    held = text not in seen["closed"].body
    table.append(("a file that becomes a link", held, str(seen["closed"].status), seen["open"].body.decode()[:40]))
    # The tenant's folder may not be writable for it here; then its own words say so.
    assert held, seen
    assert text in seen["open"].body or b"Read-only" in seen["open"].body or seen["open"].status == 500, seen["open"]


@pytest.mark.parametrize("do,marks", [("splitting", "X-Injected"), ("status_line", "X-Injected"), ("status", "")])
def test_an_answer_is_one_answer(site, table, do, marks):
    response = site.get("closed", f"/page?do={do}")
    control = site.get("closed", "/page?do=header_out&value=X-Injected")
    held = response.header("X-Injected") is None and response.status in (200, 500)
    table.append((f"response splitting: {do}", held, str(response.status), f"a header of its own: {control.header('X-Injected')}"))
    assert held and (not marks or response.status == 500), response
    assert control.header("X-Injected") == "1"


def test_more_than_content_length(site, table):
    """What is written beyond Content-Length is not the next answer on the connection."""
    seen = {}
    for host in ("closed", "default"):
        with site.server.connect() as connection:
            connection.send_head("GET", "/page?do=promise_less", host=host)
            connection.send_head("GET", "/page?do=own_server", [("Connection", "close")], host=host)
            data = b""
            while piece := connection.socket.recv(65536):
                data += piece
        seen[host] = data
    # Text within a body is no answer: a client that reads by Content-Length must find the second answer second.
    held = second(seen["closed"]) and b"forged" not in second(seen["closed"]).split(b"\r\n")[0]
    table.append(("more than Content-Length says", bool(held), second(seen["closed"])[:30].decode(), second(seen["default"])[:30].decode()))
    assert held, seen
    assert second(seen["default"]).startswith(b"HTTP/1.1 200 forged"), seen["default"]


def second(data):
    """The bytes after the first answer."""
    head, _, rest = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    if length:
        return rest[int(length.group(1)):]
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return rest[2:]
        rest = rest[int(size, 16) + 2:]


FLOODS = [
    ("a flood of headers", "/page?do=header_flood&value=5000", 'max_table_entries'),
    ("megabytes of headers", "/page?do=header_bytes", 'max_held'),
    ("a flood of notes", "/page?do=notes_flood", 'max_table_entries'),
    ("a chain of filters", "/page?do=many_filters", 'number of filters'),
]


@pytest.mark.parametrize("title,target,limit", FLOODS, ids=lambda v: v.replace(" ", "-") if v[0] != "/" else "")
def test_what_httpd_would_have_to_hold(site, table, title, target, limit):
    """Limits of one request; in the built-in tenant there are none."""
    response = site.get("closed", target)
    control = site.get("default", target) if "filters" not in target else site.get("closed", "/page?do=output_filter&value=DEFLATE")
    held = b"refused" in response.body and limit.encode() in response.body
    table.append((title, held, response.body.decode()[:70].strip(), control.body.decode(errors="replace")[:40].strip() or str(control.status)))
    assert held, (response, site.server.log_text()[-2000:])
    assert b"result: " in control.body or control.status == 500 and "headers" in title, control
    wait_until(lambda: site.server.log_lines(rf"VIV0052: tenant closed: .*{limit}"), "the line about the limit")


def test_log_flood(site, table):
    """200 lines of a request are written, in the tenant's name."""
    site.get("closed", f"/page?do=log_flood&value=c{site.mark}")
    site.get("default", f"/page?do=log_flood&value=d{site.mark}")
    lines, control = site.server.log_lines(f"flood c{site.mark}"), site.server.log_lines(f"flood d{site.mark}")
    table.append(("a flood of log lines", len(lines) == 200, f"{len(lines)} lines of 1000", f"{len(control)} lines"))
    assert len(lines) == 200 and len(control) == 1000
    assert all("closed: flood" in line for line in lines)


def test_alarms_in_the_main_log(site, table):
    """A tenant's lines go to its own virtual host's log, and none of them is an emergency."""
    for host in ("closed", "open"):
        assert b"logged" in site.get(host, f"/page?do=server_log&value={host}{site.mark}").body
    lines = site.server.log_lines(f"main closed{site.mark}")
    control = site.server.log_lines(f"main open{site.mark}")
    held = bool(lines) and "[python:error]" in lines[0]
    table.append(("alarms in the main server's log", held, "error, in its own log", control[0].split("] ")[1] + "]"))
    assert held and "[python:alert]" in control[0]


def test_servers(site, table):
    """The list of servers is the tenant's own virtual host; the main server has no name and no next."""
    closed, control = site.get("closed", "/page?do=servers"), site.get("default", "/page?do=servers")
    own = site.get("closed", "/page?do=own_server")
    held = not any(host.encode() in closed.body for host in ("other", "open", "default"))
    table.append(("the list of servers", held, closed.body.decode().strip(), control.body.decode().strip()))
    assert held and b"'other'" in control.body
    assert own.body == b"result: ('closed', None, None, 'closed')\n"


def test_notes_of_another_tenant(site, table):
    """What a tenant's Python notes in an early phase does not reach the tenant of the section."""
    own, inner = site.get("closed", "/page?do=notes"), site.get("closed", "/inner/page?do=notes")
    held = inner.body == b"result: (None, None)\n"
    table.append(("notes of another tenant", held, inner.body.decode().strip(), "its own: " + own.body.decode().strip()))
    assert held and own.body == b"result: ('seen', 'seen')\n", (own, inner)


def test_the_request_before_a_redirect(site, table):
    """A redirect from another tenant's section has no `prev` for who is redirected to."""
    inner = site.get("open", "/page?do=redirect&value=/inner/page?do=prev&silent=1")
    own = site.get("open", "/page?do=redirect&value=/page?do=prev&silent=1")
    held = inner.body.startswith(b"result: (False, False)")
    table.append(("the request before a redirect", held, inner.body.decode().strip(), "its own: " + own.body.decode().strip()[:40]))
    assert held and own.body.startswith(b"result: (True, False)"), (own, inner)


def test_each_tenant_is_itself(site):
    """Every place is run by its own tenant, as its own user."""
    for host, target, tenant in [("closed", "/page", "closed"), ("open", "/page", "open"), ("closed", "/inner/page", "other")]:
        response = site.get(host, f"{target}?do=who")
        assert response.body.decode().split()[1:3] == ["uid", str(site.users[tenant].pw_uid)], (response, site.server.log_text()[-3000:])
