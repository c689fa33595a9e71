"""The command ``mod_python``: ``python3 -m mod_python``, ``scripts/mod_python`` in the source tree.

``create DIR``
    makes a server root with a configuration that is ready to start
``genconfig SRC``
    runs a configuration written in Python, and prints what httpd reads
``start | stop | restart CONF``
    has httpd started, stopped (when its requests are done), restarted (without losing one) with that configuration
``version``
    says what is in use

Exit status: 0; 1 if something went wrong, with a line about it on standard error; 2 for wrong usage; that of httpd
for ``start``, ``stop`` and ``restart``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import runpy
import subprocess
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from mod_python import _skeleton, mp_version

_SIGNALS = {"start": "start", "stop": "graceful-stop", "restart": "graceful"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="mod_python", description="Sets up and runs an httpd with Python in it.")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)

    create = commands.add_parser("create", help="make a server root that is ready to start")
    create.add_argument("dir", help="the directory to make")
    create.add_argument(
        "--listen", action="append", metavar="[ADDRESS:]PORT", help="where httpd listens; may be repeated (8888)"
    )
    create.add_argument(
        "--pythonpath", action="append", default=[], metavar="DIR[:DIR...]", help="where modules are found"
    )
    create.add_argument(
        "--pythonhandler", default="mod_python.publisher", metavar="HANDLER", help="what answers (mod_python.publisher)"
    )
    create.add_argument(
        "--pythonoption", action="append", default=[], metavar="'KEY VALUE'", help="a PythonOption; may be repeated"
    )

    genconfig = commands.add_parser("genconfig", help="print the configuration that a Python program stands for")
    genconfig.add_argument("src", help="the program, such as conf/httpd_conf.py")

    for name, signal in _SIGNALS.items():
        command = commands.add_parser(name, help=f"httpd -k {signal}")
        command.add_argument("conf", help="httpd's configuration file")

    commands.add_parser("version", help="say what is in use")
    return made


def create(arguments: argparse.Namespace) -> int:
    """``mod_python create``: also renders the configuration, so that the server can be started at once."""
    path: List[str] = [each for given in arguments.pythonpath for each in given.split(os.pathsep) if each]
    program = _skeleton.write_basic_config(
        arguments.dir,
        listen=arguments.listen or ["8888"],
        pythonhandler=arguments.pythonhandler,
        pythonpath=path,
        pythonoptions=arguments.pythonoption,
    )
    if program is None:
        return 1
    conf = Path(program).with_name("httpd.conf")
    conf.write_text(rendered(program))
    print(f"Writing '{conf}'.", file=sys.stderr)
    print(f"Start it:  mod_python start {conf}\nPages:     {Path(arguments.dir).absolute() / 'public'}")
    return 0


def rendered(program: str) -> str:
    """What a configuration program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(program, run_name="__main__")
    return out.getvalue()


def genconfig(program: str) -> int:
    """``mod_python genconfig``: nothing is printed if the program fails."""
    sys.stdout.write(rendered(program))
    return 0


def control(signal: str, conf: str) -> int:
    """``mod_python start``, ``stop``, ``restart``."""
    if not os.path.isfile(conf):
        return fail(f"there is no {conf}")
    done = subprocess.run([_skeleton.httpd_program(), "-f", os.path.abspath(conf), "-k", signal], check=False)
    return done.returncode


def version() -> int:
    """``mod_python version``: each line for itself, even where something is missing."""

    def found(look: object) -> str:
        try:
            return str(look())  # type: ignore[operator]
        except _skeleton.NotFound as missing:
            return str(missing)

    def httpd() -> str:
        done = subprocess.run([_skeleton.httpd_program(), "-v"], capture_output=True, text=True, check=False)
        return (done.stdout.splitlines() or ["unknown"])[0].partition(":")[2].strip()

    print(f"mod_python:  {mp_version} (interface)")
    print(f"Python:      {platform.python_version()} ({sys.executable})")
    print(f"httpd:       {found(httpd)}")
    print(f"module:      {found(_skeleton.our_module)}")
    print(f"package:     {Path(__file__).resolve().parent}")
    return 0


def fail(reason: str) -> int:
    """Says what is wrong."""
    print(f"mod_python: {reason}", file=sys.stderr)
    return 1


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command."""
    given = parser().parse_args(arguments)
    try:
        if given.command == "create":
            return create(given)
        if given.command == "genconfig":
            return genconfig(given.src)
        if given.command == "version":
            return version()
        return control(_SIGNALS[given.command], given.conf)
    except (OSError, _skeleton.NotFound) as error:
        return fail(str(error))


if __name__ == "__main__":
    sys.exit(main())
