"""An access or authentication phase whose worker is killed, hung, missing or full never lets anybody in."""

import base64
import hashlib
import re

import pytest

from harness import procs, wait_until

PHASES = ["access", "authen", "authz", "password", "digest", "group"]
BASIC = ("Authorization", "Basic " + base64.b64encode(b"somebody:right").decode())

SECTIONS = """\
PythonOption scratch "{scratch}"
PythonPath "['{htdocs}'] + sys.path"
DocumentRoot "{htdocs}"
<Directory "{htdocs}">
    Require all granted
</Directory>
<Directory "{htdocs}/access">
    PythonAccessHandler gates
</Directory>
<Directory "{htdocs}/authen">
    AuthType Basic
    AuthName gates
    PythonAuthenHandler gates
    Require valid-user
</Directory>
<Directory "{htdocs}/authz">
    AuthType Basic
    AuthName gates
    PythonAuthenHandler open
    PythonAuthzHandler gates
    Require valid-user
</Directory>
<Directory "{htdocs}/password">
    AuthType Basic
    AuthName gates
    AuthBasicProvider python
    PythonAuthnProvider gates
    Require valid-user
</Directory>
<Directory "{htdocs}/digest">
    AuthType Digest
    AuthName gates
    AuthDigestProvider python
    PythonAuthnProvider gates
    Require valid-user
</Directory>
<Directory "{htdocs}/group">
    AuthType Basic
    AuthName gates
    AuthBasicProvider python
    PythonAuthnProvider open
    PythonAuthzProvider gates
    Require python-group staff
</Directory>
<Directory "{htdocs}/others">
    AuthType Basic
    AuthName gates
    AuthBasicProvider python
    PythonAuthnProvider open
    PythonAuthzProvider gates
    Require python-group others
</Directory>
"""
OPEN = """
def authenhandler(req):
    req.user = "somebody"
    return 0

def checkpassword(req, user, password):
    return True
"""


def prepare(server):
    from pathlib import Path

    server.extra_modules = ("auth_basic", "auth_digest", "authn_core", "authz_user")
    server.write("gates.py", (Path(__file__).parent / "handlers" / "gates.py").read_text())
    server.write("open.py", OPEN)
    for phase in [*PHASES, "others"]:
        server.write(f"{phase}/secret.txt", "the secret")
    server.add(SECTIONS.format(scratch=server.scratch, htdocs=server.htdocs))


def configure(server):
    server.allow("VIV0010", "VIV0011", "VIV0012", "VIV0013", "VIV0020", "VIV0021")
    prepare(server)


def place(phase, query=""):
    return f"/{phase}/secret.txt{'?' + query if query else ''}"


def credentials(server, phase, query=""):
    """What lets somebody in, if the phase says so."""
    if phase != "digest":
        return BASIC

    def md5(*parts):
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    target = place(phase, query)
    nonce = re.search(r'nonce="([^"]*)"', server.get(target).header("WWW-Authenticate")).group(1)
    proof = md5(md5("somebody", "gates", "right"), nonce, "00000001", "mine", "auth", md5("GET", target))
    return "Authorization", (
        f'Digest username="somebody", realm="gates", nonce="{nonce}", uri="{target}", algorithm=MD5, qop=auth, '
        f'nc=00000001, cnonce="mine", response="{proof}"')


def begin(connection, server, phase, query):
    """Sends the request without waiting for its answer."""
    connection.send_head("GET", place(phase, query), [credentials(server, phase, query)])


def ask(server, phase, query=""):
    return server.get(place(phase, query), [credentials(server, phase, query)])


def shut(response):
    assert response.status >= 400, (response.status, response.body)
    assert b"secret" not in response.body
    return response.status


@pytest.mark.parametrize("phase", PHASES)
def test_it_is_open_when_all_is_well(web, phase):
    wait_until(lambda: ask(web, phase).status == 200, "the phase to work")
    assert ask(web, phase).body == b"the secret"


@pytest.mark.parametrize("how", ["die", "exit", "raise", "nonsense"])
@pytest.mark.parametrize("phase", PHASES)
def test_shut_when_the_phase_fails(web, phase, how):
    if how == "nonsense" and phase in ("password", "digest", "group"):
        how = "raise"
    assert shut(ask(web, phase, how)) in (500, 502, 503)
    wait_until(lambda: ask(web, phase).status == 200, "the phase to work again")


@pytest.mark.parametrize("phase", PHASES)
def test_shut_while_it_hangs_and_after_its_death(web, phase):
    with web.connect() as connection:
        begin(connection, web, phase, "hang")
        note = wait_until(lambda: next(iter(web.scratch.iterdir()), None), "the phase to hang")
        pid = int(note.name.rsplit(".", 1)[1])
        note.unlink()
        procs.kill(pid)
        assert shut(connection.response()) in (500, 502, 503)
    wait_until(lambda: ask(web, phase).status == 200, "the phase to work again")


@pytest.mark.parametrize("phase", PHASES)
def test_shut_without_workers(make_server, phase):
    server = make_server()
    server.allow("VIV0012", "VIV0013", "VIV0020", "VIV0040")
    prepare(server)
    server.supervisor_config('[default]\npython = "/nonexistent/python3"\n')
    server.start()
    assert shut(ask(server, phase)) in (500, 503)


@pytest.mark.parametrize("phase", PHASES)
def test_shut_without_a_supervisor(make_server, phase):
    server = make_server()
    server.allow("VIV0003", "VIV0004", "VIV0005", "VIV0020")
    prepare(server)
    server.add("VivariumDaemon unix:/nonexistent/vivariumd.sock")
    server.start()
    assert shut(ask(server, phase)) in (500, 503)


@pytest.mark.parametrize("phase", PHASES)
def test_shut_when_all_workers_are_taken(make_server, phase):
    """One thread in one worker, and it hangs: who comes later waits, and is not let in meanwhile."""
    server = make_server()
    server.allow("VIV0011", "VIV0012", "VIV0013", "VIV0020", "VIV0021")
    prepare(server)
    server.supervisor_config("[default]\nprocesses = 1\nthreads = 1\n")
    server.start()
    wait_until(lambda: ask(server, phase).status == 200, "the phase to work")
    with server.connect() as first, server.connect() as second:
        begin(first, server, phase, "hang")
        note = wait_until(lambda: next(iter(server.scratch.iterdir()), None), "the phase to hang")
        begin(second, server, phase, "raise")
        procs.kill(int(note.name.rsplit(".", 1)[1]))
        assert shut(first.response()) in (500, 502, 503)
        assert shut(second.response()) in (500, 502, 503)


@pytest.mark.parametrize("phase", ["password", "digest", "group"])
def test_wrong_answers_are_no_key(web, phase):
    """With everything in order, a wrong password or group is refused."""
    wait_until(lambda: ask(web, phase).status == 200, "the phase to work")
    if phase == "group":
        assert shut(web.get("/others/secret.txt", [BASIC])) in (401, 403)
    else:
        name, right = credentials(web, phase)
        wrong = right[:-5] + ("AAAA=" if phase == "password" else '0000"')
        assert shut(web.get(place(phase), [(name, wrong)])) == 401
