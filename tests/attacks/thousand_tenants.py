#!/usr/bin/python3
"""What declared tenants cost that nobody asks for, and what the first request to one takes.

    sudo tests/attacks/thousand_tenants.py [--tenants N] [--wake N]

Starts httpd with 1, N/10 and N tenants, and with N places without tenants, and prints the start's time and the memory of supervisor and
httpd's child. Then it wakes some of the N tenants, one after the other, prints what the first requests take beside what Python's own
start takes, lets all fall asleep and prints the memory again.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPO / "tests" / "e2e"), str(REPO / "scripts")]

from harness.wait import wait_until  # noqa: E402
from many_site import ManySite  # noqa: E402

#: What a worker imports before it is ready, without serving.
IMPORTS = """
import sys
sys.path[:0] = [{package!r}]
import vivarium.worker as w
w.load_extension({extension!r})
from mod_python import _dispatch
"""


def timed(call):
    """Milliseconds, and what it gave."""
    began = time.perf_counter()
    result = call()
    return (time.perf_counter() - began) * 1000, result


def python(*arguments):
    """Milliseconds of a Python of its own."""
    def run():
        subprocess.run(["/usr/bin/python3", *arguments], check=True, env={"PATH": "/usr/bin:/bin"}, cwd="/")
    return timed(run)[0]


def started(count, **more):
    """A started site; prints what it costs."""
    site = ManySite(count, **more)
    took, _ = timed(site.server.start)
    wait_until(lambda: site.server.supervisor() and site.server.httpd_children(), "its processes")
    site.server.get("/none")
    return site, took


def show(what, took, memory):
    """A line."""
    print(f"{what:<34} start {took:7.0f} ms   supervisor {memory[0]:6} KiB   httpd child {memory[1]:6} KiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--wake", type=int, default=100)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("only root can make the tenants' users")
    most = arguments.tenants
    with tempfile.TemporaryDirectory(prefix="vivarium-stage.", dir="/var/tmp") as stage:
        os.chmod(stage, 0o755)
        stage = Path(stage)
        for count, tenants in ((1, True), (most // 10, True), (most, False)):
            site, took = started(count, tenants=tenants, stage=stage)
            try:
                show(f"{count} tenants" if tenants else f"{count} places, no tenant", took, site.memory())
            finally:
                site.finish()
        site, took = started(most, stage=stage, idle_s=10, pools=most)
        try:
            show(f"{most} tenants", took, site.memory())
            site.ask(0)
            one = site.memory()
            print(f"with 1 awake: supervisor {one[0]} KiB, httpd child {one[1]} KiB")
            first, again, bare, imports = [], [], [], []
            package, extension = REPO / "interp-daemon/python", REPO / "target/release/lib_vivarium.so"
            program = IMPORTS.format(package=str(package), extension=str(extension))
            for n in range(1, 1 + arguments.wake):
                first.append(timed(lambda n=n: site.ask(n))[0])
                again.append(timed(lambda n=n: site.ask(n))[0])
                # In turns: the machine may be busier now than later.
                bare.append(python("-I", "-c", "pass"))
                imports.append(python("-s", "-c", program))
            awake = site.memory()
            print(f"after {arguments.wake} woken: supervisor {awake[0]} KiB, httpd child {awake[1]} KiB, {len(site.server.workers())} workers")
            for what, times in (("first request", first), ("second request", again), ("python3 -I -c pass", bare),
                                ("python3 with the worker's imports", imports)):
                print(f"{what:<34} median {statistics.median(times):6.1f} ms, from {min(times):.1f} to {max(times):.1f} ms")
            wait_until(lambda: not site.server.workers(), "all tenants to sleep")
            asleep = site.memory()
            print(f"all asleep: supervisor {asleep[0]} KiB, httpd child {asleep[1]} KiB, {len(site.groups())} control groups")
        finally:
            site.finish()


if __name__ == "__main__":
    main()
