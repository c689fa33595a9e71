"""The attacks, one row each: what is tried, with what, and who succeeds with it where the protection is off.

A row's `control` runs the same code outside of any sandbox: as "attacker" (the tenant's own user: what the sandbox adds
is shown), as "victim" (the other tenant's user: what separate users add is shown), or as "root".
"""

from dataclasses import dataclass, field
from typing import Callable, Dict

MEMORY_BOMB = 1024  # MiB


@dataclass(frozen=True)
class Case:
    """One attack."""

    title: str
    attack: str
    control: str
    args: Callable[[object], Dict] = lambda arena: {}
    # More lines of the tenant's file: top-level keys, then sections.
    top: str = ""
    sandbox: Callable[[object], str] = lambda arena: ""
    # Arguments for the control, where they cannot be the same.
    control_args: Callable[[object], Dict] = None
    control_more: Dict = field(default_factory=dict)
    # The machine may refuse it to everybody: then there is nothing to show.
    may_lack: bool = False

    @property
    def id(self):
        """For pytest."""
        return self.title.replace(" ", "-").replace("/", "").replace(",", "").replace("'", "").lower()


def _pid(name):
    return lambda a: {"pid": {"victim": a.victim_pid, "supervisor": a.supervisor.pid, "httpd": a.httpd.pid}[name]}


def _path(name, **more):
    return lambda a: {"path": str(a.base / name), **more}


def _all_ports(text):
    return lambda a: text.format(a=a)


TMP = '[limits]\ntmp = "16M"'
ALL = [
    # Files.
    Case("another tenant's private file", "read_file", "victim", lambda a: {"path": str(a.homes[1] / "private"), "contains": a.mark}),
    Case("another tenant's readable file", "read_file", "attacker", lambda a: {"path": str(a.homes[1] / "public"), "contains": a.mark}),
    Case("another tenant's directory", "list_directory", "attacker", lambda a: {"path": str(a.homes[1]), "contains": "public"}),
    Case("another tenant's file through a link", "replace_link", "attacker",
         lambda a: {"directory": str(a.homes[0]), "target": str(a.homes[1] / "public")}),
    Case("names of other tenants", "read_file", "attacker", lambda a: {"path": "/etc/passwd", "contains": a.victim.pw_name}),
    Case("names of other tenants' homes", "list_directory", "attacker",
         lambda a: {"path": str(a.base / "home"), "contains": a.victim.pw_name}),
    Case("shadow passwords", "read_file", "root", lambda a: {"path": "/etc/shadow", "contains": "root"}),
    Case("a file by its number", "by_handle", "root", lambda a: {"path": "/etc/hosts"}),
    Case("tenants' configuration", "list_directory", "attacker", lambda a: {"path": str(a.tenants), "contains": "victim.toml"}),
    Case("read httpd's log", "read_file", "attacker", _path("logs/error_log", contains="log ")),
    Case("write httpd's log", "append_to", "attacker", _path("logs/error_log")),
    Case("write httpd's scoreboard", "map_file", "attacker", _path("scoreboard")),
    Case("write httpd's run directory", "make_file", "attacker", lambda a: {"directory": str(a.base / "run")}),
    Case("write into a directory open to all", "make_file", "attacker", lambda a: {"directory": str(a.base / "open")}),
    Case("write the program that it runs", "append_to", "root", _path("extension.so")),
    Case("write a path that it may read", "append_to", "root", _path("shared/data"),
         sandbox=lambda a: f'[files]\nread_only = ["{a.base}/shared"]'),
    Case("another tenant's file in /tmp", "read_file", "attacker", lambda a: {"path": str(a.tmp), "contains": a.mark}),
    Case("a file left in /tmp for others", "leave_in", "attacker", lambda a: {"directory": "/tmp", "name": a.tmp.name},
         control_args=lambda a: {"directory": "/tmp", "name": a.tmp.name + ".planted"}),
    Case("another tenant's file in /dev/shm", "read_file", "attacker", lambda a: {"path": str(a.shm), "contains": a.mark}),
    Case("a raw disk or the kernel's log device", "read_device", "root", lambda a: {"paths": ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/kmsg"]}, may_lack=True),
    Case("a device node of its own", "make_device", "root", lambda a: {"directory": "/tmp"}),
    Case("a setting of the kernel", "write_setting", "root", lambda a: {"path": "/proc/sys/kernel/printk"}),
    # Processes.
    Case("see another's process", "see_process", "attacker", lambda a: {"marker": "vivariumd.toml"}),
    Case("another tenant's environment", "process_file", "victim", lambda a: {**_pid("victim")(a), "name": "environ", "contains": a.mark}),
    Case("another tenant's memory", "process_memory", "victim", lambda a: {**_pid("victim")(a), "marker": "victim-secret-" + a.mark}),
    Case("another tenant's memory by process_vm_readv", "vm_read", "victim", lambda a: {**_pid("victim")(a), "address": a.address()}),
    Case("trace another tenant", "trace", "victim", _pid("victim")),
    Case("another tenant's region", "open_region", "victim", _pid("victim")),
    Case("another tenant's descriptor", "steal_descriptor", "victim", lambda a: {**_pid("victim")(a), "number": 3}),
    Case("a signal to another tenant", "send_signal", "victim", _pid("victim")),
    Case("another tenant's limits", "read_limits", "victim", _pid("victim")),
    Case("another tenant's CPUs", "move_process", "victim", _pid("victim")),
    Case("a signal to the supervisor", "send_signal", "root", _pid("supervisor")),
    Case("trace the supervisor", "trace", "root", _pid("supervisor")),
    Case("the supervisor's environment", "process_file", "root", lambda a: {**_pid("supervisor")(a), "name": "environ", "contains": a.mark}),
    Case("the machine's root through /proc", "process_file", "root", lambda a: {**_pid("supervisor")(a), "name": "root/etc/shadow"}),
    Case("a signal to httpd", "send_signal", "root", _pid("httpd")),
    Case("trace httpd", "trace", "root", _pid("httpd")),
    # Communication.
    Case("an abstract socket", "connect_abstract", "attacker", lambda a: {"name": "vivtest-" + a.mark}),
    Case("a socket in the file system", "connect_path", "attacker", _path("run/service.sock")),
    Case("the supervisor's socket", "connect_path", "attacker", _path("socket", kind="seqpacket")),
    Case("a forged hello to the supervisor", "forge_hello", "root", lambda a: {"path": str(a.socket), "packet": a.hello()}),
    Case("a forged reload", "forge_reload", "root", lambda a: {"directory": str(a.base / "vivarium/admin")}),
    Case("another tenant's shared memory", "shared_segment", "attacker", lambda a: {"key": a.key}),
    Case("a service of the machine", "tcp", "attacker", lambda a: {"port": a.tcp}),
    Case("a service of the machine by UDP", "udp", "attacker", lambda a: {"port": a.udp_socket.getsockname()[1]}),
    Case("a service of the machine, loopback allowed", "tcp", "attacker", lambda a: {"port": a.tcp},
         sandbox=lambda a: '[network]\nmode = "loopback"'),
    Case("a port that is not named", "tcp", "attacker", lambda a: {"port": a.other_tcp},
         sandbox=_all_ports('[network]\nmode = "outbound"\nconnect = [{a.tcp}]')),
    Case("serve where only outbound is allowed", "serve", "attacker", lambda a: {"port": a.free_port},
         sandbox=_all_ports('[network]\nmode = "outbound"')),
    Case("an abstract socket from the machine's network", "connect_abstract", "attacker", lambda a: {"name": "vivtest-" + a.mark},
         sandbox=lambda a: '[network]\nmode = "full"'),
    Case("raw frames", "family", "root", lambda a: {"number": 17, "kind": 3}, sandbox=lambda a: '[network]\nmode = "full"'),
    Case("kernel messages by netlink", "family", "attacker", lambda a: {"number": 16, "kind": 3},
         sandbox=lambda a: '[network]\nmode = "full"'),
    Case("the machine's connections", "host_connections", "attacker", lambda a: {"port": a.tcp}),
    Case("the machine's interfaces", "host_interfaces", "attacker", may_lack=True),
    # What is born with it.
    Case("descriptors left open", "found_descriptors", "attacker", control_more={"keep_fd": True}),
    Case("the supervisor's variables", "found_environment", "attacker", lambda a: {"name": "VIVTEST_SECRET"},
         control_more={"environment": {"VIVTEST_SECRET": "leaked"}}),
    Case("the kernel's key store", "key_store", "attacker", may_lack=True),
    # Root again.
    Case("a set-uid program", "run_program", "attacker",
         lambda a: {"path": str(a.base / "shared/suid"), "arguments": [], "contains": "euid=0"},
         sandbox=lambda a: f'[files]\nread_only = ["{a.base}/shared"]'),
    Case("a program with capabilities", "run_program", "attacker",
         lambda a: {"path": str(a.base / "shared/capable"), "arguments": [str(a.homes[1] / "private")], "contains": a.mark},
         sandbox=lambda a: f'[files]\nread_only = ["{a.base}/shared", "{a.homes[1]}"]'),
    Case("leftover user ids", "become_root", "root"),
    Case("leftover groups", "take_groups", "root"),
    Case("a user namespace", "user_namespace", "attacker", may_lack=True),
    Case("a user namespace by clone", "clone_namespace", "attacker", may_lack=True),
    Case("a user namespace by clone3", "clone3_namespace", "attacker", may_lack=True),
    Case("a user namespace, standard profile", "clone3_namespace", "attacker", sandbox=lambda a: '[sandbox]\nseccomp = "standard"', may_lack=True),
    Case("mount over a directory", "mount_something", "root", lambda a: {"at": "/tmp"}),
    Case("another root directory", "change_root", "root"),
    Case("the machine's name", "rename_machine", "root"),
    Case("the kernel's messages", "kernel_log", "root", may_lack=True),
    Case("programs in the kernel", "kernel_program", "root", may_lack=True),
    Case("an io_uring", "io_ring", "attacker", may_lack=True),
    Case("a userfaultfd", "fault_handler", "attacker", may_lack=True),
    Case("out of its control group", "leave_group", "root",
         lambda a: {"paths": ["/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/cgroup.procs"]}, may_lack=True),
    # Using everything up.
    Case("fork bomb", "processes", "attacker", lambda a: {"count": 200}),
    Case("thread hog", "threads", "attacker", lambda a: {"count": 300}),
    Case("memory bomb", "memory", "attacker", lambda a: {"megabytes": MEMORY_BOMB}, sandbox=lambda a: '[limits]\nmemory = "128M"'),
    Case("memory bomb in /dev/shm", "fill", "attacker", lambda a: {"directory": "/dev/shm", "megabytes": 100}, sandbox=lambda a: TMP),
    Case("disk filler in /tmp", "fill", "attacker", lambda a: {"directory": "/tmp", "megabytes": 100}, sandbox=lambda a: TMP),
    Case("a file without end", "large_file", "attacker", lambda a: {"directory": str(a.homes[0]), "megabytes": 32},
         sandbox=lambda a: '[limits]\nfile_size = "8M"'),
    Case("files without number", "many_files", "attacker", lambda a: {"directory": "/tmp", "count": 5000},
         sandbox=lambda a: '[limits]\ntmp = "4M"'),
    Case("descriptor hog", "descriptors", "attacker", lambda a: {"count": 3000}),
]
