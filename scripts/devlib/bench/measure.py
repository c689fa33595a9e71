"""One run of one work against one contender, and what it cost."""

import dataclasses
import os
import re
import subprocess

TICK = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Run:
    """What came of one run; rates in requests a second, CPU times in microseconds a request."""

    rate: float
    failed: int
    broken: int
    p99: float
    httpd: float
    python: float
    switches: float


def processes(roots):
    """All descendants of `roots` and themselves, as {pid: name}."""
    children, names = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="latin-1") as stat:
                    text = stat.read()
            except OSError:
                continue
            name, rest = text[text.index("(") + 1:].rsplit(")", 1)
            names[int(entry)] = name
            children.setdefault(int(rest.split()[1]), []).append(int(entry))
    found, queue = {}, list(roots)
    while queue:
        pid = queue.pop()
        if pid in names and pid not in found:
            found[pid] = names[pid]
            queue += children.get(pid, [])
    return found


def spent(roots):
    """(CPU seconds of httpd, of everything else, voluntary context switches) so far."""
    httpd = python = 0.0
    switches = 0
    for pid, name in processes(roots).items():
        try:
            with open(f"/proc/{pid}/stat", encoding="latin-1") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/status", encoding="latin-1") as status:
                    switches += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read(), re.M).group(1))
        except (OSError, AttributeError):
            continue
        seconds = (int(fields[11]) + int(fields[12])) / TICK
        if name.startswith("apache2"):
            httpd += seconds
        else:
            python += seconds
    return httpd, python, switches


def _wrk(url, work, connections, seconds, lua):
    command = ["wrk", "--latency", "-t", "1" if connections == 1 else "2", "-c", str(connections), "-d", f"{seconds}s"]
    if lua:
        command += ["-s", str(lua)]
    out = subprocess.run([*command, url + work.target], capture_output=True, text=True, check=True).stdout
    total = int(re.search(r"(\d+) requests in", out).group(1))
    bad = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}[p99.group(2)] if p99 else 0
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    return rate, total, bad, sum(map(int, errors.groups())) if errors else 0, float(p99.group(1)) * scale if p99 else 0


def _h2load(url, work, connections, seconds):
    out = subprocess.run(
        ["h2load", "-c", str(connections), "-m", "8", "-t", "1", "-D", str(seconds), url + work.target],
        capture_output=True, text=True, check=True,
    ).stdout
    rate = float(re.search(r"([\d.]+) req/s", out).group(1))
    total, bad = map(int, re.search(r"requests: \d+ total.* (\d+) succeeded, (\d+) failed", out).groups())
    return rate, total, bad, 0, 0.0


def run(contender, work, connections, seconds, lua):
    """Does a work for some seconds."""
    before = spent(contender.roots())
    url = contender.url(work)
    if work.scheme == "h2":
        rate, total, bad, broken, p99 = _h2load(url, work, connections, seconds)
    else:
        rate, total, bad, broken, p99 = _wrk(url, work, connections, seconds, lua)
    after = spent(contender.roots())
    httpd, python, switches = (b - a for a, b in zip(before, after))
    total = max(total, 1)
    return Run(rate, bad, broken, p99, httpd * 1e6 / total, python * 1e6 / total, switches / total)
