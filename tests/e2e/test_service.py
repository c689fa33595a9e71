"""The supervisor as a service of its own: the same program, started by somebody else than httpd."""

import os
import signal
import socket
import subprocess

import pytest

from devlib import artefacts
from harness import Load, procs, wait_until

CONFIG = """
[default]
processes = 2
threads = 4
[httpd]
user = "{user}"
[paths]
package_dir = "{packages}"
extension = "{extension}"
"""


class Service:
    """A supervisor that httpd did not start."""

    def __init__(self, server, activated):
        module = server.module
        user = artefacts.httpd_user() or artefacts.python_user()
        root = module.parents[2]
        config = server.prefix / "service.toml"
        config.write_text(CONFIG.format(
            user=user, packages=root / "interp-daemon/python", extension=module.with_name("lib_vivarium.so"),
        ))
        self.path = server.prefix / "service.sock"
        self.log = server.prefix / "service.log"
        self.command = [str(module.with_name("vivariumd")), "--config", str(config)]
        self.listener = None
        if activated:
            # As systemd does it: the socket is descriptor 3, made before the service and kept after it.
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.listener.bind(str(self.path))
            os.chmod(self.path, 0o666)
            self.listener.listen(64)
        else:
            self.command += ["--socket", str(self.path)]
        self.process = None

    def start(self):
        environment = {"PATH": "/usr/bin:/bin"}
        options = {}
        if self.listener:
            listener = self.listener.fileno()
            script = f'exec 3<&{listener}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
            command = ["/bin/bash", "-c", script, "bash", *self.command]
            options["pass_fds"] = [listener]
        else:
            command = self.command
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdin=subprocess.DEVNULL, **options)
        wait_until(lambda: "VIV0001" in self.log.read_text(), "the service's start")

    def workers(self):
        return [pid for pid in procs.descendants(self.process.pid) if "vivarium.worker" in procs.cmdline(pid)]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()


@pytest.fixture(params=[True, False], ids=["socket-activated", "own-socket"])
def service(request, make_server):
    server = make_server(mpm="event")
    started = Service(server, request.param)
    server.add(f"VivariumDaemon unix:{started.path}")
    server.site("deaths")
    started.server = server
    yield started
    started.stop()
    if started.listener:
        started.listener.close()


def test_serves(service):
    service.start()
    service.server.start()
    assert service.server.get("/hello").body == b"hello\n"
    assert service.server.supervisor() is None
    assert service.workers()
    # The journal takes a priority in front of each line.
    assert all(line.startswith("<") for line in service.log.read_text().splitlines())


def test_restart_of_the_service_under_load(service):
    service.server.allow("VIV0005", "VIV0011", "VIV0020", "VIV0021")
    service.start()
    server = service.server.start()
    assert server.get("/hello").status == 200
    with Load(server.port, "/hello", expect=b"hello\n") as load:
        for _ in range(3):
            workers = service.workers()
            service.stop()
            wait_until(lambda: not any(procs.alive(pid) for pid in workers), "the workers' end")
            service.start()
            served = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > served + 100, "requests after the restart")
        failed, done = dict(load.failed), load.done
        wait_until(lambda: load.done > done + 300, "requests without a failure")
        assert load.failed == failed
    assert not load.wrong


def test_httpd_can_be_there_first(service):
    server = service.server.start()
    server.allow("VIV0005", "VIV0020")
    if service.listener is None:
        assert server.get("/hello").status == 503
    service.start()
    wait_until(lambda: server.outcome("/hello") == "200", "the service to be found")


def test_graceful_restart_of_httpd(service):
    service.start()
    server = service.server.start()
    source = (server.htdocs / "deaths.py").read_text()
    assert server.get("/version").text == "1"
    server.write("deaths.py", source.replace('VERSION = "1"', 'VERSION = "22"'))
    server.graceful()
    wait_until(lambda: server.get("/version").text == "22", "the new code")


def test_the_service_ends_with_its_workers(service):
    service.start()
    service.server.start()
    assert service.server.get("/hello").status == 200
    workers = service.workers()
    service.server.allow("VIV0005", "VIV0020")
    service.stop()
    assert service.process.returncode == 0
    assert not any(procs.alive(pid) for pid in workers)


def test_strangers_are_refused(service):
    """A process of another user that connects is shown the door; the service and httpd go on."""
    service.start()
    service.server.start()
    os.chmod(service.path, 0o666)
    assert service.server.get("/hello").status == 200
    if os.geteuid() == 0:
        probe = (
            "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
            f"s.connect({str(service.path)!r}); s.send(b'\\0\\1\\1\\1'); print(len(s.recv(100)))"
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-c", probe], user="nobody", group="nogroup", extra_groups=[], cwd="/",
            capture_output=True, text=True, check=False,
        )
        assert done.stdout.strip() != "", done.stderr
        wait_until(lambda: "VIV0007" in service.log.read_text(), "the refusal in the log")
    assert service.server.get("/hello").status == 200
