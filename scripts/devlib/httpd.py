"""An httpd of one's own: Debian's program and modules, configuration, log and pid file in a folder made for it."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from . import artefacts

PROGRAM = "/usr/sbin/apache2"
MODULES = Path("/usr/lib/apache2/modules")
MPMS = ("event", "worker", "prefork")
DEBIAN_MOD_PYTHON = MODULES / "mod_python.so"

# What every configuration loads beside its MPM: little, as each module that is absent explains nothing away.
BASE_MODULES = ("authz_core", "authz_host", "alias", "mime", "env", "setenvif")

BASE = """\
ServerRoot "{prefix}"
PidFile "{prefix}/httpd.pid"
DefaultRuntimeDir "{prefix}"
Mutex file:{prefix}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
LogLevel {loglevel}
ErrorLog "{log}"
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
{load}
{user}
TypesConfig /etc/mime.types
ServerTokens Prod
<Directory />
    AllowOverride None
    Require all denied
</Directory>
"""


def free_port(first=0):
    """A port on which nobody listens: the first from `first` on, or any."""
    for port in range(first, first + 200) if first else [0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError(f"no free port from {first} on")


def poll(condition, watchdog, what):
    """Waits until `condition()` is true and returns what it gave; the watchdog only ends what would never end."""
    pause = threading.Event()
    tries = max(1, int(watchdog / 0.01))
    for _ in range(tries):
        value = condition()
        if value:
            return value
        pause.wait(0.01)
    raise TimeoutError(f"waited {watchdog} s for {what}")


def _end_with_parent():
    """In the new process, before exec: it gets SIGTERM if the script that started it dies without stopping it."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)


class Httpd:
    """One httpd. Make it, add configuration with `add`, then `start` and at last `stop`."""

    def __init__(self, mpm="event", port=None, module=None, loglevel="info", extra_modules=(), name="test"):
        self.prefix = Path(tempfile.mkdtemp(prefix=f"vivarium-{name}."))
        os.chmod(self.prefix, 0o755)
        self.mpm = mpm
        self.port = port or free_port()
        self.log = self.prefix / "error.log"
        self.module = module
        self.loglevel = loglevel
        self.extra_modules = extra_modules
        self.environment = {}
        self.process = None
        self._parts = []

    @property
    def url(self):
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def add(self, text):
        """Adds lines to the configuration."""
        self._parts.append(text)

    def conf(self):
        """The whole configuration."""
        user = artefacts.httpd_user()
        load = [f"LoadModule {m}_module {MODULES}/mod_{m}.so" for m in (*BASE_MODULES, *self.extra_modules)]
        if self.module:
            load.append(f"LoadModule python_module {self.module}")
        base = BASE.format(
            prefix=self.prefix, port=self.port, loglevel=self.loglevel, log=self.log, mpm=self.mpm,
            modules=MODULES, load="\n".join(load), user=f"User {user}\nGroup {user}" if user else "",
        )
        return base + "\n".join(self._parts) + "\n"

    def write_conf(self):
        """Writes the configuration and returns its path."""
        path = self.prefix / "httpd.conf"
        path.write_text(self.conf())
        return path

    def command(self, *arguments):
        """The command line."""
        return [PROGRAM, "-f", str(self.prefix / "httpd.conf"), *arguments]

    def environ(self):
        """A small environment: what the caller's shell holds does not matter."""
        base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return {**base, **self.environment}

    def configtest(self):
        """Runs `apache2 -t` on the configuration; returns the finished process with its output."""
        self.write_conf()
        return subprocess.run(
            self.command("-t"), env=self.environ(), capture_output=True, text=True, check=False
        )

    def launch(self, stderr=None):
        """Starts the process without waiting for it."""
        self.write_conf()
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            self.command("-DFOREGROUND"), env=self.environ(), stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
            start_new_session=True, preexec_fn=_end_with_parent,
        )
        return self

    def start(self, watchdog=180):
        """Starts it and waits until it answers connections."""
        stderr = self.prefix / "stderr"
        with open(stderr, "wb") as out:
            self.launch(out)

        def up():
            if self.process.poll() is not None:
                said = stderr.read_text(errors="replace") + self.log_text()
                raise RuntimeError(f"httpd ended with {self.process.returncode} at its start:\n{said}")
            return self.listening()

        poll(up, watchdog, f"httpd to listen on port {self.port}")
        return self

    def listening(self):
        """Whether something accepts connections on the port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log_text(self):
        """The error log as it is now."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, number):
        """Sends a signal to the parent."""
        os.kill(self.process.pid, number)

    def stop(self, watchdog=180):
        """Stops it and waits for the parent's end; returns its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self._let_connections_end()
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(watchdog)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode

    def _let_connections_end(self):
        """Gives connections that clients have closed a second to end in httpd too.

        httpd's event MPM (2.4.71, with or without a module of ours) may touch the socket of a connection that is just
        ending when it is told to stop: the child then falls with a segmentation fault in `apr_os_sock_get`. What stays
        open is not waited for: nothing happens to it.
        """
        quiet, pause = 0, threading.Event()
        for _ in range(100):
            quiet = 0 if self._serves_connections() else quiet + 1
            if quiet == 3:
                return
            pause.wait(0.01)

    def _serves_connections(self):
        """Whether a child has a connection open."""
        open_ones = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            open_ones |= {f"socket:[{row[9]}]" for row in rows if row[3] != "0A"}  # that is: listening
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            try:
                if any(os.readlink(fd) in open_ones for fd in Path(f"/proc/{child}/fd").iterdir()):
                    return True
            except OSError:
                continue
        return False

    def remove(self):
        """Removes its folder."""
        shutil.rmtree(self.prefix, ignore_errors=True)
