"""Runs cases: one server for each flavour, process model and group."""

import os
import re
import socket
from contextlib import suppress

from devlib.httpd import free_port
from harness import Connection, Server, Truncated, wait_until

from .normal import Normal

# Seconds until a request that gets no answer counts as hanging.
PATIENCE = 20
# Seconds until a line of the log counts as missing.
LOG_PATIENCE = 5
# After so many hanging requests in a row a server counts as dead, and its other cases fail at once.
HANGS = 3
# So often is mod_python asked: a child of it dies without cause in about one short run in forty.
TRIES = 3

SECTION = """\
<Directory "{folder}">
{conf}
</Directory>
"""
DEFAULT = "SetHandler mod_python\nPythonHandler {module}\n"
VHOST = """\
<VirtualHost 127.0.0.1:{port}>
ServerName {host}
DocumentRoot "{htdocs}"
PythonInterpreter vhosts
{conf}
</VirtualHost>
"""
BASE = """\
DocumentRoot "{htdocs}"
PythonOption scratch "{scratch}"
<Directory "{htdocs}">
    Require all granted
</Directory>
{conf}
"""
MAIN = """\
<VirtualHost 127.0.0.1:{port}>
ServerName 127.0.0.1
</VirtualHost>
"""


class Ports:
    """Ports for the cases' own use: below those that the kernel gives to clients, and no two servers get the same."""

    next = 20000 + os.getpid() % 8000


class NoServer(Exception):
    """A server did not start."""


class CaseServer(Server):
    """A server with the cases of a group."""

    def __init__(self, group, **more):
        super().__init__(extra_modules=group.modules, **more)
        self.group = group
        self.ports = {}
        self.hangs = 0
        self.allow(*group.allow)
        if self.flavour == "mod_python":
            self.allow_line("exit signal")
        for name, text in group.files.items():
            self.write(name, text)
        self.add(BASE.format(htdocs=self.htdocs, scratch=self.scratch, conf=self.fill(group.conf)))
        running = [case for case in group.cases if not case.configtest and self.takes(case)]
        if any(case.vhost is not None for case in running):
            # The first virtual host of an address is the one for all other names.
            self.add(MAIN.format(port=self.port))
        for case in running:
            self.lay(case)

    def takes(self, case):
        """Whether the case is for this server at all."""
        return self.flavour != "mod_python" or not (case.defect or case.only_ours)

    def lay(self, case):
        """Writes the files of a case and adds its configuration."""
        folder = self.htdocs / case.id
        self.write(f"{case.id}/{case.module}.py", case.source)
        for name, text in case.files.items():
            self.write(f"{case.id}/{name}", self.fill(text, case) if isinstance(text, str) else text)
        default = "" if case.bare else DEFAULT.format(module=case.module)
        self.add(self.fill(case.server, case))
        section = SECTION.format(folder=folder, conf=default + self.fill(case.conf, case))
        if case.vhost is None:
            self.add(section)
        else:
            conf = section + self.fill(case.vhost, case)
            self.add(VHOST.format(port=self.port, host=self.host(case), htdocs=self.htdocs, conf=conf))

    @staticmethod
    def host(case):
        """The name of the case's virtual host."""
        return f"{case.id}.test"

    def places(self, case=None):
        """What `@word@` stands for."""
        found = {
            "port": str(self.port), "prefix": str(self.prefix), "htdocs": str(self.htdocs),
            "scratch": str(self.scratch),
        }
        if case is not None:
            found |= {"dir": str(self.htdocs / case.id), "module": case.module, "id": case.id,
                      "url": f"/{case.id}", "host": self.host(case)}
        return found

    def fill(self, text, case=None):
        """Text with its `@word@`s filled in; `@own-port@` is a port for this case alone."""
        for word, value in self.places(case).items():
            text = text.replace(f"@{word}@", value)
        if "@own-port@" in text:
            text = text.replace("@own-port@", str(self.own_port(case)))
        return text

    def own_port(self, case):
        """The port that is this case's alone."""
        if case.id not in self.ports:
            self.ports[case.id] = Ports.next = free_port(Ports.next + 1)
        return self.ports[case.id]

    def conf(self):
        """The whole configuration, with mod_mime's hooks after Python's if the group wants that."""
        text = super().conf()
        if self.group.python_first:
            python = re.search(r"^LoadModule python_module .*\n", text, re.M).group(0)
            text = text.replace(python, "").replace("LoadModule mime_module", python + "LoadModule mime_module", 1)
        return text

    def normal(self, case):
        """What normalises this server's answers."""
        replaced = {str(self.port): "@port@", str(self.htdocs): "@htdocs@", str(self.scratch): "@scratch@",
                    str(self.prefix): "@prefix@"}
        if case.id in self.ports:
            replaced[str(self.ports[case.id])] = "@own-port@"
        return Normal(replaced)

    # -- asking

    def ask(self, case):
        """Runs a case; returns what is compared, as a dictionary."""
        if case.configtest:
            return self.check(case)
        if self.hangs >= HANGS:
            return {"status": "dead"}
        tries = TRIES if self.flavour == "mod_python" else 1
        for _ in range(tries):
            seen = Talk(self, case).run()
            if seen["status"] not in ("reset", "truncated"):
                break
        self.hangs = self.hangs + 1 if seen["status"] == "hangs" else 0
        return seen

    def check(self, case):
        """The verdict of `apache2 -t` on a configuration with the case's directives."""
        other = Server(mpm=self.mpm, flavour=self.flavour, extra_modules=self.group.modules)
        try:
            other.add(self.fill(case.server, case))
            done = other.configtest()
            words = [word for word in re.findall(r"\bPython\w+", case.server) if word in done.stderr]
            return {"status": done.returncode, "body": sorted(set(words)) if done.returncode else []}
        finally:
            other.remove()


class Talk:
    """One case's exchange with one server; a `drive` function gets it."""

    def __init__(self, server, case):
        self.server = server
        self.case = case
        self.normal = server.normal(case)
        self.from_byte = len(server.log_text())

    def run(self):
        """The exchange; what is compared."""
        seen = {"status": "hangs"}
        with suppress(TimeoutError):
            try:
                self.converse(seen)
            except Truncated as broken:
                seen["status"] = "reset" if broken.response is None else "truncated"
            except ConnectionError:
                seen["status"] = "reset"
        if self.case.log and isinstance(seen["status"], int):
            seen["log"] = self.log_lines()
        return seen

    def converse(self, seen):
        """Says what the case says, and notes the answer."""
        case = self.case
        if case.drive:
            seen["body"] = self.normal.value(case.drive(self))
            seen["status"] = 200
        elif case.raw is not None:
            self.note(self.raw(self.server.fill(case.raw.decode("latin-1"), case).encode("latin-1")), seen)
        else:
            self.note(self.request(case.method, case.path, case.send, case.body), seen)

    def note(self, response, seen):
        """Notes what the case wants compared."""
        seen["status"] = response.status
        if self.case.headers:
            seen["headers"] = {
                name: [self.normal.text(value) for value in response.all(name)] for name in self.case.headers
            }
        if self.case.compare_body:
            seen["body"] = self.body_of(response)

    def body_of(self, response):
        """The normalised body of an answer."""
        return self.normal.body(response.body, response.header("Content-Type"))

    # -- for conversations

    @staticmethod
    def wait(condition, watchdog):
        """Waits until `condition()` is true."""
        return wait_until(condition, "a condition of the case", watchdog)

    def target(self, path):
        """The request target of a path of the case."""
        path = self.server.fill(path, self.case)
        return path if path.startswith("/") else f"/{self.case.id}/{path}"

    @property
    def host(self):
        """The value of the Host header."""
        return self.server.host(self.case) if self.case.vhost is not None else f"127.0.0.1:{self.server.port}"

    def connect(self, port=None):
        """A connection, to the server or to the case's own port."""
        return Connection(port or self.server.port, timeout=PATIENCE)

    def own_port(self):
        """The case's own port."""
        return self.server.own_port(self.case)

    def request(self, method="GET", path="", send=(), body=None, connection=None):
        """An exchange on a connection of its own, or on the one given."""
        if connection is not None:
            return connection.request(method, self.target(path), send, body, self.host)
        with self.connect() as own:
            return own.request(method, self.target(path), [*send, ("Connection", "close")], body, self.host)

    def ask(self, path="", **more):
        """[status, body] of a request."""
        response = self.request(path=path, **more)
        return [response.status, self.body_of(response)]

    def raw(self, data):
        """Sends bytes, and reads an answer."""
        with self.connect() as connection:
            connection.send(data)
            return connection.response()

    def exchange(self, data, port=None, half_close=True):
        """Sends bytes to a port that may not speak HTTP; what comes until it closes."""
        with self.connect(port or self.own_port()) as connection:
            connection.send(data)
            if half_close:
                connection.socket.shutdown(socket.SHUT_WR)
            got = b""
            while piece := connection.socket.recv(65536):
                got += piece
            return got

    def log_lines(self, pattern=None, wait=None):
        """The case's lines of the log, normalised, from the exchange's beginning on."""
        pattern = pattern or (re.escape(self.case.mark) if self.case.log in (True, False) else self.case.log)
        wait = self.case.log_wait if wait is None else wait

        def lines():
            text = self.server.log_text()[self.from_byte:]
            return [line for line in text.splitlines() if re.search(pattern, line)]

        with suppress(TimeoutError):
            wait_until(lambda: len(lines()) >= wait, "lines of the log", watchdog=LOG_PATIENCE if wait else 1)
        mark = self.normal.text(self.case.mark)
        return [self.normal.log_line(line).replace(mark, "") for line in lines()]


def answered(look):
    """A conversation: a request, and what a function says of its answer."""
    return lambda talk: talk.normal.value(look(talk.request()))


def logs(pattern, count=1):
    """A conversation: a request, then the last part (after ": ") of the lines of the log that match."""
    def drive(talk):
        status, body = talk.ask()
        found = talk.log_lines(pattern, wait=count)
        return [status, body if isinstance(body, list) else None, [line.rpartition(": ")[2] for line in found]]
    return drive


class Servers:
    """At most one server of each flavour runs at a time; what mod_python answered is kept."""

    def __init__(self, stage):
        self.stage = stage
        self.running = {}
        self.answers = {}
        self.failed = set()
        self.troubles = []

    def of(self, flavour, mpm, group):
        """The server, started if need be."""
        now = self.running.get(flavour)
        if now is None or (now.mpm, now.group.name) != (mpm, group.name):
            self.stop(flavour)
            if (flavour, mpm, group.name) in self.failed:
                raise NoServer(f"{flavour} did not start")
            now = CaseServer(group, mpm=mpm, flavour=flavour, stage=self.stage)
            try:
                now.start()
            except RuntimeError as error:
                now.remove()
                self.failed.add((flavour, mpm, group.name))
                raise NoServer(str(error)) from error
            self.running[flavour] = now
        return now

    def ours(self, mpm, group, case):
        """What Vivarium answers."""
        return self.of("vivarium", mpm, group).ask(case)

    def theirs(self, group, case, again=False):
        """What mod_python answers, under event; asked anew if `again`."""
        key = group.name, case.id
        if again or key not in self.answers:
            self.answers[key] = self.of("mod_python", "event", group).ask(case)
        return self.answers[key]

    def complaints(self, flavour, case):
        """The last lines of a running server's log that name the case, for a message."""
        server = self.running.get(flavour)
        lines = server.log_text().splitlines() if server else []
        return ["    log: " + line[:400] for line in lines if case.module in line or case.mark in line][-2:]

    def stop(self, flavour):
        """Stops a server; what it leaves behind is a trouble."""
        server = self.running.pop(flavour, None)
        if server is None:
            return
        try:
            server.finish()
        except (AssertionError, TimeoutError) as error:
            if flavour == "vivarium":
                self.troubles.append(f"{server.group.name} under {server.mpm}: {error}")

    def finish(self):
        """Stops all."""
        for flavour in list(self.running):
            self.stop(flavour)
