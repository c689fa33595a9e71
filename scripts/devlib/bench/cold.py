"""The work `cold-start`: how long the first answer of a server takes that has just begun to listen.

Each round makes a new server, starts it, waits until it (and the program behind it, if there is one) accepts connections,
and times one request on a new connection until its whole answer is there: interpreters, applications and workers that
are started or loaded by the first request are in that time. The time from the start of the server to the answer is told
too: who loads everything before it listens pays there.
"""

import dataclasses
import socket
import statistics
import sys
import time

from ..httpd import poll
from .contenders import MAKERS
from .works import HELLO

WATCHDOG = 180


@dataclasses.dataclass(frozen=True)
class First:
    """Seconds until the server listened, and from the request until the answer."""

    listening: float
    answer: float


def listens(port):
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port):
    """One request for /hello on a connection of its own; the answer must be right."""
    with socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = b""
        while block := connection.recv(65536):
            answer += block
    if not answer.startswith(b"HTTP/1.1 200 ") or HELLO not in answer:
        raise SystemExit(f"bench: the first answer is wrong: {answer[:600]!r}")


def first(name):
    """One cold start."""
    contender = MAKERS[name]()
    try:
        began = time.monotonic()
        contender.start()
        if contender.port_behind:
            poll(lambda: listens(contender.port_behind), WATCHDOG, f"{name} to listen")
        listening = time.monotonic()
        ask(contender.httpd.port)
        return contender.name, First(listening - began, time.monotonic() - listening)
    finally:
        contender.stop()


def measure(names, rounds):
    """{contender: [First, ...]}, the rounds interleaved."""
    found = {}
    for number in range(rounds):
        turn = number % len(names)
        for key in names[turn:] + names[:turn]:
            name, run = first(key)
            found.setdefault(name, []).append(run)
            print(f"cold-start {name:24} {run.answer * 1e3:8.1f} ms, {run.listening * 1e3:.1f} ms to listen", file=sys.stderr,
                  flush=True)
    return found


def table(found):
    """The table for the page."""
    lines = [
        "### Cold start", "",
        "| | first answer after it listens, ms | from its start to the first answer, ms |", "|---|---|---|",
    ]
    for name, runs in found.items():
        cells = []
        for times in ([r.answer * 1e3 for r in runs], [(r.listening + r.answer) * 1e3 for r in runs]):
            cells.append(f"{statistics.median(times):.1f} ({min(times):.1f}-{max(times):.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
