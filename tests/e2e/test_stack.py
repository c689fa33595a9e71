"""Fifty clients on a stack of access, authen, fixup, content, output filter and log handlers, while workers are killed:
no wrong answer, no answer that belongs to another request, no leak."""

import collections
import random
import threading

import pytest

from harness import Truncated, procs, wait_until
from harness.client import Connection
from harness.holdings import leaks
from harness.server import HANDLERS

CLIENTS = 50
KILLS = 12

SECTION = """\
<Directory "{htdocs}">
    Require valid-user
    AuthType Basic
    AuthName stack
    SetHandler mod_python
    PythonAccessHandler stack
    PythonAuthenHandler stack
    PythonFixupHandler stack
    PythonHandler stack
    PythonLogHandler stack
    SetOutputFilter LOUD
</Directory>
DocumentRoot "{htdocs}"
PythonOutputFilter stack LOUD
PythonPath "['{htdocs}'] + sys.path"
MaxRequestWorkers 75
"""


@pytest.fixture(params=["event", "worker", "prefork"])
def server(request, make_server):
    server = make_server(mpm=request.param, extra_modules=("authn_core", "authz_user"))
    server.allow("VIV0011", "VIV0012", "VIV0013", "VIV0020", "VIV0021")
    server.write("stack.py", (HANDLERS / "stack.py").read_text())
    server.add(SECTION.format(htdocs=server.htdocs))
    return server.start()


class Clients:
    """Requests, each with a token of its own, until told to stop."""

    def __init__(self, port):
        self.port = port
        self.outcomes = collections.Counter()
        self.wrong = []
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def done(self):
        with self.lock:
            return sum(self.outcomes.values())

    def run(self, number):
        turn = 0
        while not self.stop.is_set():
            turn += 1
            token = f"t{number}-{turn}"
            word = self.one(token)
            with self.lock:
                self.outcomes[word] += 1

    def one(self, token):
        try:
            with Connection(self.port) as connection:
                response = connection.request("GET", "/x", [("X-Token", token), ("Connection", "close")])
        except Truncated as broken:
            return "truncated" if broken.response is not None else "reset"
        except (ConnectionError, TimeoutError) as error:
            return type(error).__name__
        if response.status == 200:
            loud = token.upper()
            right = f"USER {loud} TOKEN {loud} END {loud}".encode()
            if response.body != right or response.header("X-Fixup") != token:
                with self.lock:
                    self.wrong.append((token, response.status, response.header("X-Fixup"), response.body))
        return str(response.status)


def test_under_random_kills(server):
    wait_until(lambda: Clients(server.port).one("first") == "200", "the first answer")
    supervisor = server.supervisor()
    chance = random.Random(7)
    with Clients(server.port) as clients:
        wait_until(lambda: clients.done() > 200, "some answers")
        for _ in range(KILLS):
            workers = wait_until(server.workers, "a worker")
            procs.kill(chance.choice(workers))
            before = clients.done()
            wait_until(lambda: clients.done() > before + 60, "more answers")
    assert not clients.wrong, clients.wrong[:5]
    assert set(clients.outcomes) <= {"200", "500", "502", "503", "truncated"}, clients.outcomes
    assert clients.outcomes["200"] > 200, clients.outcomes
    wait_until(lambda: Clients(server.port).one("last") == "200", "an answer after it all")
    # Nothing is left of the dead: neither descriptors nor regions, in the supervisor, the children or the workers.
    assert server.supervisor() == supervisor
    wait_until(lambda: server.workers() and not leaks(server, supervisor), "everything of the dead to be given back")
    assert not server.log_lines("the token of another")
