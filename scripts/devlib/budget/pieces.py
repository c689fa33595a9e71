"""Instructions of the pieces in benches/, by callgrind."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from .. import artefacts

PROGRAM = artefacts.REPO / "target/release/pieces"
TIMES = 1000
#: libc's ways of copying and filling memory that not every processor has, and that valgrind counts byte by byte.
TUNABLES = "glibc.cpu.hwcaps=-ERMS,-FSRM,-AVX2,-AVX512F,-AVX512VL"


def names():
    """The names of all pieces."""
    return subprocess.run([PROGRAM], check=True, capture_output=True, text=True).stdout.split()


def total(name, times):
    """Instructions of a whole run, start and end of the program included."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(PROGRAM), name, str(times)],
        check=False, capture_output=True, text=True, env={**os.environ, "GLIBC_TUNABLES": TUNABLES},
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"budget: valgrind could not run {PROGRAM} {name}:\n{done.stderr[-2000:]}")
    return int(found.group(1))


def count(name):
    """Instructions of one repetition: what `TIMES` more of them cost."""
    return (total(name, 2 * TIMES) - total(name, TIMES)) / TIMES


def measure(wanted):
    """{piece: instructions}"""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(wanted, pool.map(count, wanted)))
