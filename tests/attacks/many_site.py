"""A real httpd with many declared tenants, of which hardly any is awake."""

import os
import secrets
import shutil
from pathlib import Path

from arena import add_user, folder, remove_user, write
from harness import Server, procs, wait_until

HANDLER = """\
import os
from mod_python import apache

def handler(req):
    req.write("%s %d" % (req.get_options()["tenant"], os.getpid()))
    return apache.OK
"""

PLACE = """\
<Location "/t{n}">
    SetHandler mod_python
    PythonHandler many
    PythonOption tenant t{n}
    {tenant}
</Location>
"""

#: One child: every tenant that was ever awake was so there.
MPM = "StartServers 1\nServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n"


class ManySite:
    """`count` tenants `t0`, `t1`, ... of one user, each at `/tN`. `tenants=False`: the same places without tenants.

    `idle_s`: how long after its last request a tenant goes to sleep.
    """

    def __init__(self, count, idle_s=300, tenants=True, stage=None, pools=256):
        self.mark = secrets.token_hex(6)
        self.count = count
        self.server = Server(stage=stage, loglevel="notice")
        self.tenants = folder(self.server.prefix / "tenants.d")
        self.site = folder(Path("/var/tmp") / f"vivtest-{self.mark}")
        self.user = None
        try:
            self.user = add_user(f"vivtest-{self.mark[:6]}m", self.site / "home")
            folder(self.site / "home", owner=self.user)
            write(self.site / "home" / "many.py", HANDLER)
            for n in range(count if tenants else 0):
                self.declare(n, idle_s)
            self.server.supervisor_config(
                f'[paths]\nrun_dir = "{self.server.prefix}/vivarium"\n[limits]\npools = {pools}\n'
                f'[sandbox]\ncgroup = "/vivtest-{self.mark}"\n'
            )
            self.server.add(
                f'{MPM}VivariumTenantDir "{self.tenants}"\nDocumentRoot "{self.site}/home"\n'
                f"PythonPath \"['{self.site}/home'] + sys.path\"\nPythonInterpreter main\n"
                f'<Directory "{self.site}/home">\n    Require all granted\n</Directory>\n'
            )
            for n in range(count):
                self.server.add(PLACE.format(n=n, tenant=f"VivariumTenant t{n}" if tenants else ""))
            # All of one user; what this machine cannot protect.
            self.server.allow("VIV0045", "VIV0047", "VIV0048")
        except BaseException:
            self.finish()
            raise

    def declare(self, n, idle_s):
        """Writes a tenant's file. One user has them all, so the limit of a user's processes would be one for all."""
        write(self.tenants / f"t{n}.toml", f"""
user = "{self.user.pw_name}"
home = "{self.site}/home"
processes = {{ min = 0, max = 1 }}
threads = 2
[limits]
pids = 0
[timeouts]
idle_s = {idle_s}
""")

    def ask(self, n):
        """A request to one tenant: its worker's number, as it sees it."""
        answer = self.server.get(f"/t{n}/x")
        assert answer.status == 200, (answer, self.server.log_text()[-3000:])
        name, pid = answer.body.decode().split()
        assert name == f"t{n}", answer
        return int(pid)

    def memory(self):
        """KiB of the supervisor, and of httpd's child: what is theirs alone."""
        (child,) = wait_until(self.server.httpd_children, "httpd's child")
        return private(self.server.supervisor()), private(child)

    def groups(self):
        """The control groups that there are for these tenants."""
        found = set()
        for root, folders, _ in os.walk("/sys/fs/cgroup"):
            if os.path.basename(root) == f"vivtest-{self.mark}":
                found.update(name.split(".")[0] for name in folders)
                folders.clear()
            elif root.count("/") > 5:
                folders.clear()
        return found

    def finish(self):
        """Takes everything away."""
        try:
            self.server.finish()
        finally:
            if self.user:
                remove_user(self.user.pw_name)
            shutil.rmtree(self.site, ignore_errors=True)
            for root, folders, _ in os.walk("/sys/fs/cgroup"):
                for name in folders:
                    if name == f"vivtest-{self.mark}":
                        os.rmdir(os.path.join(root, name))
                if root.count("/") > 4:
                    folders.clear()


def private(pid):
    """KiB of memory that only this process has."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1])
    return total or procs.kib(pid, "VmRSS")
