"""The work of scripts/bench: wrk against our module, mod_python and mod_wsgi, in interleaved rounds."""

import argparse
import datetime
import itertools
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

from . import artefacts
from .httpd import DEBIAN_MOD_PYTHON, Httpd

CONNECTIONS = (1, 8, 64)
POST_BYTES = 1 << 20
LARGE_BYTES = 100 * 1024

HANDLERS = f"""
from mod_python import apache

PAGE = b"x" * {LARGE_BYTES}

def hello(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\\n")
    return apache.OK

def large(req):
    req.content_type = "text/plain"
    req.write(PAGE)
    return apache.OK

def post(req):
    count = 0
    while block := req.read(65536):
        count += len(block)
    req.content_type = "text/plain"
    req.write(str(count))
    return apache.OK
"""

WSGI = f"""
PAGE = b"x" * {LARGE_BYTES}

def application(environ, start_response):
    name = environ["PATH_INFO"]
    if name.endswith("/hello"):
        body = b"Hello, world!\\n"
    elif name.endswith("/large"):
        body = PAGE
    else:
        count, source = 0, environ["wsgi.input"]
        while block := source.read(65536):
            count += len(block)
        body = str(count).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

# What wrk is to send, and the body that must come back.
WORKLOADS = {
    "hello": ("hello, 14 bytes", "/hello", b"Hello, world!\n"),
    "large": ("100 KiB answer", "/large", b"x" * LARGE_BYTES),
    "post": ("1 MiB POST", "/post", str(POST_BYTES).encode()),
}

POST_LUA = f"""
wrk.method = "POST"
wrk.body = string.rep("x", {POST_BYTES})
wrk.headers["Content-Type"] = "application/octet-stream"
"""

# A thread for every connection in each child: the MPM closes kept-alive connections when it runs short of threads.
HTTPD = f"""
StartServers 2
ServerLimit 2
ThreadsPerChild {max(CONNECTIONS)}
MaxRequestWorkers {2 * max(CONNECTIONS)}
MinSpareThreads {max(CONNECTIONS)}
MaxSpareThreads {2 * max(CONNECTIONS)}
KeepAlive On
MaxKeepAliveRequests 0
"""

HANDLER_SITE = """
DocumentRoot "{folder}"
<Directory "{folder}">
    Require all granted
    SetHandler mod_python
</Directory>
<Location "/hello">
    PythonHandler benchmark::hello
</Location>
<Location "/large">
    PythonHandler benchmark::large
</Location>
<Location "/post">
    PythonHandler benchmark::post
</Location>
<Location "/">
    Require all granted
    SetHandler mod_python
    PythonPath "['{folder}'] + sys.path"
</Location>
"""

WSGI_SITE = """
LoadModule wsgi_module /usr/lib/apache2/modules/mod_wsgi.so
WSGIScriptAlias / "{folder}/benchmark.wsgi"
WSGIApplicationGroup %{{GLOBAL}}
<Directory "{folder}">
    Require all granted
</Directory>
"""

WSGI_DAEMON = """
WSGISocketPrefix {prefix}/wsgi
WSGIDaemonProcess bench processes=1 threads=15
WSGIProcessGroup bench
"""

REFERENCE = "mod_wsgi daemon 1x15"


def contenders():
    """The servers, not started."""
    made = {}
    for name, module in (("vivarium", None), ("mod_python", DEBIAN_MOD_PYTHON)):
        httpd = Httpd("event", name="bench", loglevel="warn")
        httpd.module = module or artefacts.module(stage=httpd.prefix / "build")
        made[name] = httpd
    for name, extra in (("mod_wsgi embedded", ""), (REFERENCE, WSGI_DAEMON)):
        httpd = Httpd("event", name="bench", loglevel="warn")
        httpd.add(WSGI_SITE.format(folder=httpd.prefix / "app") + extra.format(prefix=httpd.prefix))
        made[name] = httpd
    for httpd in made.values():
        folder = httpd.prefix / "app"
        folder.mkdir()
        (folder / "benchmark.py").write_text(HANDLERS)
        (folder / "benchmark.wsgi").write_text(WSGI)
        if httpd.module:
            httpd.add(HANDLER_SITE.format(folder=folder))
        httpd.add(HTTPD)
    return made


def check(httpd, workload):
    """The answer must be right before it is timed."""
    _, target, expected = WORKLOADS[workload]
    command = ["curl", "-sS", "--max-time", "30"]
    if workload == "post":
        command += ["--data-binary", "@-", "-H", "Content-Type: application/octet-stream", "-H", "Expect:"]
    done = subprocess.run(
        [*command, httpd.url + target], input=b"x" * POST_BYTES if workload == "post" else None,
        capture_output=True, check=True,
    )
    if done.stdout != expected:
        raise SystemExit(f"bench: {httpd.url}{target} answered {done.stdout[:80]!r}")


def wrk(httpd, workload, connections, seconds, lua):
    """One run: (requests per second, answers that were no success, connections that broke)."""
    command = ["wrk", "-t", "1" if connections == 1 else "2", "-c", str(connections), "-d", f"{seconds}s"]
    if workload == "post":
        command += ["-s", str(lua)]
    out = subprocess.run(
        [*command, httpd.url + WORKLOADS[workload][1]], capture_output=True, text=True, check=True
    ).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    bad = [int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out)]
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    return rate, sum(bad), sum(map(int, errors.groups())) if errors else 0


def measure(servers, rounds, seconds, lua):
    """{(workload, connections, contender): [(rate, failed, broken), ...]}"""
    found = {}
    cells = list(itertools.product(WORKLOADS, CONNECTIONS))
    for number in range(rounds):
        for workload, connections in cells:
            # The order turns, so that no contender always follows the same one.
            names = list(servers)
            names = names[number % len(names):] + names[: number % len(names)]
            for name in names:
                run = wrk(servers[name], workload, connections, seconds, lua)
                found.setdefault((workload, connections, name), []).append(run)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def figure(value):
    """A rate with three digits that mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def tables(found, names):
    """The tables as text."""
    lines = []
    for workload, (title, _, _) in WORKLOADS.items():
        heads = [f"c={c} req/s (min-max)" for c in CONNECTIONS]
        lines += [
            f"### {title}", "",
            "| | " + " | ".join(heads) + " | ratio to mod_wsgi daemon, c=" + "/".join(map(str, CONNECTIONS)) + " |",
            "|---" * (len(CONNECTIONS) + 2) + "|",
        ]
        for name in names:
            cells, ratios = [], []
            for connections in CONNECTIONS:
                rates, failed, broken = zip(*found[workload, connections, name])
                median = statistics.median(rates)
                cells.append(f"{figure(median)} ({figure(min(rates))}-{figure(max(rates))})"
                             + (f", {sum(failed)} failed" if sum(failed) else "")
                             + (f", {sum(broken)} broken off" if sum(broken) else ""))
                reference = statistics.median(run[0] for run in found[workload, connections, REFERENCE])
                ratios.append(f"{median / reference:.2f}")
            lines.append(f"| {name} | " + " | ".join(cells) + " | " + " / ".join(ratios) + " |")
        lines.append("")
    return "\n".join(lines)


def conditions(rounds, seconds):
    """What was measured, where."""
    version = subprocess.run(["/usr/sbin/apache2", "-v"], capture_output=True, text=True, check=True).stdout
    httpd = re.search(r"Apache/(\S+)", version).group(1)
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, httpd {httpd}, Python "
        f"{platform.python_version()}, wrk with keep-alive on the same machine; {rounds} rounds of {seconds} s a cell."
    )


def write(text):
    """Puts the tables into the page."""
    page = artefacts.REPO / "docs/performance.md"
    begin, end = "<!-- bench: begin -->\n", "<!-- bench: end -->"
    whole = page.read_text()
    before, rest = whole.split(begin, 1)
    page.write_text(before + begin + text + rest[rest.index(end):])


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="for one cell of one round")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    args = parser.parse_args()
    rounds, seconds = (1, 1) if args.quick else (args.rounds, args.seconds)

    servers = contenders()
    try:
        for httpd in servers.values():
            httpd.start()
        for httpd, workload in itertools.product(servers.values(), WORKLOADS):
            check(httpd, workload)
        lua = Path(servers["vivarium"].prefix / "post.lua")
        lua.write_text(POST_LUA)
        # Once for nothing: every process and thread that will be needed is there.
        for httpd, workload in itertools.product(servers.values(), WORKLOADS):
            wrk(httpd, workload, max(CONNECTIONS), 1, lua)
        found = measure(servers, rounds, seconds, lua)
    finally:
        for httpd in servers.values():
            httpd.stop()
            httpd.remove()
    text = conditions(rounds, seconds) + "\n\n" + tables(found, servers)
    print(text)
    if args.write:
        write(text)


if __name__ == "__main__":
    os.umask(0o022)
    main()
