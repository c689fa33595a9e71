#!/usr/bin/python3
"""One tenant hangs with 200 clients waiting: what its neighbour's answers take, beside what they take alone.

    sudo tests/attacks/noisy_neighbour.py [--rounds N] [--requests N] [--clients N] [--unprotected]

Rounds with and without the noise alternate in one run. Prints median and p99 of each, and their ratios. With --unprotected
the noise is made in the built-in tenant, which has no bulkhead: then the neighbour is not answered at all, and the script
says so.
"""

import argparse
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
    """Clients of a tenant that hangs: who is refused comes back at once, as its `Retry-After` says."""

    def __init__(self, site, host, clients):
        self.site, self.host = site, host
        self.stop = threading.Event()
        self.refused = 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self):
        """One client."""
        target = f"/page?do=hang&root={self.site.roots[self.host]}&value=noise"
        while not self.stop.is_set():
            try:
                with Connection(self.site.server.port, timeout=600) as connection:
                    answer = connection.request("GET", target, [("Connection", "close")], host=self.host)
                if answer.status == 503:
                    self.refused += 1
                    self.stop.wait(int(answer.header("Retry-After")))
            except (Truncated, OSError):
                self.stop.wait(1)

    def hanging(self):
        """How many handlers hang."""
        return hung(self.site)

    def end(self):
        """Lets all go."""
        self.stop.set()
        (self.site.roots[self.host] / "release").touch()
        for thread in self.threads:
            thread.join(60)
        (self.site.roots[self.host] / "release").unlink()


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
                while not (noise.hanging() > before and (noise.refused or arguments.unprotected)) and time.monotonic() < limit:
                    time.sleep(0.1)
                time.sleep(1)
                hang = noise.hanging()
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
