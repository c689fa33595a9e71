#!/usr/bin/python3
"""Stands in for a worker's Python in the tests: speaks the control socket and says on stdout what it sees.

FAKE in the environment chooses what it does; FAKE_DIR is a directory that it may use.
"""

import array
import os
import resource
import signal
import socket
import sys

# The tests put the number in when they copy this file.
PROTOCOL_VERSION = 0
FAKE = os.environ.get("FAKE", "")
DIR = os.environ.get("FAKE_DIR", "/nonexistent")


def say(text):
    try:
        os.write(1, (text + "\n").encode())
    except BrokenPipeError:
        pass  # The supervisor is gone; that will be read from the socket.


def number(value):
    """A bincode varint."""
    if value < 251:
        return bytes([value])
    return b"\xfb" + value.to_bytes(2, "little")


def read_number(data, at):
    first = data[at]
    if first < 251:
        return first
    size = {251: 2, 252: 4, 253: 8}[first]
    return int.from_bytes(data[at + 1:at + 1 + size], "little")


def text(value):
    return number(len(value)) + value.encode()


def ready(version=PROTOCOL_VERSION):
    return b"\x00" + number(version) + text("3.11.2")


def listing(path):
    try:
        return ",".join(sorted(os.listdir(path)))
    except OSError as error:
        return error.strerror


def describe():
    """Everything about this process that the supervisor is responsible for."""
    fds = []
    for fd in range(64):
        try:
            os.fstat(fd)
            fds.append(str(fd))
        except OSError:
            pass
    say("fds=" + ",".join(fds))
    say("null=%s" % os.readlink("/proc/self/fd/0"))
    say("page=%d" % os.fstat(4).st_size)
    say("ids=%s,%s,%s" % (os.getresuid(), os.getresgid(), sorted(os.getgroups())))
    say("session=%s" % (os.getsid(0) == os.getpid() == os.getpgid(0)))
    say("cwd=" + os.getcwd())
    mask = os.umask(0)
    say("umask=%04o" % mask)
    with open("/proc/self/status") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name.startswith(("Cap", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn")):
                say("%s=%s" % (name, value.strip()))
    with open("/proc/self/cmdline", "rb") as line:
        say("arguments=" + " ".join(a.decode() for a in line.read().split(b"\0")[2:]).strip())
    say("pids=" + ",".join(sorted(p for p in os.listdir("/proc") if p.isdigit())))
    say("root=" + listing("/"))
    say("tmp=" + listing("/tmp"))
    say("shm=" + listing("/dev/shm"))
    say("files=%d" % resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for name in sorted(os.environ):
        say("env %s=%s" % (name, os.environ[name]))
    say("described")


def main():
    control = socket.socket(fileno=3)
    if FAKE == "exit3":
        say("there is no module here")
        sys.exit(3)
    if FAKE == "failed":
        control.send(b"\x01" + text("the extension is\nmissing"))
        sys.exit(1)
    while FAKE == "hang":
        signal.pause()
    if FAKE == "repair" and not os.path.exists(os.path.join(DIR, "repaired")):
        sys.exit(4)
    if FAKE == "describe":
        describe()
    if FAKE == "grandchild":
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        say("grandchild=%d" % pid)
    if FAKE == "version":
        control.send(ready(99))
    elif FAKE == "garbage":
        control.send(b"\xff" * 100)
    elif FAKE == "oversize":
        control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        control.send(b"\x00" * 70_000)
    elif FAKE == "descriptor":
        control.sendmsg([ready()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
    else:
        control.send(ready())
    if FAKE == "twice":
        control.send(ready())
    if FAKE == "flood":
        os.write(1, b"flood\n" * 3000)
        say("flooded")
    if FAKE == "close":
        control.close()
        os.close(3) if os.path.exists("/proc/self/fd/3") else None
        while True:
            signal.pause()
    while True:
        data, fds, _, _ = socket.recv_fds(control, 65536, 4)
        if not data:
            with open(os.path.join(DIR, "eof-%d" % os.getpid()), "w"):
                pass
            sys.exit(0)
        kind = ("startup", "region", "gone", "stop", "drain")[data[0]]
        if kind == "startup":
            say("startup %s %s" % (os.environ.get("VIVARIUM_STARTUP"), data[2:].decode()))
            continue
        sizes = []
        for fd in fds:
            sizes.append(str(os.fstat(fd).st_size))
            os.close(fd)
        if FAKE != "quiet":
            say("%s %d [%s]" % (kind, read_number(data, 1) if len(data) > 1 else 0, ",".join(sizes)))
        if kind in ("stop", "drain") and FAKE != "stubborn":
            sys.exit(0)


main()
