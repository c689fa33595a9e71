"""Where the time of a request goes, by perf: `scripts/bench --where`. Needs Debian's linux-perf and the right to use it.

Two runs a contender and number of connections, both under a bounded load of wrk:

* `perf stat` on the tracepoints of system calls, on httpd's processes and on the others separately. Unlike strace, which
  stops the caller at each system call, this leaves polling and sleeping as they are.
* `perf record` of the CPU clock with call chains. Each sample is put into the first area whose rule fits, from the
  innermost frame outwards. A sample is CPU time: a thread that sleeps has none.

The load runs with real-time priority, as whoever else uses the machine would otherwise show as slow answers.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from . import measure
from .areas import area
from .contenders import MAKERS, wait_until_right
from .works import WORKS

FREQUENCY = 4000
SECONDS = 3
CONNECTIONS = (1, 64)
WHO = ("vivarium", "mod_python", "c")

#: System calls that are shown by name; all others are in the total.
CALLS = (
    "read", "write", "writev", "readv", "recvfrom", "sendto", "recvmsg", "sendmsg", "sendfile64", "shutdown", "close",
    "accept4", "epoll_wait", "epoll_ctl", "poll", "ppoll", "futex", "sched_yield", "nanosleep", "clock_nanosleep",
    "clock_gettime", "newstat", "newfstat", "newlstat", "newfstatat", "statx", "openat", "fcntl", "setsockopt",
    "getsockname", "mmap", "munmap", "madvise", "brk", "getpid", "gettid", "times", "kill", "tgkill", "rt_sigprocmask",
)


def load(url, connections):
    """wrk's command for a bounded time."""
    real_time = ["chrt", "-r", "1"] if shutil.which("chrt") else []
    return [*real_time, "wrk", "-t", "1", "-c", str(connections), "-d", f"{SECONDS}s", url]


def requests_of(output):
    """How many requests wrk made."""
    return int(re.search(r"(\d+) requests in", output).group(1))


def run(command):
    """Runs a command that must work; returns what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command[:4])} ... failed:\n{done.stderr}{done.stdout}")
    return done.stdout


def sides(contender):
    """({pid} of httpd, {pid} of everybody else)."""
    found = measure.processes(contender.roots())
    httpd = {pid for pid, name in found.items() if name.startswith("apache2")}
    return httpd, set(found) - httpd


def counted(contender, url, connections):
    """System calls and context switches a request: [Counter of httpd, Counter of the others]."""
    events = ",".join(["raw_syscalls:sys_enter", "context-switches", *(f"syscalls:sys_enter_{c}" for c in CALLS)])
    with tempfile.TemporaryDirectory() as folder:
        command, files = load(url, connections), []
        for number, pids in enumerate(sides(contender)):
            path = Path(folder) / str(number)
            files.append(path)
            if pids:
                pids = ",".join(map(str, pids))
                command = ["perf", "stat", "-x", ";", "-e", events, "-p", pids, "-o", str(path), "--", *command]
        total = requests_of(run(command))
        found = []
        for path in files:
            counts = Counter()
            for line in path.read_text().splitlines() if path.exists() else ():
                fields = line.split(";")
                if len(fields) > 2 and fields[0].isdigit():
                    name = fields[2].replace("syscalls:sys_enter_", "").replace("raw_syscalls:sys_enter", "all")
                    counts[name] = int(fields[0]) / total
            found.append(counts)
    return found


def frames_of(text):
    """The samples of `perf script`: (command's name, [(symbol, file), ...] from the innermost frame outwards)."""
    for block in text.split("\n\n"):
        head, *lines = block.strip("\n").split("\n")
        frames = []
        for line in lines:
            fits = re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line)
            if fits:
                symbol, place = fits.groups()
                # The frames that were inlined into one come before it and name no file.
                frames.append((re.sub(r"\+0x[0-9a-f]+$", "", symbol), place))
        if frames:
            yield head.split()[0], with_files(frames)


def with_files(frames):
    """Gives inlined frames the file of the function that they were inlined into."""
    known = []
    place = ""
    for symbol, file in frames:
        place = place if file == "inlined" else file
        known.append((symbol, place))
    return known


def sampled(contender, url, connections, keep=None):
    """{side: Counter of microseconds a request by area}; `keep` is a folder for the samples themselves."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        pids = ",".join(str(pid) for part in sides(contender) for pid in part)
        total = requests_of(run([
            "perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "--call-graph", "dwarf,8192", "-p", pids,
            "-o", str(data), "--", *load(url, connections),
        ]))
        text = run(["perf", "script", "-i", str(data), "-F", "comm,pid,tid,ip,sym,dso"])
    if keep:
        (keep / f"{contender.name.replace(' ', '-')}.{connections}.txt").write_text(text)
    found = {"httpd": Counter(), "Python": Counter()}
    for comm, frames in frames_of(text):
        side = "httpd" if comm.startswith("apache2") else "Python"
        found[side][area(side, frames)] += 1e6 / FREQUENCY / total
    return found


def table(head, rows, columns):
    """A table in Markdown. `rows` is {row: {column: text}}."""
    lines = ["| " + " | ".join([head, *columns]) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, cells in rows.items():
        lines.append("| " + " | ".join([row, *(cells.get(c, "-") for c in columns)]) + " |")
    return "\n".join(lines)


def calls_table(found):
    """System calls a request. `found` is {column: [Counter of httpd, Counter of the others]}."""
    rows = {}
    for side, title in enumerate(("httpd", "Python")):
        counts = {column: parts[side] for column, parts in found.items()}
        names = sorted({n for c in counts.values() for n, v in c.items() if v >= 0.01} - {"all", "context-switches"},
                       key=lambda n: -max(c[n] for c in counts.values()))
        for name in [*names, "all", "context-switches"]:
            label = {"all": "**all system calls**", "context-switches": "context switches"}.get(name, f"`{name}`")
            rows[f"{title}: {label}"] = {k: f"{c[name]:.2f}" for k, c in counts.items() if c}
    return table("a request", rows, list(found))


def areas_table(found):
    """CPU time a request by area. `found` is {column: {side: Counter}}."""
    rows = {}
    for side in ("httpd", "Python"):
        counts = {column: parts[side] for column, parts in found.items() if parts[side]}
        weight = Counter()
        for count in counts.values():
            weight.update(count)
        for name, _ in weight.most_common():
            rows[f"{side}: {name}"] = {
                k: f"{c[name]:.1f} ({100 * c[name] / sum(c.values()):.0f} %)" for k, c in counts.items() if c[name]
            }
        rows[f"**{side}, all**"] = {k: f"**{sum(c.values()):.1f}**" for k, c in counts.items()}
    return table("µs of CPU time a request", rows, list(found))


def where(names=WHO, connections=CONNECTIONS, name="hello", keep=None):
    """Measures all; returns the text for the page."""
    if not shutil.which("perf"):
        raise SystemExit("bench: --where needs perf: apt-get install linux-perf")
    work, calls, areas = WORKS[name], {}, {}
    for who in names:
        contender = MAKERS[who]()
        try:
            contender.start()
            wait_until_right(contender, {name: work})
            url = contender.url(work) + work.target
            run(load(url, 64))
            for number in connections:
                column = f"{contender.name}, {number}"
                calls[column] = counted(contender, url, number)
                areas[column] = sampled(contender, url, number, keep)
                print(f"where: {column}", file=sys.stderr, flush=True)
        finally:
            contender.stop()
    return (
        f"{work.title}, at {' and '.join(map(str, connections))} connections with keep-alive, {SECONDS} s a cell.\n\n"
        + calls_table(calls) + "\n\n" + areas_table(areas) + "\n"
    )
