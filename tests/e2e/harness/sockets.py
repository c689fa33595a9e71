"""Sockets as /proc shows them."""

from pathlib import Path

LISTEN = "0A"


def listening_inode(port):
    """The inode of the TCP socket that listens on the port of 127.0.0.1."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[3] == LISTEN:
            return int(fields[9])
    raise LookupError(f"nobody listens on port {port}")
