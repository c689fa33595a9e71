"""`VivariumTenant`: whose Python runs where, and what happens when there is no such tenant."""

import os
import sys
from pathlib import Path

import pytest

from harness import wait_until

ATTACKS = Path(__file__).resolve().parents[1] / "attacks"

HANDLER = """
from mod_python import apache

def handler(req):
    req.write("served\\n")
    return apache.OK

def accesshandler(req):
    return apache.OK

def authenhandler(req):
    req.user = "x"
    return apache.OK
"""

SITE = """
DocumentRoot "{htdocs}"
AccessFileName .htaccess
<Directory "{htdocs}">
    Require all granted
    SetHandler mod_python
    PythonPath "['{htdocs}'] + sys.path"
    PythonHandler page
</Directory>
<Directory "{htdocs}/nobody">
    VivariumTenant nobody-here
</Directory>
<Directory "{htdocs}/access">
    SetHandler none
    VivariumTenant nobody-here
    PythonAccessHandler page
</Directory>
<Directory "{htdocs}/authen">
    SetHandler none
    VivariumTenant nobody-here
    AuthType Basic
    AuthName x
    PythonAuthenHandler page
    Require valid-user
</Directory>
<Directory "{htdocs}/users/*/www">
    VivariumTenant ~*
</Directory>
<Directory "{htdocs}/override">
    AllowOverride All
</Directory>
{more}
"""


def site(server, more=""):
    """The server's configuration and files."""
    server.write("page.py", HANDLER)
    for folder in ("nobody", "access", "authen", "users/bob/www", "users/www", "override"):
        server.write(f"{folder}/file.txt", "a file\n")
    server.add(SITE.format(htdocs=server.htdocs, more=more))
    tenants = server.prefix / "tenants.d"
    tenants.mkdir(mode=0o755, exist_ok=True)
    server.add(f'VivariumTenantDir "{tenants}"')
    server.supervisor_config(f'[paths]\nrun_dir = "{server.prefix}/vivarium"\n')
    server.allow("VIV0020", "VIV0046")
    return tenants


def test_no_such_tenant(make_server):
    """503 in every phase, with one line in the log; nobody else's Python runs, and others are served."""
    server = make_server(extra_modules=("authn_core", "authz_user"))
    site(server)
    server.start()
    for _ in range(20):
        for place in ("nobody", "access", "authen", "users/bob/www"):
            headers = [("Authorization", "Basic eDp4")] if place == "authen" else []
            answer = server.get(f"/{place}/file.txt", headers)
            assert answer.status == 503, (place, answer)
            assert int(answer.header("Retry-After")) >= 1
            assert b"a file" not in answer.body and b"served" not in answer.body
        assert server.get("/page").body == b"served\n"
    lines = [line for line in server.log_lines("VIV0020") if "nobody-here" in line or "Handler: " in line]
    # One for each tenant in ten seconds, of 80 requests.
    assert 2 <= len(lines) < 20, lines


def test_the_pattern_needs_a_user(make_server):
    """A file outside of what the wildcard stands for belongs to the built-in tenant's section, not to some user."""
    server = make_server(extra_modules=("authn_core", "authz_user"))
    site(server)
    server.start()
    assert server.get("/users/www/file.txt").body == b"served\n"


@pytest.mark.parametrize("line,why", [
    ("VivariumTenant a/b", "cannot be a tenant's name"),
    ("VivariumTenant .hidden", "cannot be a tenant's name"),
    ("VivariumTenant ~*", "wildcard"),
    ("VivariumTenant a b", "one tenant's name"),
    ("VivariumTenantDir relative/path", "absolute"),
    ("<VirtualHost *:1>\nVivariumTenantDir /x\n</VirtualHost>", "main server"),
])
def test_what_is_refused_at_once(make_server, line, why):
    server = make_server(extra_modules=("authn_core", "authz_user"))
    site(server, line)
    done = server.configtest()
    assert done.returncode != 0 and why in done.stderr, done.stderr


def test_never_in_htaccess(make_server):
    """Whoever writes a directory's .htaccess does not choose who runs it."""
    server = make_server(extra_modules=("authn_core", "authz_user"))
    site(server)
    server.write("override/.htaccess", "VivariumTenant default\n")
    server.allow_line("VivariumTenant not allowed here")
    server.start()
    assert server.get("/override/file.txt").status == 500
    assert server.log_lines("VivariumTenant not allowed here")


@pytest.fixture
def user():
    """A user of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("only root can make users and become them")
    sys.path.insert(0, str(ATTACKS))
    from arena import add_user, remove_user  # pylint: disable=import-outside-toplevel

    name = f"vivtest-t{os.getpid()}"
    made = add_user(name, "/nonexistent")
    yield made
    remove_user(name)


def test_tenants_come_and_go_without_a_restart(make_server, user):
    """Added, changed and removed by SIGHUP to the supervisor; a wrong file keeps the last good form."""
    server = make_server(extra_modules=("authn_core", "authz_user"))
    tenants = site(server)
    server.allow("VIV0044", "VIV0048", "VIV0030", "VIV0051")
    # Each child asks about a tenant that there was not by itself, every two seconds.
    server.add("StartServers 1\nServerLimit 1\nThreadsPerChild 25\nThreadLimit 25\nMaxRequestWorkers 25")
    server.start()

    def declare(text):
        path = tenants / "nobody-here.toml"
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
            os.chmod(path, 0o644)
        os.kill(server.supervisor(), 1)

    def status():
        return server.get("/nobody/file.txt").status

    good = f'user = "{user.pw_name}"\n[files]\nread_only = ["{server.htdocs}"]\n'
    assert status() == 503
    declare(good)
    wait_until(lambda: status() == 200, "the tenant that was added")
    assert server.get("/access/file.txt").status == 200
    declare(good + "nonsense = 1\n")
    server.wait_log("VIV0044")
    assert status() == 200, "the last good form"
    declare(None)
    wait_until(lambda: status() == 503, "the end of the tenant that was removed")
    assert server.get("/page").body == b"served\n"


def test_a_user_s_directory_is_run_by_the_user(make_server, user):
    """`~*` with a template: the path says whose it is."""
    server = make_server(extra_modules=("authn_core", "authz_user"))
    tenants = site(server)
    server.allow("VIV0048", "VIV0030")
    server.write("page.py", HANDLER.replace('"served\\n"', '"%d\\n" % __import__("os").getuid()'))
    server.write(f"users/{user.pw_name}/www/file.txt", "x")
    template = tenants / "hosting.toml"
    template.write_text(f'[template]\nusers = ["vivtest-*"]\n[files]\nread_only = ["{server.htdocs}"]\n')
    os.chmod(template, 0o644)
    server.start()
    answer = server.get(f"/users/{user.pw_name}/www/file.txt")
    assert (answer.status, answer.body) == (200, b"%d\n" % user.pw_uid), (answer, server.log_text()[-3000:])
    assert server.get("/users/bob/www/file.txt").status == 503, "the template does not know bob"
