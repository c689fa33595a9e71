"""Peers that speak the control sockets' language by hand: a supervisor of another version, and the like.

Packets are enums in bincode's standard encoding (protocol/src/control.rs): the variant's number, then its fields;
whole numbers below 251 are one byte, larger ones have a marker for 2, 4 or 8 bytes; text has its length in front.
"""

import os
import re
import socket
import threading

from devlib.artefacts import REPO

VERSION = int(re.search(r"PROTOCOL_VERSION: u32 = (\d+);", (REPO / "protocol/src/lib.rs").read_text()).group(1))
HELLO = 0
WELCOME, REFUSE = 0, 1


def number(value):
    """A whole number."""
    if value < 251:
        return bytes([value])
    for marker, size in ((251, 2), (252, 4), (253, 8)):
        if value < 1 << 8 * size:
            return bytes([marker]) + value.to_bytes(size, "little")
    raise ValueError(value)


def text(value):
    """A string."""
    return number(len(value.encode())) + value.encode()


def read_number(packet):
    """The first number of a packet, and the rest."""
    size = {251: 2, 252: 4, 253: 8}.get(packet[0], 0)
    if not size:
        return packet[0], packet[1:]
    return int.from_bytes(packet[1 : 1 + size], "little"), packet[1 + size :]


def refuse(version, reason):
    """The supervisor's `Refuse`."""
    return number(REFUSE) + number(version) + text(reason)


def welcome(version):
    """The supervisor's `Welcome`."""
    return number(WELCOME) + number(version)


class Supervisor:
    """Listens where a supervisor would and answers every `Hello` with the given packet; notes the versions it heard."""

    def __init__(self, path, answer, close=True):
        self.answer = answer
        self.close_after = close
        self.heard = []
        self.kept = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(path))
        os.chmod(path, 0o666)
        self.socket.listen(16)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            packet = peer.recv(65536)
            if packet and packet[0] == HELLO:
                self.heard.append(read_number(packet[1:])[0])
                try:
                    peer.sendall(self.answer)
                except OSError:
                    pass
            if self.close_after:
                peer.close()
            else:
                self.kept.append(peer)

    def stop(self):
        """Ends it."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(60)
        for peer in self.kept:
            peer.close()
