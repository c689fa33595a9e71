"""A server root to begin with: what ``mod_python create`` and ``httpdconf.write_basic_config`` make."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterable, List, Optional, Sequence, Tuple

_HERE = Path(__file__).resolve().parent

#: httpd's program goes by these names.
_PROGRAMS = ("apache2", "httpd", "/usr/sbin/apache2", "/usr/sbin/httpd", "/usr/local/apache2/bin/httpd")
#: Where its modules are, if nobody says so.
_MODULES = (
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/lib/httpd/modules",
    "/usr/local/apache2/modules",
)
#: Where our module is: of an installation, and of a build tree that this package lies in.
_OURS = ("/usr/lib/vivarium/libmod_vivarium.so", "/usr/local/lib/vivarium/libmod_vivarium.so")
_WANTED = ("authz_core", "authz_host", "mime", "dir", "alias", "env", "setenvif", "log_config", "reqtimeout", "unixd")
_MPMS = ("mpm_event", "mpm_worker", "mpm_prefork")


class NotFound(Exception):
    """Something that is needed is not where it could be looked for."""


def httpd_program() -> str:
    """httpd: the environment's ``HTTPD``, or where it usually is."""
    named = os.environ.get("HTTPD")
    for name in [named] if named else _PROGRAMS:
        found = shutil.which(name)
        if found:
            return found
    raise NotFound(f"httpd is not found ({named or ', '.join(_PROGRAMS)}): name it in the environment variable HTTPD")


def our_module() -> str:
    """``libmod_vivarium.so``: the environment's ``VIVARIUM_MODULE``, of the build tree, or of an installation."""
    named = os.environ.get("VIVARIUM_MODULE")
    built = _HERE.parents[2] / "target/release/libmod_vivarium.so"
    for place in [named] if named else [str(built), *_OURS]:
        if os.path.isfile(place):
            return place
    raise NotFound("libmod_vivarium.so is not found: name it in the environment variable VIVARIUM_MODULE")


def modules_directory() -> str:
    """The directory of httpd's own modules."""
    named = os.environ.get("HTTPD_MODULES")
    for place in [named] if named else _MODULES:
        if os.path.isdir(place):
            return place
    raise NotFound("httpd's modules are not found: name their directory in the environment variable HTTPD_MODULES")


def _built_in(program: str) -> str:
    done = subprocess.run([program, "-l"], capture_output=True, text=True, check=False)
    return done.stdout


def load_modules() -> List[str]:
    """The arguments of the ``LoadModule`` lines that a small server needs, an MPM first."""
    directory, known = modules_directory(), _built_in(httpd_program())

    def there(name: str) -> bool:
        return os.path.isfile(f"{directory}/mod_{name}.so")

    wanted = [name for name in _WANTED if f"mod_{name}.c" not in known and there(name)]
    if not any(f"{mpm[4:]}.c" in known for mpm in _MPMS):
        wanted = [next((mpm for mpm in _MPMS if there(mpm)), _MPMS[0]), *wanted]
    return [f'{name}_module "{directory}/mod_{name}.so"' for name in wanted]


def write_basic_config(
    server_root: str,
    listen: Any = "0.0.0.0:8888",  # noqa: S104 (mod_python's default)
    conf: str = "conf",
    logs: str = "logs",
    htdocs: str = "public",
    pythonhandler: str = "mod_python.publisher",
    pythonpath: Sequence[str] = (),
    pythonoptions: Sequence[str] = (),
    mp_comments: Sequence[str] = (),
    conf_name: str = "httpd_conf.py",
    createdirs: bool = True,
    replace_config: bool = False,
) -> Optional[str]:
    """Makes a server root: directories, and a Python program ``conf/httpd_conf.py`` that prints its configuration.

    Gives the path of the program; ``None`` if it is there already and ``replace_config`` is not set. The directory
    ``htdocs`` holds what is served, ``pythonpath`` directories with modules, ``pythonoptions`` are texts such as
    ``"key value"``.
    """
    root = Path(server_root).absolute()
    if createdirs:
        for directory in (root, root / htdocs, root / conf, root / logs):
            if not directory.is_dir():
                _say(f"Creating directory '{directory}'.")
                directory.mkdir(parents=True)
    types = root / conf / "mime.types"
    if not types.exists() and os.path.isfile("/etc/mime.types"):
        _say(f"Copying '/etc/mime.types' to '{types}'")
        shutil.copyfile("/etc/mime.types", types)
    program = root / conf / conf_name
    if program.exists() and not replace_config:
        _say(f"'{program}' is there already: it stays as it is.")
        return None
    made = _configuration(root, listen, conf, logs, htdocs, pythonhandler, pythonpath, pythonoptions, mp_comments)
    _say(f"Writing '{program}'.")
    program.write_text(
        _PROGRAM.format(python=sys.executable or "/usr/bin/python3", package=str(_HERE.parent), config=made)
    )
    program.chmod(0o755)
    return str(program)


_PROGRAM = """#!{python}

# Prints a configuration for httpd. It was made by `mod_python create`; edit it as you like, then
#     mod_python genconfig <this file> > <httpd.conf>

import sys

sys.path.insert(0, {package!r})

from mod_python.httpdconf import *  # noqa: E402, F403

config = {config!r}

print(config)
"""


def _configuration(
    root: Path,
    listen: Any,
    conf: str,
    logs: str,
    htdocs: str,
    handler: str,
    path: Sequence[str],
    options: Sequence[str],
    comments: Sequence[str],
) -> Any:
    from mod_python import httpdconf as h

    def quoted(place: Any) -> str:
        return f'"{place}"'

    main: List[Any] = [
        h.Comment("\nThe server:\n\n"),
        h.ServerRoot(quoted(root)),
        h.DefaultRuntimeDir(quoted(root / logs)),
        h.PidFile(f"{logs}/httpd.pid"),
        h.Mutex(f"file:{root / logs}") if " " not in str(root) else h.Mutex("default"),
        *(h.Listen(each) for each in _listen(listen)),
        h.ServerName("127.0.0.1"),
        *_user(h),
        h.LogFormat('"%h %l %u %t \\"%r\\" %>s %b \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined'),
        h.CustomLog(f"{logs}/access_log combined"),
        h.ErrorLog(f"{logs}/error_log"),
        h.LogLevel("warn"),
        *([h.TypesConfig(f"{conf}/mime.types")] if (root / conf / "mime.types").exists() else []),
        h.DocumentRoot(quoted(root / htdocs)),
    ]
    ours: List[Any] = [
        h.Comment("\nPython:\n\n"),
        h.LoadModule(f"python_module {quoted(our_module())}"),
        *(h.Comment(comment) for comment in comments),
    ]
    served = h.Directory(
        quoted(root / htdocs),
        h.Require("all granted"),
        h.SetHandler("mod_python"),
        h.Comment("PythonDebug On"),
        h.PythonHandler(handler),
    )
    if path:
        served.append(h.PythonPath(f"{[str(Path(each).absolute()) for each in path]!r} + sys.path"))
    for option in options:
        served.append(h.PythonOption(option))
    closed = h.Directory("/", h.AllowOverride("None"), h.Require("all denied"))
    return h.Container(
        h.Comment("\nMade by a program: edit that, and make this anew with `mod_python genconfig`.\n\n"),
        h.Container(h.Comment("\nModules:\n\n"), *(h.LoadModule(each) for each in load_modules())),
        h.Container(*main),
        closed,
        h.Container(*ours, served),
    )


def _listen(listen: Any) -> Iterable[str]:
    return [str(each) for each in listen] if isinstance(listen, (list, tuple)) else [str(listen)]


def _user(h: Any) -> Tuple[Any, ...]:
    """Whom httpd's children run as, if root starts it."""
    if os.geteuid() != 0:
        return ()
    import pwd

    for name in ("www-data", "apache", "httpd", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return (h.User(name), h.Group(f"#{found.pw_gid}"))
    return ()


def _say(text: str) -> None:
    print(text, file=sys.stderr)
