"""Where attacks happen: two users of the test's own, a supervisor as a service, and what stands for httpd.

Everything lies in one folder below /var/tmp, belongs to users called vivtest-*, and is gone at the end.
"""

import array
import ctypes
import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from devlib import artefacts
from harness import fake, procs
from harness.wait import wait_until

HERE = Path(__file__).resolve().parent
LIBC = ctypes.CDLL(None, use_errno=True)
PYTHON = "/usr/bin/python3"


def add_user(name, home):
    """A user without a password, a shell, or anything else."""
    subprocess.run(
        ["/usr/sbin/useradd", "--no-create-home", "--user-group", "--home-dir", str(home), "--shell", "/usr/sbin/nologin",
         name],
        check=True, capture_output=True,
    )
    return pwd.getpwnam(name)


def remove_user(name):
    """Removes it, its group too."""
    subprocess.run(["/usr/sbin/userdel", "--force", name], check=False, capture_output=True)


def write(path, text, mode=0o644, owner=None):
    """A file with a mode and an owner."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)
    if owner:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


def folder(path, mode=0o755, owner=None):
    """A directory with a mode and an owner."""
    path.mkdir()
    os.chmod(path, mode)
    if owner:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


def region():
    """A sealed region, as httpd's children make them: descriptor."""
    fd = os.memfd_create("region", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 16)
    fcntl.fcntl(fd, 1033, 1 | 2 | 4)  # F_ADD_SEALS: SEAL, SHRINK, GROW
    return fd


CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7,
    "CAP_SETPCAP": 8, "CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21,
}


def unit_capabilities():
    """What the systemd unit leaves to the supervisor."""
    unit = (artefacts.REPO / "conf/systemd/vivariumd.service").read_text()
    line = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    return {CAPABILITIES[name] for name in line.split("=", 1)[1].split()}


def keep_capabilities():
    """Before exec: the supervisor has no capability but those of its unit."""
    kept = unit_capabilities()
    for number in range(64):
        if number not in kept and LIBC.prctl(24, number, 0, 0, 0) < 0:  # PR_CAPBSET_DROP
            break


class Child:
    """An httpd child's connection to the supervisor."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.socket.send(hello())
        assert self.socket.recv(65536)[:1] == bytes([fake.WELCOME])

    def attach(self, tenant):
        """Asks for a tenant's pool."""
        memory, (ours, theirs) = region(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packet = fake.number(2) + fake.text(tenant) + fake.text("main") + fake.number(1)
        fds = array.array("i", [memory, theirs.fileno()])
        self.socket.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os.close(memory)
        theirs.close()
        self.kept = ours
        return self

    def close(self):
        """Goes."""
        self.socket.close()
        if hasattr(self, "kept"):
            self.kept.close()


def hello():
    """The first packet."""
    return fake.number(fake.HELLO) + fake.number(fake.VERSION) + fake.number(7) + fake.number(1)


class Arena:
    """The machine as the attacks find it."""

    def __init__(self):
        self.mark = secrets.token_hex(6)
        self.base = Path(tempfile.mkdtemp(prefix="vivtest-", dir="/var/tmp"))
        os.chmod(self.base, 0o755)
        self.count = 0
        self.tenants = folder(self.base / "tenants.d")
        folder(self.base / "home")
        folder(self.base / "package")
        write(self.base / "extension.so", "")
        self.python = self.base / "python"
        shutil.copy(HERE / "attacker.py", self.python)
        os.chmod(self.python, 0o755)
        self.names = ["vivtest-%s-%d" % (who, os.getpid()) for who in ("a", "b")]
        self.users = [add_user(name, self.base / "home" / name) for name in self.names]
        self.attacker, self.victim = self.users
        self.homes = [folder(self.base / "home" / u.pw_name, 0o755, u) for u in self.users]
        self.started = []
        self.sockets = []
        self.segment = None
        self.supervisor = None

    # ---- the stage

    def build(self):
        """Everything that is to be attacked."""
        home, base = self.homes[1], self.base
        write(home / "private", "private " + self.mark, 0o600, self.victim)
        write(home / "public", "public " + self.mark, 0o644, self.victim)
        # What httpd has, with modes as careless as they come.
        logs, run = folder(base / "logs"), folder(base / "run", 0o777)
        write(logs / "error_log", "log " + self.mark, 0o666)
        write(base / "scoreboard", b"\0" * 4096, 0o666)
        folder(base / "open", 0o777)
        folder(base / "shared")
        write(base / "shared" / "data", "shared")
        # Programs that are more than their callers.
        suid = base / "shared" / "suid"
        shutil.copy("/usr/bin/id", suid)
        os.chmod(suid, 0o4755)
        capable = base / "shared" / "capable"
        shutil.copy("/usr/bin/cat", capable)
        os.chmod(capable, 0o755)
        # cap_dac_read_search, permitted and effective.
        os.setxattr(capable, "security.capability", (0x02000001).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"\0" * 12)
        self.listen(socket.AF_UNIX, "\0vivtest-" + self.mark)
        self.listen(socket.AF_UNIX, str(run / "service.sock"))
        os.chmod(run / "service.sock", 0o777)
        self.tcp = self.listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.other_tcp = self.listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.free_port = free_port()
        self.udp_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp_socket.bind(("127.0.0.1", 0))
        self.sockets.append(self.udp_socket)
        self.key = 0x56000000 | int(self.mark[:6], 16)
        self.segment = LIBC.shmget(self.key, 4096, 0o1666)
        # Victims in the machine's /tmp and /dev/shm, under names of the test's own.
        self.tmp = write(Path("/tmp/vivtest-" + self.mark), "tmp " + self.mark, 0o644, self.victim)
        self.shm = write(Path("/dev/shm/vivtest-" + self.mark), "shm " + self.mark, 0o644, self.victim)
        self.start_supervisor()
        self.httpd = self.process(["/bin/sleep", "3600"], pwd.getpwnam("www-data"))
        self.victim_pid = self.start_victim()

    def listen(self, family, address):
        """A service of the machine."""
        s = socket.socket(family, socket.SOCK_STREAM)
        s.bind(address)
        s.listen(64)
        self.sockets.append(s)
        return s

    def answer_udp(self):
        """Answers what has come."""
        self.udp_socket.setblocking(False)
        try:
            while True:
                _, peer = self.udp_socket.recvfrom(100)
                self.udp_socket.sendto(b"pong", peer)
        except BlockingIOError:
            pass

    def process(self, command, user=None, environment=None, **more):
        """A process of that user, without any sandbox."""
        def become():
            os.setsid()
            if user:
                os.setgroups([user.pw_gid])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
        started = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            command, env={"PATH": "/usr/bin:/bin", **(environment or {})}, preexec_fn=become, cwd="/",
            stdin=subprocess.DEVNULL, **more
        )
        self.started.append(started)
        return started

    def start_supervisor(self):
        """vivariumd as a service, in its own folder."""
        write(self.base / "vivariumd.toml", f"""
tenants_dir = "{self.tenants}"
[default]
user = "nobody"
[httpd]
user = "www-data"
[paths]
package_dir = "{self.base}/package"
extension = "{self.base}/extension.so"
run_dir = "{self.base}/vivarium"
[limits]
pools = 1000
[sandbox]
cgroup = "/vivtest-{self.mark}"
""")
        self.socket = self.base / "socket"
        self.log_file = open(self.base / "log", "ab")  # pylint: disable=consider-using-with
        program = artefacts.REPO / "target/release/vivariumd"
        self.supervisor = subprocess.Popen(  # pylint: disable=consider-using-with
            [program, "--config", self.base / "vivariumd.toml", "--socket", self.socket],
            stderr=self.log_file, stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "VIVTEST_SECRET": self.mark},
            preexec_fn=keep_capabilities,
        )
        wait_until(lambda: "VIV0001" in self.log(), "the supervisor")
        os.chmod(self.socket, 0o666)

    def start_victim(self):
        """The other tenant: a worker with a secret in its memory and a region. Its pid."""
        self.victim_child = self.attach("victim", self.victim, "keep", sandbox='[sandbox]\nseccomp = "standard"')
        found = wait_until(lambda: [line for line in self.log().splitlines() if "VIV0010" in line and "victim/main" in line], "the victim")
        pid = int(found[0].split("pid ")[1].split(",")[0])
        wait_until(lambda: any("memfd:" in v for v in procs.fds(pid).values()), "the victim's region")
        return pid

    # ---- tenants

    def log(self):
        """What the supervisor has said."""
        return (self.base / "log").read_text(errors="replace")

    def reload(self):
        """`vivarium reload`; its output."""
        done = subprocess.run(
            [artefacts.REPO / "target/release/vivarium", "reload", "--run-dir", self.base / "vivarium"],
            capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attach(self, tenant, user, name, args=None, sandbox="", top=""):
        """Declares a tenant whose worker runs an attack, and asks for its pool."""
        attack = json.dumps({"name": name, "args": args or {}})
        write(self.tenants / f"{tenant}.toml", f"""
user = "{user.pw_name}"
python = "{self.python}"
processes = {{ max = 1 }}
env = {{ ATTACK = '{attack}', MARK = "{self.mark}", PROTOCOL = "{fake.VERSION}" }}
{top}
{sandbox}
""")
        self.reload()
        return Child(self.socket).attach(tenant)

    def attack(self, name, args=None, sandbox="", top="", user=None, until=None):
        """Runs an attack as a tenant; (won, how)."""
        self.count += 1
        tenant = f"t{self.count}"
        child = self.attach(tenant, user or self.attacker, name, args, sandbox, top)
        try:
            return wait_until(lambda: self.outcome(tenant, until), f"the outcome of {name}: {self.log()[-2000:]}")
        finally:
            child.close()
            (self.tenants / f"{tenant}.toml").unlink()
            self.reload()

    def outcome(self, tenant, until=None):
        """What the log says of an attack: its own result, or how the supervisor ended it."""
        self.answer_udp()
        for line in self.log().splitlines():
            if f"{tenant}/main" not in line:
                continue
            if until and until in line:
                return False, line.split(": ", 1)[-1]
            if not until and "RESULT " in line:
                result = json.loads(line.split("RESULT ", 1)[1].replace("\\\\", "\\"))
                return result["won"], result["how"]
            if not until and ("cannot be started" in line or "has died" in line):
                return False, line.split(": ", 2)[-1]
        return None

    def control(self, name, args=None, user=None, keep_fd=False, environment=None):
        """Runs the same attack without a sandbox, as that user (None: root); (won, how)."""
        attack = json.dumps({"name": name, "args": args or {}})
        variables = {"ATTACK": attack, "PROTOCOL": str(fake.VERSION), **(environment or {})}
        extra = os.dup2(os.open("/", os.O_RDONLY), 77) if keep_fd else None
        running = self.process([str(self.python)], user, variables, stdout=subprocess.PIPE, pass_fds=[extra] if extra else [])
        output = b""
        os.set_blocking(running.stdout.fileno(), False)

        def ended():
            nonlocal output
            self.answer_udp()
            output += running.stdout.read() or b""
            return running.poll() is not None
        wait_until(ended, f"the control of {name}")
        os.set_blocking(running.stdout.fileno(), True)
        output += running.stdout.read()
        if extra:
            os.close(extra)
        for line in output.decode(errors="replace").splitlines():
            if line.startswith("RESULT "):
                result = json.loads(line[7:])
                return result["won"], result["how"], output
        return False, f"no result, status {running.returncode}", output

    # ---- what attackers would have to find out first

    def hello(self):
        """An httpd child's first packet."""
        return hello().hex()

    def address(self):
        """Where the victim's secret lies, as its own user can find out."""
        args = {"pid": self.victim_pid, "marker": "victim-secret-" + self.mark}
        won, how, _ = self.control("process_memory", args, self.victim)
        assert won, how
        return int(how, 16)

    # ---- the end

    def destroy(self):
        """Takes everything away again."""
        if self.supervisor:
            if hasattr(self, "victim_child"):
                self.victim_child.close()
            self.supervisor.send_signal(signal.SIGTERM)
            self.supervisor.wait(60)
            self.log_file.close()
        for started in self.started:
            if started.poll() is None:
                started.kill()
                started.wait()
            if started.stdout:
                started.stdout.close()
        for s in self.sockets:
            s.close()
        if self.segment is not None:
            LIBC.shmctl(self.segment, 0, None)
        for path in (getattr(self, "tmp", None), getattr(self, "shm", None)):
            if path:
                path.unlink(missing_ok=True)
        left = [pid for pid in self.own_processes()]
        for pid in left:
            procs.kill(pid)
        for name in self.names:
            remove_user(name)
        shutil.rmtree(self.base)
        for group in Path("/sys/fs/cgroup").glob(f"**/vivtest-{self.mark}"):
            group.rmdir()
        assert not left, f"processes were left behind: {left}"

    def own_processes(self):
        """Processes of the two users."""
        uids = {user.pw_uid for user in self.users}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if procs.alive(int(entry)) and procs.uid(int(entry)) in uids:
                        yield int(entry)
                except (OSError, AttributeError):
                    continue


def free_port():
    """A port that nobody has at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
