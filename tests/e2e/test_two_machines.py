"""The guestbook on two machines with one Redis between them: who has logged in on one is logged in on the other."""

import os
import socket
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path

import pytest

from devlib import artefacts
from harness import Truncated, procs, wait_until
from harness.machines import HUB, Machines, MachineServer
from harness.redis_server import RedisServer
from test_guestbook import CONF, EXAMPLE, Visitor

PASSWORD = "a-password-for-redis"

REDIS = """\
<Directory "{copy}/site">
    PythonOption mod_python.session.session_type RedisSession
    PythonOption mod_python.redis_session.url_file {copy}/redis-url
    PythonOption mod_python.redis_session.lock_ttl 3
</Directory>
"""

# Has the session until it is told to end, or is killed.
HOLD = """
import os, time
from mod_python import Session

def index(req):
    session = Session.Session(req)
    folder = req.get_options()["guestbook.data"]
    open(folder + "/held", "w").close()
    while not os.path.exists(folder + "/go-on"):
        time.sleep(0.01)
    return "held"
"""


class SharedRedis(RedisServer):
    """A Redis in the hub, for all machines."""

    def __init__(self, machines):
        self.machines = machines
        self.address = machines.address(HUB)
        super().__init__(f"bind {self.address}\nrequirepass {PASSWORD}\n")
        self.port = machines.free_port(HUB)
        path = self.path / "redis.conf"
        path.write_text(path.read_text() + f"port {self.port}\n")

    def start(self):
        """Starts it in the hub."""
        command = self.machines.command(HUB, ["redis-server", self.path / "redis.conf"])
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        wait_until(self.answers, f"redis-server to answer; its log: {self.log()[-500:]}")
        return self

    def answers(self):
        """Whether it takes commands."""
        with self.machines.inside(HUB):
            made = socket.socket()
        with made:
            made.settimeout(10)
            try:
                made.connect((self.address, self.port))
                made.sendall(b"PING\r\n")
                return made.recv(100).startswith(b"-NOAUTH")
            except OSError:
                return False

    @property
    def url(self):
        """Its URL."""
        return f"redis://:{PASSWORD}@{self.address}:{self.port}/0"


@pytest.fixture
def machines():
    with Machines("one", "two") as made:
        if made.reason:
            warnings.warn(f"two ports of one machine instead of two machines: {made.reason}", stacklevel=1)
        yield made


@pytest.fixture
def redis(machines):
    with SharedRedis(machines) as server:
        yield server


@pytest.fixture
def data():
    """A folder for what the guestbook keeps: on real machines, a database server of their own."""
    with tempfile.TemporaryDirectory(prefix="vivarium-shared.") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.fixture
def pair(machines, redis, stage, data):
    """Two servers of the same site, with the same entries."""
    made = [MachineServer(machines, name, mpm="event", stage=stage) for name in ("one", "two")]
    try:
        for server in made:
            copy = server.prefix / "guestbook"
            artefacts.copy_tree(EXAMPLE, copy)
            (copy / "site/hold.py").write_text(HOLD)
            (copy / "redis-url").write_text(redis.url)
            server.add(CONF.format(copy=copy, scratch=data) + REDIS.format(copy=copy))
            server.start()
        yield made
    finally:
        errors = []
        for server in made:
            try:
                server.finish()
            except (AssertionError, TimeoutError) as error:
                errors.append(f"{server.name}: {error}")
        assert not errors, "\n".join(errors)


def die(server):
    """The machine's server is gone, with all that belongs to it, from one moment to the next."""
    for pid in server.tree():
        procs.kill(pid)
    server.process.wait()
    wait_until(lambda: not server.left_behind(), "the end of a killed server")
    with pytest.raises(OSError):
        server.get("/guestbook/")


def user(visitor, server):
    """Who the visitor is for that server."""
    visitor.server = server
    page = visitor.get()
    assert page.status == 200
    return page.text.partition('id="user">')[2].partition("<")[0] or None


def test_two_machines(pair, machines):
    one, two = pair
    assert machines.reason or one.url.split(":")[1] != two.url.split(":")[1]
    eve = Visitor(one).join("Eve")
    assert [user(eve, server) for server in (two, one, two)] == ["Eve"] * 3
    assert eve.post("sign", {"text": "from two"}).status == 302

    # The first one dies; she goes on, on the second.
    die(one)
    assert user(eve, two) == "Eve"
    assert eve.post("sign", {"text": "still here"}).status == 302
    adam = Visitor(two).join("Adam")

    # It comes back, and the second one dies.
    one.start()
    assert (user(eve, one), user(adam, one)) == ("Eve", "Adam")
    die(two)
    assert user(eve, one) == "Eve"
    assert "still here" in eve.get().text
    assert eve.post("logout").status == 302
    two.start()
    assert (user(eve, two), user(adam, two)) == (None, "Adam")


def test_a_machine_that_dies_with_a_session_in_its_hands(pair, data):
    one, two = pair
    eve = Visitor(one).join("Eve")
    held = Visitor(one)
    held.cookie = eve.cookie

    def hold():
        with pytest.raises((Truncated, OSError)):
            held.get("hold")

    thread = threading.Thread(target=hold)
    thread.start()
    wait_until((data / "guestbook/held").exists, "the session to be held")
    die(one)
    thread.join()
    # The lock of a dead holder ends by itself.
    assert user(eve, two) == "Eve"
    one.start()
    assert user(eve, one) == "Eve"
