"""How much processes grew, by the kernel's own high-water marks."""

from . import procs


class Growth:
    """Remembers the size of processes; `worst()` is the largest growth since, at its peak."""

    def __init__(self, pids):
        self.before = {pid: procs.kib(pid, "VmRSS") for pid in pids}

    def worst(self):
        """(KiB, pid, command) of the process whose peak is furthest above its size at the start."""
        grown = [
            (procs.kib(pid, "VmHWM") - before, pid, " ".join(procs.cmdline(pid)))
            for pid, before in self.before.items()
            if procs.alive(pid)
        ]
        return max(grown)
