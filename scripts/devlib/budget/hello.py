"""System calls and sleeps of a hello, on a real httpd with our handler: one connection that is kept alive.

What is counted comes in batches, and the best batch counts: a machine that is busy otherwise makes threads sleep more
often and look around more often, never less than they must.
"""

import os
import re
import socket
import subprocess
import time
from collections import Counter

from .. import artefacts
from ..bench.measure import processes
from ..httpd import Httpd, poll

BATCH = 50
BATCHES = 8
BATCHES_UNTRACED = 20
WATCHDOG = 180

CONF = """\
StartServers 1
ServerLimit 1
ThreadsPerChild 8
MaxRequestWorkers 8
MinSpareThreads 1
MaxSpareThreads 8
KeepAlive On
KeepAliveTimeout 300
MaxKeepAliveRequests 0
DocumentRoot "{folder}"
<Directory "{folder}">
    Require all granted
    SetHandler mod_python
    PythonHandler hello
</Directory>
"""
HANDLER = """\
from mod_python import apache

def handler(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\\n")
    return apache.OK
"""
ANSWER = b"Hello, world!\n"

#: How often these happen depends on when threads run, not on what we do: polling, looks for the next request, and the futex
#: calls inside a process, which are those of httpd's queue of connections and of the interpreter's lock.
SCHEDULING = ("sched_yield", "ppoll", "futex, private")
CALL = re.compile(r"^(\d+) +(\d+\.\d+) ([a-z0-9_]+)\((?:0x[0-9a-f]+, FUTEX_(\w+))?")


def whole(answer):
    """Whether all of an answer is there."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    return bool(end and length) and len(body) >= int(length.group(1))


class Client:
    """A connection that is kept alive."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG)

    def get(self):
        """One request; the answer must be right. It is sent in chunks if httpd had to wait for the handler's end."""
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while not whole(answer):
            block = self.socket.recv(65536)
            if not block:
                break
            answer += block
        if not (answer.startswith(b"HTTP/1.1 200 ") and ANSWER in answer and whole(answer)):
            raise SystemExit(f"budget: the handler's answer is wrong: {answer[:600]!r}")

    def batch(self):
        """`BATCH` requests; returns when they began and ended."""
        began = time.time()
        for _ in range(BATCH):
            self.get()
        return began, time.time()


def start():
    """An httpd with one child and one worker."""
    httpd = Httpd("event", name="budget", loglevel="warn")
    httpd.module = artefacts.module(stage=httpd.prefix / "build")
    folder = httpd.prefix / "app"
    folder.mkdir()
    (folder / "hello.py").write_text(HANDLER)
    conf = httpd.prefix / "vivariumd.toml"
    conf.write_text("[default]\nprocesses = 1\n")
    httpd.environment["VIVARIUM_CONFIG"] = str(conf)
    httpd.add(CONF.format(folder=folder))
    return httpd.start()


def sides(httpd):
    """{"httpd": pid of the only child, "worker": pid of the only worker}; None while one is not there yet."""
    root = httpd.process.pid
    found = processes([root])
    children = [pid for pid, name in found.items() if name.startswith("apache2") and pid != root]
    workers = [pid for pid, name in found.items() if name.startswith("python")]
    if len(children) == len(workers) == 1:
        return {"httpd": children[0], "worker": workers[0]}
    return None


def switches(pid):
    """Voluntary context switches of all threads of a process so far."""
    count = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="latin-1") as status:
            count += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read(), re.M).group(1))
    return count


def sleeps(client, pids):
    """{side: voluntary context switches a request} of the best batch of each side."""
    best = {}
    for _ in range(BATCHES_UNTRACED):
        before = {side: switches(pid) for side, pid in pids.items()}
        client.batch()
        for side, pid in pids.items():
            spent = (switches(pid) - before[side]) / BATCH
            best[side] = min(best.get(side, spent), spent)
    return best


class Traced:
    """strace on one process, until the end of the block."""

    def __init__(self, pid, path):
        self.pid, self.path, self.said = pid, path, path.with_suffix(".said")

    def __enter__(self):
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                ["strace", "-f", "-ttt", "-s", "0", "-o", str(self.path), "-p", str(self.pid)],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )
        try:
            poll(self.attached, WATCHDOG, "strace to attach")
        except BaseException:
            self.__exit__()
            raise
        return self

    def attached(self):
        """Whether strace traces every thread: it says so when it does."""
        said = self.said.read_text(errors="replace")
        if self.process.poll() is not None:
            raise SystemExit(f"budget: strace ended:\n{said}")
        return re.search(rf"Process {self.pid} attached", said)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def calls(self, batches):
        """A Counter of system calls a request for each batch."""
        found = [Counter() for _ in batches]
        with open(self.path, encoding="latin-1") as lines:
            for line in lines:
                # A call that was interrupted by another thread's is shown in two lines; only the first has the bracket.
                call = CALL.match(line)
                if not call:
                    continue
                moment = float(call.group(2))
                for (began, ended), counts in zip(batches, found):
                    if began <= moment <= ended:
                        counts[named(call.group(3), call.group(4))] += 1 / BATCH
        return found


def named(call, futex):
    """A system call's name in the budget: futex calls between processes, which are ours, are waits and wakes."""
    if call != "futex" or not futex:
        return call
    if "_PRIVATE" in futex:
        return "futex, private"
    return "wake" if futex.startswith("WAKE") else "wait"


def calls(client, pids, folder):
    """{side: {system call: times a request}}: for each call its best batch."""
    with Traced(pids["httpd"], folder / "httpd.strace") as httpd:
        with Traced(pids["worker"], folder / "worker.strace") as worker:
            client.batch()
            batches = [client.batch() for _ in range(BATCHES)]
    found = {}
    for side, traced in (("httpd", httpd), ("worker", worker)):
        counts = traced.calls(batches)
        names = {name for count in counts for name in count}
        found[side] = {name: min(count[name] for count in counts) for name in names}
    return found


def measure():
    """({side: {system call: times a request}}, {side: voluntary context switches a request})"""
    httpd = start()
    try:
        client = Client(httpd.port)
        client.get()
        pids = poll(lambda: sides(httpd), WATCHDOG, "one child and one worker")
        client.batch()
        return calls(client, pids, httpd.prefix), sleeps(client, pids)
    finally:
        httpd.stop()
        httpd.remove()
