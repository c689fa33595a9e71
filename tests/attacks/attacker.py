#!/usr/bin/python3
"""The hostile tenant: stands in for a worker's Python, attacks, and says how it went.

The supervisor starts it in a tenant's real sandbox; the controls start it without one. ATTACK in the environment is
JSON: {"name": a function of this file, "args": its arguments}. It writes one line, `RESULT {"won": ..., "how": ...}`.
Every attack is bounded: 200 processes, 1 GiB of memory, 100 MiB of disk, some thousand descriptors, files or lines.
"""

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
# Numbers of system calls that Python has no names for: x86-64, else the generic table.
CALLS = {
    "process_vm_readv": 310 if X86 else 270,
    "pidfd_getfd": 438,
    "pidfd_open": 434,
    "clone": 56 if X86 else 220,
    "clone3": 435,
    "unshare": 272 if X86 else 97,
    "mount": 165 if X86 else 40,
    "bpf": 321 if X86 else 280,
    "io_uring_setup": 425,
    "userfaultfd": 323 if X86 else 282,
    "add_key": 248 if X86 else 217,
    "sethostname": 170 if X86 else 161,
    "syslog": 103 if X86 else 116,
    "ptrace": 101 if X86 else 117,
    "open_by_handle_at": 304 if X86 else 265,
    "name_to_handle_at": 303 if X86 else 264,
    "prlimit64": 302 if X86 else 261,
}


class Refused(Exception):
    """The attack was held."""


def call(name, *args):
    """A raw system call; raises OSError."""
    # Whole registers: the C library's default for a number is half of one.
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = LIBC.syscall(CALLS[name], *args)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


# ---- files


def read_file(path, contains=""):
    """Reads a file that is another's."""
    with open(path, "rb") as file:
        text = file.read(1 << 20)
    if contains.encode() not in text:
        raise Refused("it is another file: " + repr(text[:60]))
    return "%d bytes" % len(text)


def list_directory(path, contains):
    """Looks what another has."""
    names = os.listdir(path)
    if contains not in names:
        raise Refused("not there: %s" % names[:5])
    return ",".join(names[:5])


def append_to(path):
    """Writes into a file that is another's."""
    with open(path, "ab") as file:
        file.write(b"forged\n")
    return "written"


def make_file(directory):
    """Puts a file where it does not belong."""
    path = os.path.join(directory, "planted-%d" % os.getpid())
    with open(path, "x", encoding="ascii"):
        pass
    os.unlink(path)
    return path


def leave_in(directory, name):
    """Leaves a file under a name that somebody else is going to use."""
    with open(os.path.join(directory, name), "x", encoding="ascii") as file:
        file.write("planted")
    return name


def map_file(path):
    """Writes through a shared mapping, as httpd's children do to the scoreboard."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 16) as memory:
        memory[0:6] = b"forged"
    return "mapped and written"


def replace_link(directory, target):
    """Makes a link in a place of its own that leads to another's file, and reads through it."""
    link = os.path.join(directory, "link-%d" % os.getpid())
    os.symlink(target, link)
    try:
        return read_file(link)
    finally:
        os.unlink(link)


def by_handle(path):
    """Opens a file by its number, past every directory on the way."""
    handle = ctypes.create_string_buffer(8 + 128)
    struct.pack_into("Ii", handle, 0, 128, 0)
    mount = ctypes.c_int()
    call("name_to_handle_at", -100, path.encode(), handle, ctypes.byref(mount), 0)
    root = os.open("/", os.O_RDONLY)
    fd = call("open_by_handle_at", root, handle, os.O_RDONLY)
    return "%d bytes" % len(os.read(fd, 100))


def read_device(paths):
    """Reads a raw disk."""
    error = Refused("there is none")
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY)
            return "%d bytes of %s" % (len(os.read(fd, 8192)), path)
        except OSError as e:
            error = e
    raise error


def make_device(directory):
    """Makes a device node of its own for the kernel's memory."""
    path = os.path.join(directory, "node-%d" % os.getpid())
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 1))
    os.unlink(path)
    return "made"


def write_setting(path):
    """Writes a setting of the kernel (the value that it has)."""
    with open(path, encoding="ascii") as file:
        value = file.read()
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
    return "written"


# ---- other processes


def process_file(pid, name, contains=""):
    """Reads one of /proc/PID's files."""
    return read_file("/proc/%d/%s" % (pid, name), contains)


def memory_address(pid, marker):
    """Where the marker lies in another process, looked for in its writable mappings."""
    marker = marker.encode()
    with open("/proc/%d/maps" % pid, encoding="ascii", errors="replace") as maps:
        areas = [line.split()[0] for line in maps if " rw" in line]
    with open("/proc/%d/mem" % pid, "rb", 0) as memory:
        for area in areas:
            start, end = (int(part, 16) for part in area.split("-"))
            try:
                memory.seek(start)
                at = memory.read(min(end - start, 16 << 20)).find(marker)
            except (OSError, ValueError, OverflowError):
                continue
            if at >= 0:
                return start + at
    raise Refused("the marker was not found")


def process_memory(pid, marker):
    """Reads another's memory by /proc/PID/mem."""
    return hex(memory_address(pid, marker))


def trace(pid):
    """Attaches to another process as a debugger, and lets it go."""
    call("ptrace", 16, pid, 0, 0)
    os.waitpid(pid, 0x40000000)
    call("ptrace", 17, pid, 0, 0)
    return "attached"


class Vector(ctypes.Structure):
    """A piece of memory."""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def vm_read(pid, address):
    """Reads another's memory by process_vm_readv."""
    buffer = ctypes.create_string_buffer(16)
    here = Vector(ctypes.addressof(buffer), 16)
    there = Vector(address, 16)
    got = call("process_vm_readv", pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return "%d bytes" % got


def steal_descriptor(pid, number):
    """Takes a descriptor out of another process."""
    pidfd = call("pidfd_open", pid, 0)
    fd = call("pidfd_getfd", pidfd, number, 0)
    return os.readlink("/proc/self/fd/%d" % fd)


def open_region(pid):
    """Maps the shared memory that another process holds, by /proc/PID/fd."""
    for number in os.listdir("/proc/%d/fd" % pid):
        path = "/proc/%d/fd/%s" % (pid, number)
        if "memfd:" in os.readlink(path):
            fd = os.open(path, os.O_RDWR)
            size = os.fstat(fd).st_size
            with mmap.mmap(fd, size):
                return "%d bytes of %s" % (size, os.readlink(path))
    raise Refused("it has none")


def send_signal(pid):
    """Sends a signal (one that harms nobody)."""
    os.kill(pid, signal.SIGCONT)
    return "sent"


def read_limits(pid):
    """Reads and sets another's limits."""
    return str(resource.prlimit(pid, resource.RLIMIT_NOFILE))


def move_process(pid):
    """Moves another process to one CPU (those that it has)."""
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))
    return "moved"


def see_process(marker):
    """Finds another's process in /proc."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/cmdline" % entry, "rb") as file:
                    if marker.encode() in file.read():
                        return entry
            except OSError:
                continue
    raise Refused("not to be seen")


def outlive(path):
    """Starts a daemon that stays when its worker has gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
            os.closerange(0, 64)
            for _ in range(600):
                time.sleep(0.1)
                if os.path.exists(path + ".stop"):
                    break
        os._exit(0)
    os.wait()
    while not os.path.exists(path) or not os.path.getsize(path):
        time.sleep(0.01)
    return "left one behind"


# ---- communication


def connect_path(path, kind="stream"):
    """Connects to a socket in the file system."""
    with socket.socket(socket.AF_UNIX, getattr(socket, "SOCK_" + kind.upper())) as s:
        s.connect(path)
    return "connected"


def connect_abstract(name):
    """Connects to a socket without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.connect("\0" + name)
    return "connected"


def forge_hello(path, packet):
    """Says hello to the supervisor as an httpd child would, to ask for another tenant's pool next."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(path)
        s.send(bytes.fromhex(packet))
        answer = s.recv(4096)
    if answer[:1] != b"\x00":
        raise Refused("answered: " + repr(answer[:80]))
    return "welcomed"


def forge_reload(directory):
    """Has the supervisor read its files again."""
    for name in os.listdir(directory):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(os.path.join(directory, name))
            s.send(b"\x01")
            if s.recv(65536)[:1] == b"\x01":
                return "it answered"
    raise Refused("nobody answered")


def shared_segment(key):
    """Attaches to a System V shared memory segment of another."""
    LIBC.shmget.restype = ctypes.c_int
    segment = LIBC.shmget(ctypes.c_int(key), ctypes.c_size_t(1), ctypes.c_int(0o666))
    if segment < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    LIBC.shmat.restype = ctypes.c_void_p
    at = LIBC.shmat(segment, None, 0)
    return ctypes.string_at(at, 6).decode()


def tcp(port, host="127.0.0.1"):
    """Connects to a service of the machine."""
    with socket.create_connection((host, port), 5):
        return "connected"


def udp(port):
    """Sends a datagram to a service of the machine and waits for its answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(b"ping", ("127.0.0.1", port))
        return s.recv(100).decode()


def serve(port):
    """Opens a port of the machine."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
    return "listening"


def family(number, kind):
    """Makes a socket of a family that a web application has no need of."""
    socket.socket(number, kind).close()
    return "made"


def host_connections(port):
    """Reads the machine's table of connections."""
    return read_file("/proc/net/tcp", ":%04X" % port)


def host_interfaces():
    """Lists the machine's network interfaces other than loopback."""
    names = [name for _, name in socket.if_nameindex() if not name.startswith(("lo", "sit", "tunl", "ip6tnl"))]
    if not names:
        raise Refused("none but loopback")
    return ",".join(names)


# ---- what it was born with


def found_descriptors():
    """Finds a descriptor that it was not to have."""
    for number in range(5, 1024):
        try:
            return "%d is %s" % (number, os.readlink("/proc/self/fd/%d" % number)) if os.fstat(number) else ""
        except OSError:
            continue
    raise Refused("none above 4")


def found_environment(name):
    """Finds a variable of the supervisor's environment."""
    if name not in os.environ:
        raise Refused("not there")
    return os.environ[name]


def key_store():
    """Leaves a key in the kernel's store, where the user's other processes find it."""
    return str(call("add_key", b"user", b"vivtest", b"secret", 6, -4))


# ---- root again


def run_program(path, arguments, contains):
    """Runs a program that is more than its caller."""
    done = subprocess.run([path, *arguments], capture_output=True, check=False)
    if contains.encode() not in done.stdout:
        raise Refused((done.stdout + done.stderr)[:100].decode(errors="replace"))
    return done.stdout[:60].decode(errors="replace").strip()


def become_root():
    """Takes root back from wherever it may have been left."""
    for step in (lambda: os.setuid(0), lambda: os.setresuid(-1, 0, -1), lambda: os.setreuid(0, 0)):
        try:
            step()
        except OSError as e:
            error = e
        else:
            if 0 in os.getresuid():
                return str(os.getresuid())
    raise error


def take_groups():
    """Takes groups that are not its own."""
    os.setgroups([0, 4, 42])
    return str(os.getgroups())


def user_namespace():
    """Makes a user namespace, where it has every capability."""
    call("unshare", 0x10000000)
    return "made"


def clone_namespace(flags=0x10000000 | signal.SIGCHLD):
    """The same by clone."""
    pid = call("clone", flags, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


def clone3_namespace():
    """The same by clone3, whose flags no filter can see."""
    arguments = struct.pack("8Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call("clone3", ctypes.create_string_buffer(arguments, 64), 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


def mount_something(at):
    """Mounts a file system over a directory (in a namespace of its own where it may have one)."""
    try:
        call("unshare", 0x20000)
    except OSError:
        pass
    call("mount", b"none", b"/", 0, 0x44000, 0)
    call("mount", b"none", at.encode(), b"tmpfs", 0, 0)
    return "mounted"


def change_root():
    """Changes its root directory."""
    os.chroot("/tmp")
    return "changed"


def rename_machine():
    """Sets the machine's name (to what it is)."""
    name = socket.gethostname().encode()
    call("sethostname", name, len(name))
    return "set"


def kernel_log():
    """Reads the kernel's messages."""
    buffer = ctypes.create_string_buffer(4096)
    return "%d bytes" % call("syslog", 3, buffer, 4096)


def kernel_program():
    """Loads a map into the kernel by bpf."""
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 8, 1), 128)
    return str(call("bpf", 0, attributes, 128))


def io_ring():
    """Makes an io_uring, whose operations no filter sees."""
    return str(call("io_uring_setup", 4, ctypes.create_string_buffer(120)))


def fault_handler():
    """Makes a userfaultfd, with which exploits stop the kernel in mid-copy."""
    return str(call("userfaultfd", 1))


def leave_group(paths):
    """Leaves its control group."""
    error = Refused("there is none to be seen")
    for path in paths:
        try:
            fd = os.open(path, os.O_WRONLY)
            os.write(fd, b"0")
            return path
        except OSError as e:
            error = e
    raise error


# ---- using everything up


def processes(count):
    """Forks until it cannot, or until `count`."""
    made = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            made.append(pid)
    except OSError as e:
        raise Refused("%d, then %s" % (len(made), e)) from e
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return "%d processes" % count


def memory(megabytes):
    """Takes memory, and uses it."""
    kept = []
    try:
        for _ in range(megabytes):
            kept.append(b"\x01" * (1 << 20))
    except MemoryError as e:
        raise Refused("%d MiB" % len(kept)) from e
    return "%d MiB" % len(kept)


def fill(directory, megabytes):
    """Fills a file system with one file for each MiB."""
    made = []
    try:
        for i in range(megabytes):
            made.append(os.path.join(directory, "fill-%d-%d" % (os.getpid(), i)))
            with open(made[-1], "wb") as file:
                file.write(b"\x01" * (1 << 20))
    except OSError as e:
        raise Refused("%d MiB, then %s" % (len(made) - 1, e)) from e
    finally:
        for path in made:
            if os.path.exists(path):
                os.unlink(path)
    return "%d MiB" % megabytes


def large_file(directory, megabytes):
    """Writes one large file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = os.path.join(directory, "large-%d" % os.getpid())
    written = 0
    try:
        with open(path, "wb", 0) as file:
            for _ in range(megabytes):
                written += file.write(b"\x01" * (1 << 20))
    except OSError as e:
        raise Refused("%d MiB, then %s" % (written >> 20, e)) from e
    finally:
        os.unlink(path)
    return "%d MiB" % megabytes


def many_files(directory, count):
    """Makes empty files until it cannot."""
    made = []
    try:
        for i in range(count):
            path = os.path.join(directory, "many-%d-%d" % (os.getpid(), i))
            with open(path, "x", encoding="ascii"):
                made.append(path)
    except OSError as e:
        raise Refused("%d, then %s" % (len(made), e)) from e
    finally:
        for path in made:
            os.unlink(path)
    return "%d files" % count


def descriptors(count):
    """Opens descriptors until it cannot."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    made = []
    try:
        for _ in range(count):
            made.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as e:
        raise Refused("%d, then %s" % (len(made), e)) from e
    finally:
        for fd in made:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return "%d descriptors" % count


def threads(count):
    """Starts threads until it cannot."""
    stop = threading.Event()
    made = []
    try:
        for _ in range(count):
            made.append(threading.Thread(target=stop.wait, daemon=True))
            made[-1].start()
    except RuntimeError as e:
        raise Refused("%d, then %s" % (len(made) - 1, e)) from e
    finally:
        stop.set()
    return "%d threads" % count


def flood(count):
    """Writes lines as fast as it can."""
    for _ in range(count // 100):
        os.write(1, b"flood\n" * 100)
    return "%d lines" % count


def inject():
    """Writes what looks like another's line, and what a terminal obeys."""
    os.write(1, b"harmless\r[Mon Jan 01] [core:emerg] forged \x1b[2Jline\n")
    return "written"


# ---- its own control socket


def number(value):
    """A whole number in the protocol's encoding."""
    return bytes([value]) if value < 251 else b"\xfb" + value.to_bytes(2, "little")


def ready():
    """The packet that a worker says once."""
    version = int(os.environ["PROTOCOL"])
    return b"\x00" + number(version) + number(6) + b"3.11.2"


def worker_forges(control, packet):
    """Says what no worker says."""
    control.send(ready())
    control.send(bytes.fromhex(packet))
    # Until it is killed: its own end must not come first.
    while True:
        signal.pause()


def worker_silent(control):
    """Never says that it is ready: holds its place for ever."""
    while control:
        signal.pause()


def worker_deaf(control):
    """Is ready, and never reads what it is told."""
    control.send(ready())
    while True:
        signal.pause()


def worker_grabs(control):
    """Sends descriptors where none belong."""
    fds = struct.pack("4i", 0, 0, 0, 0)
    control.sendmsg([ready()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    while True:
        signal.pause()


def keep(control):
    """A victim: holds the region that it is given, and a secret."""
    secret = "".join(("victim", "-", "secret", "-", os.environ["MARK"]))
    control.send(ready())
    held = [secret]
    while True:
        data, fds, _, _ = socket.recv_fds(control, 65536, 4)
        held += fds
        if not data or data[0] == 3:
            return


def main():
    """Runs the attack that the environment names."""
    attack = json.loads(os.environ["ATTACK"])
    name, args = attack["name"], attack.get("args", {})
    control = socket.socket(fileno=3) if os.environ.get("VIVARIUM_SLOT") else None
    if name.startswith("worker_") or name == "keep":
        os.write(1, b"BEGUN\n")
        globals()[name](control, **args)
        return
    try:
        result = {"won": True, "how": globals()[name](**args)}
    except (OSError, Refused, AttributeError) as e:
        kind = errno.errorcode.get(getattr(e, "errno", None) or 0, "")
        result = {"won": False, "how": ("%s %s" % (kind, e)).strip()}
    os.write(1, ("RESULT " + json.dumps(result) + "\n").encode())
    if control:
        control.send(ready())
        while control.recv(65536)[:1] not in (b"", b"\x03"):
            pass


if __name__ == "__main__":
    sys.exit(main())
