"""Processes as /proc shows them: who is whose child, what they hold, how large they are."""

import os
import re
import signal
from pathlib import Path


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name, or None if there is no such process (a zombie counts as none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields


def alive(pid):
    """Whether the process runs."""
    return stat_fields(pid) is not None


def start_time(pid):
    """Clock ticks since boot: with the pid it names a process for ever."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def _parents():
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_fields(entry)
            if fields:
                table[int(entry)] = int(fields[1])
    return table


def children(pid):
    """Direct children that run."""
    return sorted(child for child, parent in _parents().items() if parent == pid)


def descendants(pid):
    """All processes below one."""
    table = _parents()
    found, fresh = [], {pid}
    while fresh:
        fresh = {child for child, parent in table.items() if parent in fresh}
        found += fresh
    return sorted(found)


def cmdline(pid):
    """The command line as a list; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def uid(pid):
    """The effective user."""
    return int(re.search(r"^Uid:\s+\d+\s+(\d+)", status(pid), re.M).group(1))


def status(pid):
    """The text of /proc/PID/status."""
    return Path(f"/proc/{pid}/status").read_text()


def kib(pid, name):
    """A size line of /proc/PID/status (`VmRSS`, `VmHWM`, ...), in KiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", status(pid), re.M)
    return int(found.group(1)) if found else 0


def maps(pid):
    """The text of /proc/PID/maps."""
    return Path(f"/proc/{pid}/maps").read_text()


def map_count(pid, pattern=""):
    """How many mappings match."""
    return sum(1 for line in maps(pid).splitlines() if re.search(pattern, line))


def fds(pid):
    """What the descriptors point at, by number."""
    found = {}
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
        except FileNotFoundError:
            continue
    return found


def fd_count(pid):
    """How many descriptors are open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def kill(pid, number=signal.SIGKILL):
    """Sends a signal; whether the process was still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def reap(pid):
    """Collects the exit of a child that was left to us (see `adopt_orphans`)."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
