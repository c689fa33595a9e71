#!/usr/bin/python3
"""One tenant hangs with 200 clients waiting: what its neighbour's answers take, beside what they take alone.

    sudo tests/attacks/noisy_neighbour.py [--rounds N] [--requests N] [--clients N] [--unprotected]

Rounds with and without the noise alternate in one run. Prints median and p99 of each, and their ratios. With --unprotected
the noise is made in the built-in tenant, which has no bulkhead: then the neighbour is not answered at all, and the script
says so.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPO / "tests" / "e2e"), str(REPO / "scripts")]

from harness.client import Connection, Truncated  # noqa: E402
from tenant_site import TenantSite  # noqa: E402

#: As Debian ships the event MPM.
MPM = """
StartServers 2
ThreadsPerChild 25
MaxRequestWorkers 150
MinSpareThreads 25
MaxSpareThreads 75
"""


class Noise:
    """Clients of a tenant that hangs, in a process of their own: who is refused comes back as `Retry-After` says."""

    def __init__(self, site, host, clients):
        self.root = site.roots[host]
        self.port, self.host = site.server.port, host
        self.stopped = multiprocessing.Event()
        self.count = multiprocessing.Value("l", 0)
        self.process = multiprocessing.Process(target=self.run_all, args=(clients,), daemon=True)
        self.process.start()

    @property
    def refused(self):
        """How many requests got 503."""
        return self.count.value

    def run_all(self, clients):
        """The process."""
        threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        self.stopped.wait()
        for thread in threads:
            thread.join(60)

    def run(self):
        """One client."""
        target = f"/page?do=hang&root={self.root}&value=noise&pause=1"
        while not self.stopped.is_set():
            try:
                with Connection(self.port, timeout=600) as connection:
                    answer = connection.request("GET", target, [("Connection", "close")], host=self.host)
                if answer.status == 503:
                    with self.count.get_lock():
                        self.count.value += 1
                    time.sleep(int(answer.header("Retry-After")))
            except (Truncated, OSError):
                time.sleep(1)

    def end(self):
        """Lets all go."""
        self.stopped.set()
        (self.root / "release").touch()
        self.process.join(120)
        (self.root / "release").unlink()


def hung(site):
    """How many handlers have begun to hang so far."""
    return len(site.server.log_lines("hanging noise"))


def measure(site, requests, timeout=600):
    """Seconds of each request of a keep-alive client of the neighbour."""
    took = []
    with Connection(site.server.port, timeout=timeout) as connection:
        for _ in range(requests):
            began = time.perf_counter()
            answer = connection.request("GET", "/page", host="open")
            took.append(time.perf_counter() - began)
            assert answer.status == 200, answer
            if (answer.header("Connection") or "").lower() == "close":
                connection.socket.close()
                connection.__init__(site.server.port, timeout=timeout)
    return took


def shown(took):
    """Median and p99 in milliseconds."""
    took = sorted(took)
    return took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--unprotected", action="store_true")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("only root can make the tenants' users")
    with tempfile.TemporaryDirectory(prefix="vivarium-stage.", dir="/var/tmp") as stage:
        os.chmod(stage, 0o755)
        site = TenantSite(stage=Path(stage), base=MPM, phases=False, loglevel="warn")
        noisy = "default" if arguments.unprotected else "closed"
        try:
            site.server.start()
            for host in ("open", noisy):
                site.get(host, "/page")
            measure(site, 500)
            alone, beside = [], []
            for n in range(arguments.rounds):
                alone += measure(site, arguments.requests)
                before, limit = hung(site), time.monotonic() + 60
                noise = Noise(site, noisy, arguments.clients)
                while not (hung(site) > before and (noise.refused or arguments.unprotected)) and time.monotonic() < limit:
                    time.sleep(0.1)
                time.sleep(1)
                hang = hung(site)
                try:
                    beside += measure(site, arguments.requests, timeout=20 if arguments.unprotected else 600)
                except TimeoutError:
                    print("the neighbour is not answered any more")
                    noise.end()
                    return
                refused = noise.refused
                noise.end()
                print(f"round {n + 1}: {hang - before} handlers hang, {refused} requests were refused")
            (median, p99), (median_beside, p99_beside) = shown(alone), shown(beside)
            print(f"alone   median {median:.3f} ms   p99 {p99:.3f} ms   ({len(alone)} requests)")
            print(f"beside  median {median_beside:.3f} ms   p99 {p99_beside:.3f} ms   ({len(beside)} requests)")
            print(f"ratio   median {median_beside / median:.2f}      p99 {p99_beside / p99:.2f}")
        finally:
            for root in site.roots.values():
                (root / "release").touch()
            site.finish()


if __name__ == "__main__":
    main()
