"""A real httpd with real tenants: two declared ones (one without grants, one with all) and the built-in one.

Each has a virtual host of its own, chosen by `Host`, and a document root with the same files. The attacks are functions of
`grants_handlers.py`, which all three have.
"""

import os
import secrets
import shutil
from pathlib import Path

from arena import add_user, folder, remove_user, write
from harness import Server

HERE = Path(__file__).resolve().parent
GRANTS = (
    "handlers", "cgi", "proxy", "filters", "foreign_files", "environment", "foreign_uris", "server_config", "server_log",
    "connections", "early_phases", "identity", "authorization", "server_state", "scoreboard",
)
#: The virtual hosts, and the tenant of each.
HOSTS = {"closed": "closed", "open": "open", "default": "default", "other": "other"}

VHOST = """\
<VirtualHost *:{port}>
    ServerName {host}
    ServerAdmin {host}@{mark}
    ErrorLog "{log}"
    DocumentRoot "{root}"
    {tenant}
    PythonOption vhost {host}
    PythonPath "['{root}'] + sys.path"
    {early}
    <Directory "{root}">
        Require all granted
        Options +ExecCGI +Includes
        SetHandler mod_python
        {fixup}
        PythonHandler attack
        PythonAutoReload Off
    </Directory>
    <Directory "{root}/basic">
        AuthType Basic
        AuthName basic
        AuthUserFile "{passwords}"
        Require valid-user
    </Directory>
    # Somebody else's corner of the virtual host.
    <Directory "{root}/inner">
        VivariumTenant other
        PythonOption inner yes
    </Directory>
    <Location "/status">
        SetHandler server-status
        Require local
    </Location>
    {extra}
</VirtualHost>
"""


class TenantSite:
    """Makes users, tenants and a server; `finish` takes all of it away."""

    def __init__(self, stage=None, extra="", tenant_text="", mpm="event", base="", phases=True, threads=12, **more):
        self.mark = secrets.token_hex(6)
        self.server = Server(mpm=mpm, stage=stage, extra_modules=(
            "authn_core", "authn_file", "auth_basic", "authz_user", "cgid", "include", "filter", "proxy", "proxy_http", "status", "headers",
            "dir", "deflate", "ssl",
        ), **more)
        self.prefix = self.server.prefix
        self.users = {}
        self.threads = threads
        self.roots = {}
        self.tenants = folder(self.prefix / "tenants.d")
        self.site = folder(Path("/var/tmp") / f"vivtest-{self.mark}")
        self.foreign = folder(self.site / "foreign")
        write(self.foreign / "secret.txt", "foreign " + self.mark)
        passwords = write(self.site / "passwords", "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")  # password
        try:
            for name in ("closed", "open", "other"):
                user = f"vivtest-{self.mark[:6]}{name[:2]}"
                self.users[name] = add_user(user, self.site / name)
            for host in HOSTS:
                self.roots[host] = self.root(host)
            for name in ("closed", "open", "other"):
                grants = GRANTS if name == "open" else ()
                self.declare(name, grants, tenant_text.get(name, "") if isinstance(tenant_text, dict) else tenant_text)
            self.server.supervisor_config(f'[paths]\nrun_dir = "{self.prefix}/vivarium"\n')
            self.server.add(f'VivariumTenantDir "{self.tenants}"\nScriptSock "{self.prefix}/cgid.sock"\n{base}')
            for host, tenant in HOSTS.items():
                self.server.add(VHOST.format(
                    port=self.server.port, host=host, mark=self.mark, root=self.roots[host], passwords=passwords,
                    early="PythonTransHandler attack" if phases else "", fixup="PythonFixupHandler attack" if phases else "",
                    tenant=f"VivariumTenant {tenant}", log=self.server.log, extra=extra.format(root=self.roots[host]),
                ))
            # Attacks are refused loudly.
            self.server.allow("VIV0020", "VIV0028", "VIV0029", "VIV0030", "VIV0048", "VIV0050", "VIV0051", "VIV0052", "VIV0053")
        except BaseException:
            self.finish()
            raise

    def root(self, host):
        """A document root with the usual files."""
        root = folder(self.site / host)
        shutil.copy(HERE / "grants_handlers.py", root / "attack.py")
        shutil.copy(HERE / "phase_handlers.py", root / "stages.py")
        shutil.copy(HERE / "sneaked.py", root / "sneaked.py")
        write(root / "page.html", f"page of {host}".ljust(99) + "\n")
        write(root / "page.shtml", '<!--#echo var="DOCUMENT_NAME" --> included\n')
        write(root / "script.cgi", '#!/bin/sh\necho "Content-Type: text/plain"\necho\necho "cgi ran: $(id -u) $LD_PRELOAD"\n', 0o755)
        write(root / "raw.asis", "Status: 200 as is\nContent-Type: text/plain\n\nsent as is\n")
        (root / "link").symlink_to(self.foreign / "secret.txt")
        write(folder(root / "inner") / "page.html", f"inner page of {host}\n")
        write(folder(root / "basic") / "x", "basic\n")
        return root

    def declare(self, name, grants, text=""):
        """Writes a tenant's file."""
        user = self.users[name]
        shared = [str(root) for root in self.roots.values()] if name == "other" else [str(self.roots[name])]
        read_only = repr(shared).replace("'", '"')
        listed = ", ".join(f'"{g}"' for g in grants)
        write(self.tenants / f"{name}.toml", f"""
user = "{user.pw_name}"
home = "{self.roots[name]}"
grants = [{listed}]
document_roots = ["{self.roots[name]}"]
processes = {{ max = 1 }}
threads = {self.threads}
{text}
[files]
read_only = {read_only}
[network]
mode = "loopback"
""")
        os.chown(self.roots[name], user.pw_uid, user.pw_gid)

    def get(self, host, target, headers=(), **more):
        """A GET to a virtual host."""
        return self.server.get(target, headers, host=host, **more)

    def finish(self):
        """Takes everything away."""
        try:
            self.server.finish()
        finally:
            for user in self.users.values():
                remove_user(user.pw_name)
            shutil.rmtree(self.site, ignore_errors=True)
