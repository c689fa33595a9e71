"""Waiting for something to be so, never for a time to pass."""

import os

from devlib.httpd import poll

# Seconds; a very slow machine may need more.
WATCHDOG = 180


def wait_until(condition, what=None, watchdog=WATCHDOG):
    """Polls until `condition()` is true and returns what it gave. The watchdog is no measure of anything: it is there
    to end a test that would never end."""
    return poll(condition, watchdog, what or getattr(condition, "__name__", "a condition"))


def settled(value, polls=100, what="a value to settle"):
    """Waits until `value()` stays the same over many polls and returns it."""
    seen = [object(), 0]

    def same():
        now = value()
        seen[:] = [now, seen[1] + 1 if now == seen[0] else 0]
        return seen[1] >= polls

    wait_until(same, what)
    return seen[0]
