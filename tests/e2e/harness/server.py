"""The httpd of a test: see `Server`."""

import os
import re
import signal
from pathlib import Path

from devlib import artefacts
from devlib.httpd import DEBIAN_MOD_PYTHON, Httpd

from . import client, procs
from .wait import wait_until

HANDLERS = Path(__file__).resolve().parents[1] / "handlers"

BAD_LINE = re.compile(r"exit signal|panicked|Segmentation fault|stack smashing|double free|AddressSanitizer")
# A line of ours at a level that asks for attention.
COMPLAINT = re.compile(r"\[\w*:(?:warn|error|crit|alert|emerg)\].*?\b(VIV\d{4})\b")

SITE = """\
PythonOption scratch "{scratch}"
DocumentRoot "{htdocs}"
<Directory "{htdocs}">
    Require all granted
    SetHandler mod_python
    PythonHandler {handler}
    {extra}
</Directory>
"""

# The first step of the path names the function that answers.
BY_NAME = """
def handler(req):
    return globals()[req.uri.strip("/").split("/")[0]](req)
"""


class Server(Httpd):
    """An httpd with handlers of the test's own.

    `flavour` is "vivarium" or "mod_python" (Debian's, to compare with). Handlers are files in `htdocs`, which
    everybody can read.
    """

    def __init__(self, mpm="event", flavour="vivarium", stage=None, **more):
        module = DEBIAN_MOD_PYTHON if flavour == "mod_python" else artefacts.module(stage)
        super().__init__(mpm=mpm, module=module, name="e2e", **more)
        self.flavour = flavour
        self.htdocs = self.prefix / "htdocs"
        self.htdocs.mkdir()
        os.chmod(self.htdocs, 0o755)
        # Handlers may write here.
        self.scratch = self.prefix / "scratch"
        self.scratch.mkdir()
        os.chmod(self.scratch, 0o777)
        self.allowed = set()
        self.allowed_lines = []
        self.seen = {}

    # -- what is served

    def write(self, name, text):
        """Writes a file into `htdocs`."""
        path = self.htdocs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, 0o644)
        return path

    def site(self, handlers, extra=""):
        """Serves the functions of tests/e2e/handlers/NAME.py: `/echo/x` is answered by its function `echo`."""
        self.write(f"{handlers}.py", (HANDLERS / f"{handlers}.py").read_text() + BY_NAME)
        self.add(SITE.format(htdocs=self.htdocs, scratch=self.scratch, handler=handlers, extra=extra))
        return self

    # -- requests

    def get(self, target, headers=(), **more):
        """A GET on a connection of its own."""
        return client.request(self.port, "GET", target, headers, **more)

    def post(self, target, body, headers=(), **more):
        """A POST on a connection of its own."""
        return client.request(self.port, "POST", target, headers, body=body, **more)

    def request(self, method, target, headers=(), **more):
        """Any request on a connection of its own."""
        return client.request(self.port, method, target, headers, **more)

    def connect(self, **more):
        """A connection."""
        return client.Connection(self.port, **more)

    def outcome(self, target):
        """One word about a GET."""
        return client.outcome(self.port, "GET", target)

    # -- processes

    def tree(self):
        """All processes of this server; they are also remembered for the check at the end."""
        if self.process is None:
            return []
        found = [self.process.pid, *procs.descendants(self.process.pid)]
        for pid in found:
            self.seen.setdefault(pid, procs.start_time(pid))
        return found

    def supervisor(self):
        """The supervisor's pid, or None while there is none."""
        for pid in procs.children(self.process.pid):
            if _program(pid) == "vivariumd":
                self.tree()
                return pid
        return None

    def workers(self):
        """The workers' pids."""
        return [pid for pid in self.tree() if "vivarium.worker" in procs.cmdline(pid)]

    def httpd_children(self):
        """httpd's own children."""
        return [pid for pid in procs.children(self.process.pid) if _program(pid) == "apache2"]

    # -- control

    def supervisor_config(self, text):
        """Gives the supervisor a configuration file."""
        path = self.prefix / "vivariumd.toml"
        path.write_text(text)
        self.environment["VIVARIUM_CONFIG"] = str(path)

    def graceful(self):
        """A graceful restart; returns when the new generation is there. Old children may still answer what they had
        accepted by then."""
        before = self.log_text().count("resuming normal operations")
        self.signal(signal.SIGUSR1)
        wait_until(
            lambda: self.log_text().count("resuming normal operations") > before, "the graceful restart"
        )

    # -- the log

    def allow(self, *codes):
        """These codes may be in the log at the end of the test."""
        self.allowed.update(codes)
        return self

    def allow_line(self, pattern):
        """Lines that match may be in the log at the end of the test."""
        self.allowed_lines.append(re.compile(pattern))
        return self

    def log_lines(self, pattern):
        """The lines of the error log that match."""
        return [line for line in self.log_text().splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern, count=1):
        """Waits until that many lines match; returns them."""
        def enough():
            found = self.log_lines(pattern)
            return found if len(found) >= count else None
        return wait_until(enough, f"{count} line(s) in the log that match {pattern!r}")

    def bad_lines(self):
        """Lines that no healthy server writes and that the test did not announce."""
        bad = []
        for line in self.log_text().splitlines():
            if any(p.search(line) for p in self.allowed_lines):
                continue
            complaint = COMPLAINT.search(line)
            if BAD_LINE.search(line) or (complaint and complaint.group(1) not in self.allowed):
                bad.append(line)
        return bad

    # -- the end

    def finish(self):
        """Stops the server and checks that it leaves no process and no complaint behind."""
        try:
            if self.process is not None:
                self.tree()
                self.stop()
                wait_until(lambda: not self.left_behind(), f"the end of {self.left_behind()}")
            assert not self.bad_lines(), "unexpected in the error log:\n" + "\n".join(self.bad_lines())
        finally:
            for pid in self.left_behind():
                procs.kill(pid)
            self.remove()

    def left_behind(self):
        """Processes of this server that still run."""
        for pid in self.seen:
            procs.reap(pid)
        return [pid for pid, born in self.seen.items() if born and procs.start_time(pid) == born]


def _program(pid):
    command = procs.cmdline(pid)
    return Path(command[0]).name if command else ""
