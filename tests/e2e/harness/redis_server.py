"""A Redis server of a test's own, on a free port of 127.0.0.1, which keeps what it was told over being killed."""

import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from devlib.httpd import free_port

from .wait import wait_until


class RedisServer:
    """`with RedisServer() as server:`; more lines of configuration as `extra`, where `{folder}` is its folder."""

    def __init__(self, extra="", sentinel=False):
        self.folder = tempfile.TemporaryDirectory(prefix="vivarium-redis.")
        self.path = Path(self.folder.name)
        self.port = free_port()
        self.sentinel = sentinel
        # Every command is on the disk before it is answered.
        keeps = "" if sentinel else "appendonly yes\nappendfsync always\nsave \"\"\n"
        (self.path / "redis.conf").write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {self.path}\nlogfile {self.path}/log\n{keeps}"
            + extra.format(folder=self.path)
        )
        self.process = None

    def start(self):
        """Starts it, for the first time or again, and waits until it answers."""
        command = ["redis-server", self.path / "redis.conf", *(["--sentinel"] if self.sentinel else [])]
        # Not a child that the tests' reaper of orphans would see: it is waited for here.
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        wait_until(self.answers, f"redis-server to answer; its log: {self.log()[-500:]}")
        return self

    def answers(self):
        """Whether it takes commands: loading is over."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                connection.sendall(b"PING\r\n")
                # A server that wants a password says so, which is an answer too.
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def log(self):
        """What it has logged."""
        path = self.path / "log"
        return path.read_text() if path.exists() else ""

    def kill(self, number=signal.SIGKILL):
        """Ends it at once."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    @property
    def url(self):
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        self.folder.cleanup()
