"""Machines made of network namespaces: each has an address of its own on a network that nobody else can reach.

`Machines` makes a hub, where services that all share may listen, and any number of others. Where namespaces are not
permitted (no root, or a container without the capability), `Machines.reason` says why, and all machines are this one, at
127.0.0.1: then programs on them differ in their ports only.
"""

import ctypes
import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

from devlib.httpd import free_port

from .client import Connection
from .server import Server

CLONE_NEWNET = 0x40000000
HUB = "hub"
_LIBC = ctypes.CDLL(None, use_errno=True)


def _run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


def _ip(*arguments):
    _run("ip", *arguments)


class Machines:
    """`with Machines("one", "two") as machines:`"""

    def __init__(self, *names):
        self.names = (HUB, *names)
        self.prefix = f"vivarium{os.getpid()}-"
        #: Why there are no namespaces, if there are none.
        self.reason = None
        self._made = []

    def __enter__(self):
        try:
            self._make()
        except (OSError, subprocess.CalledProcessError) as error:
            self._remove()
            self.reason = f"no network namespaces here: {getattr(error, 'stderr', None) or error}".strip()
        return self

    def __exit__(self, *_):
        self._remove()

    def _make(self):
        for name in self.names:
            space = self.prefix + name
            _ip("netns", "add", space)
            self._made.append(space)
            _ip("-n", space, "link", "set", "lo", "up")
        hub = self.prefix + HUB
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "addr", "add", f"{self._address(HUB)}/24", "dev", "br0")
        _ip("-n", hub, "link", "set", "br0", "up")
        for number, name in enumerate(self.names[1:]):
            space = self.prefix + name
            _ip("-n", hub, "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", hub, "link", "set", f"to{number}", "master", "br0", "up")
            _ip("-n", space, "addr", "add", f"{self._address(name)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
        with self.inside(HUB):
            pass

    def _remove(self):
        for space in self._made:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
        self._made.clear()

    def _address(self, name):
        return f"10.77.0.{self.names.index(name) + 1}"

    def address(self, name):
        """The machine's address."""
        return "127.0.0.1" if self.reason else self._address(name)

    def command(self, name, command):
        """The command line that runs a command on a machine; the process is the command's own."""
        return list(command) if self.reason else ["nsenter", f"--net={self._file(name)}", *map(str, command)]

    def _file(self, name):
        return Path("/run/netns") / (self.prefix + name)

    @contextmanager
    def inside(self, name):
        """This thread's new sockets are the machine's."""
        if self.reason:
            yield
            return
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self._file(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(here)
        finally:
            os.close(there)
            os.close(here)

    def free_port(self, name):
        """A port on which nobody listens."""
        with self.inside(name):
            return free_port()

    def answers(self, name, port):
        """Whether somebody accepts connections there; asked from the hub."""
        with self.inside(HUB), socket.socket() as probe:
            probe.settimeout(10)
            return probe.connect_ex((self.address(name), port)) == 0


def _enter(fd):
    if _LIBC.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


class MachineConnection(Connection):
    """A connection from the hub to a server on a machine."""

    def __init__(self, machines, name, port, timeout=120):  # pylint: disable=super-init-not-called
        with machines.inside(HUB):
            self.socket = socket.socket()
        self.socket.settimeout(timeout)
        self.socket.connect((machines.address(name), port))
        self.port = port
        self.buffer = bytearray()
        self.method = "GET"


class MachineServer(Server):
    """A server on a machine."""

    def __init__(self, machines, name, **more):
        super().__init__(**more)
        self.machines = machines
        self.name = name
        self.port = machines.free_port(name)

    @property
    def url(self):
        """Where it serves."""
        return f"http://{self.machines.address(self.name)}:{self.port}"

    def conf(self):
        """The configuration, with the machine's address."""
        text = super().conf()
        return text.replace("Listen 127.0.0.1:", f"Listen {self.machines.address(self.name)}:", 1)

    def command(self, *arguments):
        """The command line."""
        return self.machines.command(self.name, super().command(*arguments))

    def listening(self):
        """Whether something accepts connections on the port."""
        return self.machines.answers(self.name, self.port)

    def request(self, method, target, headers=(), **more):
        """Any request on a connection of its own."""
        with MachineConnection(self.machines, self.name, self.port) as connection:
            return connection.request(method, target, [*headers, ("Connection", "close")], **more)
