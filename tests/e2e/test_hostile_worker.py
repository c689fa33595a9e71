"""A worker that breaks every rule: random frames, lies, scribbles all over the shared memory, floods, silence, death.

Its own pool suffers. httpd's children do not crash and do not hang, and other pools are served meanwhile. How many
frames and scribbles a conversation takes, and a million of them, is the business of the protocol crate's own tests,
which play the same peer; here it stands where a real worker would.
"""

import collections
import os
import threading

import pytest

from devlib import artefacts
from harness import Load, client, procs, wait_until

HOSTILE = artefacts.REPO / "target/release/examples/hostile_worker"
POOLS = 6

# Which program a pool gets as its Python is decided by the interpreter's name: hostile-MODE-SEED.
PYTHON = """#!/bin/sh
case $VIVARIUM_INTERPRETER in
    hostile-*)
        name=${{VIVARIUM_INTERPRETER#hostile-}}
        export VIVARIUM_HOSTILE_MODE=${{name%-*}} VIVARIUM_HOSTILE_SEED=${{name##*-}} VIVARIUM_HOSTILE_PATIENCE_MS=500
        exec {hostile}
        ;;
esac
exec /usr/bin/python3 "$@"
"""

SECTION = """
<Location "/{mode}/{seed}">
    PythonInterpreter hostile-{mode}-{seed}
</Location>
"""

# What httpd may say of such a worker.
CODES = ("VIV0011", "VIV0012", "VIV0013", "VIV0014", "VIV0015", "VIV0020", "VIV0021", "VIV0022", "VIV0024", "VIV0027",
         "VIV0028")


def make_hostile(make_server, mpm, mode):
    """A server with a good pool and some that have hostile workers."""
    server = make_server(mpm=mpm)
    server.allow(*CODES)
    hostile = server.prefix / "hostile_worker"
    artefacts.copy_if_changed(HOSTILE, hostile)
    python = server.write("python", PYTHON.format(hostile=hostile))
    os.chmod(python, 0o755)
    server.supervisor_config(f'[default]\npython = "{python}"\nprocesses = 2\nthreads = 4\n')
    server.site("deaths")
    for seed in range(POOLS):
        server.add(SECTION.format(mode=mode, seed=seed))
    return server.start()


class Victims:
    """Requests to the hostile pools, one after the other on a few threads, until told to stop.

    A worker may sit on a request for ever, as a handler may; these clients have less patience.
    """

    def __init__(self, server, modes, threads=4):
        self.port = server.port
        self.targets = [f"/{mode}/{seed}" for seed in range(POOLS) for mode in modes]
        self.outcomes = collections.Counter()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n, threads)) for n in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number, step):
        while not self.stop.is_set():
            for target in self.targets[number::step]:
                body = b"x" * 100_000 if number % 2 else None
                word = client.outcome(self.port, "POST" if body else "GET", target, body=body, timeout=3)
                self.outcomes[word] += 1
                if self.stop.is_set():
                    break

    @property
    def met(self):
        """How many requests met a hostile worker; the others were told that the pool is down."""
        return sum(count for word, count in self.outcomes.items() if word != "503")


@pytest.mark.parametrize("mpm, mode, enough", [
    ("event", "random", 12), ("event", "lies", 12), ("event", "scribble", 12), ("event", "chatter", 12),
    ("event", "die", 12), ("event", "flood", 6), ("event", "silent", 4),
    ("worker", "mixed", 12), ("prefork", "mixed", 12),
])
def test_other_pools_are_served_meanwhile(make_server, mpm, mode, enough):
    server = make_hostile(make_server, mpm, mode)
    wait_until(lambda: server.outcome("/hello") == "200", "the good pool")
    children = server.httpd_children()
    with Load(server.port, "/hello", connections=2, expect=b"hello\n") as load:
        with Victims(server, [mode]) as victims:
            wait_until(lambda: victims.met >= enough, "enough requests to hostile workers")
            done = load.done
            wait_until(lambda: load.done > done + 200, "requests to the good pool")
    assert load.failed == {} and not load.wrong
    assert "refused" not in victims.outcomes, victims.outcomes
    assert all(procs.alive(pid) for pid in children) or mpm == "prefork"
    assert not server.log_lines("exit signal")
    assert server.get("/hello").body == b"hello\n"
