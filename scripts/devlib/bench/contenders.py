"""Who is measured: each in an httpd of its own, configured for the same work."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys

from .. import artefacts
from ..httpd import DEBIAN_MOD_PYTHON, Httpd, free_port, poll
from . import works

#: The least number of threads in a child. There is one for every connection in each child: the MPM closes connections
#: that are kept alive when it runs short of threads.
THREADS = 64


def _children(count, threads):
    """The MPM's settings for a fixed number of children."""
    return f"""
StartServers {count}
ServerLimit {count}
ThreadLimit {threads}
ThreadsPerChild {threads}
MaxRequestWorkers {count * threads}
MinSpareThreads {threads}
MaxSpareThreads {(count + 1) * threads}
"""


#: What Debian's mpm_event.conf says.
DEBIAN_EVENT = """
StartServers 2
MinSpareThreads 25
MaxSpareThreads 75
ThreadLimit 64
ThreadsPerChild 25
MaxRequestWorkers 150
MaxConnectionsPerChild 0
"""

HTTPD = """
{mpm}
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot "{folder}"
<Directory "{folder}">
    Require all granted
</Directory>
Listen 127.0.0.1:{tls}
Protocols h2 http/1.1
<VirtualHost 127.0.0.1:{tls}>
    SSLEngine on
    SSLCertificateFile "{folder}/cert.pem"
    SSLCertificateKeyFile "{folder}/key.pem"
    {tls_more}
</VirtualHost>
"""

HANDLERS = """
<Location "/">
    PythonPath "['{folder}'] + sys.path"
</Location>
<LocationMatch "^/(hello|headers|large|stream|post|cpu)$">
    SetHandler mod_python
</LocationMatch>
<Location "/hello">
    PythonHandler benchmark::hello
</Location>
<Location "/headers">
    PythonHandler benchmark::headers
</Location>
<Location "/large">
    PythonHandler benchmark::large
</Location>
<Location "/stream">
    PythonHandler benchmark::stream
</Location>
<Location "/post">
    PythonHandler benchmark::post
</Location>
<Location "/cpu">
    PythonHandler benchmark::cpu
</Location>
<Directory "{folder}/access">
    PythonAccessHandler benchmark::allowed
</Directory>
PythonOutputFilter benchmark::upper UPPER
<Directory "{folder}/filter">
    SetOutputFilter UPPER
</Directory>
<Location "/stack">
    SetHandler mod_python
    AuthType Basic
    AuthName bench
    Require valid-user
    PythonAccessHandler benchmark::allowed
    PythonAuthenHandler benchmark::known
    PythonFixupHandler benchmark::allowed
    PythonHandler benchmark::hello
    PythonLogHandler benchmark::allowed
</Location>
"""

WSGI_HANDLER = """
<Location "/wsgi">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application application
</Location>
"""

MOD_WSGI = """
WSGIScriptAlias / "{folder}/benchmark.wsgi"
WSGIApplicationGroup %{{GLOBAL}}
"""

MOD_WSGI_DAEMON = """
WSGISocketPrefix {folder}/wsgi
WSGIDaemonProcess bench processes={processes} threads={threads}
WSGIProcessGroup bench
"""

PROXY = """
ProxyPass "/" "{scheme}://127.0.0.1:{port}/" enablereuse=on
"""


@dataclasses.dataclass
class Contender:
    """One server: an httpd, and perhaps a program behind it."""

    name: str
    kinds: tuple
    httpd: Httpd
    tls: int
    behind: list = None
    port_behind: int = 0
    process: object = None
    #: The works that it does here; None: all that it can.
    only: tuple = None

    def url(self, work):
        """Where the work is done."""
        return self.httpd.url if work.scheme == "http" else f"https://127.0.0.1:{self.tls}"

    def does(self, work_name, work):
        """Whether it takes part in a work."""
        return bool(set(work.kinds) & set(self.kinds)) and (self.only is None or work_name in self.only)

    def start(self):
        """Starts everything."""
        if self.behind:
            environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                self.behind, env=environment, cwd=self.httpd.prefix / "app", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )
        self.httpd.start()

    def stop(self):
        """Stops everything and removes its files."""
        self.httpd.stop()
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.httpd.remove()

    def roots(self):
        """The processes whose descendants do the work."""
        return [self.httpd.process.pid] + ([self.process.pid] if self.process else [])


def certificate(folder):
    """A certificate for the TLS works."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )


def _make(name, kinds, threads, module=None, extra=(), tls_more="", mpm=None):
    httpd = Httpd("event", name="bench", loglevel="warn", extra_modules=("ssl", "socache_shmcb", "http2",
                  "authn_core", "authz_user", *extra))
    httpd.module = module(httpd) if callable(module) else module
    folder, tls = httpd.prefix / "app", free_port()
    folder.mkdir()
    works.write_files(folder)
    certificate(folder)
    httpd.add(HTTPD.format(folder=folder, tls=tls, tls_more=tls_more, mpm=mpm or _children(2, threads)))
    return Contender(name, kinds, httpd, tls), folder


def _vivarium(processes):
    def make(threads=THREADS):
        made, folder = _make(
            f"vivarium, {processes} worker{'s' * (processes > 1)}", ("handlers", "wsgi handler"), threads,
            module=lambda httpd: artefacts.module(stage=httpd.prefix / "build"),
        )
        conf = made.httpd.prefix / "vivariumd.toml"
        conf.write_text(f"[default]\nprocesses = {processes}\n")
        made.httpd.environment["VIVARIUM_CONFIG"] = str(conf)
        made.httpd.add(HANDLERS.format(folder=folder) + WSGI_HANDLER)
        return made
    return make


def _mod_python(name, children=2, mpm=None):
    def make(threads=THREADS):
        made, folder = _make(name, ("handlers",), threads, module=DEBIAN_MOD_PYTHON, mpm=mpm or _children(children, threads))
        made.httpd.add(HANDLERS.format(folder=folder))
        return made
    return make


def _mod_wsgi(name, module, daemon=None):
    def make(threads=THREADS):
        made, folder = _make(name, ("wsgi",), threads)
        made.httpd.add(f"LoadModule wsgi_module {module()}" + MOD_WSGI.format(folder=folder))
        if daemon:
            made.httpd.add(MOD_WSGI_DAEMON.format(folder=folder, processes=daemon[0], threads=daemon[1]))
        return made
    return make


def _debian_mod_wsgi():
    return "/usr/lib/apache2/modules/mod_wsgi.so"


def _pypi_mod_wsgi():
    """mod_wsgi of PyPI, built once for the system's Python."""
    place = artefacts.REPO / "target/bench/mod_wsgi"
    if not list(place.glob("mod_wsgi/server/mod_wsgi*.so")):
        subprocess.run(
            ["/usr/bin/python3", "-m", "pip", "install", "-q", "--target", str(place), "mod_wsgi>=5"],
            check=True, stdout=sys.stderr,
        )
    return next(place.glob("mod_wsgi/server/mod_wsgi*.so"))


def _behind(name, scheme, extra, command):
    def make(threads=THREADS):
        made, folder = _make(name, ("wsgi",), threads, extra=("proxy", extra))
        port = made.port_behind = free_port()
        made.httpd.add(PROXY.format(scheme=scheme, port=port))
        made.behind = [part.format(port=port, folder=folder) for part in command]
        if not shutil.which(made.behind[0]):
            raise FileNotFoundError(made.behind[0])
        return made
    return make


def _c_module(threads=THREADS):
    made, folder = _make("a module in C", ("c",), threads)
    source = folder / "mod_bench_c.c"
    source.write_text(works.C_MODULE)
    subprocess.run(["apxs", "-c", str(source)], check=True, capture_output=True, cwd=folder)
    made.httpd.add(f'LoadModule bench_c_module {folder}/.libs/mod_bench_c.so\n'
                   '<Location "/">\nSetHandler bench-c\n</Location>')
    return made


REFERENCE = "mod_wsgi daemon 1x15"

MAKERS = {
    "vivarium": _vivarium(2),
    "vivarium-1": _vivarium(1),
    "vivarium-4": _vivarium(4),
    "mod_python": _mod_python("mod_python"),
    "mod_python-1": _mod_python("mod_python, 1 child", children=1),
    "mod_python-debian": _mod_python("mod_python, Debian's event MPM", mpm=DEBIAN_EVENT),
    "mod_wsgi-daemon": _mod_wsgi(REFERENCE, _debian_mod_wsgi, (1, 15)),
    "mod_wsgi-embedded": _mod_wsgi("mod_wsgi embedded", _debian_mod_wsgi),
    "mod_wsgi6-daemon": _mod_wsgi("mod_wsgi of PyPI, daemon 1x15", _pypi_mod_wsgi, (1, 15)),
    "mod_wsgi6-embedded": _mod_wsgi("mod_wsgi of PyPI, embedded", _pypi_mod_wsgi),
    "uwsgi": _behind("uwsgi by mod_proxy_uwsgi", "uwsgi", "proxy_uwsgi", (
        "/usr/bin/uwsgi", "--plugin", "python3", "--socket", "127.0.0.1:{port}", "--wsgi-file",
        "{folder}/application.py", "--processes", "2", "--threads", "8", "--disable-logging", "--die-on-term")),
    "gunicorn": _behind("gunicorn by mod_proxy_http", "http", "proxy_http", (
        "/usr/bin/gunicorn", "-b", "127.0.0.1:{port}", "-w", "2", "--threads", "8", "application:application")),
    "c": _c_module,
}

#: What a run without options measures.
USUAL = ("vivarium", "mod_python", "mod_wsgi-daemon", "mod_wsgi-embedded", "uwsgi", "gunicorn", "c")

#: Who takes part in one work beside them, if nobody in particular was asked for.
BESIDE = {"cpu": ("vivarium-1", "vivarium-4", "mod_python-1", "mod_python-debian")}


def wait_until_right(contender, chosen):
    """Waits until the program behind is there, then checks every answer. `chosen` is {name: work}."""
    def there():
        return subprocess.run(
            ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", contender.httpd.url + "/hello"],
            capture_output=True, check=False,
        ).stdout.startswith(b"200")

    if contender.behind:
        poll(there, 60, f"{contender.name} to answer")
    for name, work in chosen.items():
        if contender.does(name, work):
            works.check(contender.url(work), work)
