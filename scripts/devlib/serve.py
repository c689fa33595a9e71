"""The work of scripts/serve once everything is built: see `scripts/serve --help`."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from . import artefacts
from .httpd import MPMS, Httpd, free_port

EXAMPLES = ("hello", "echo", "streaming", "output_filter", "guestbook")

APP = """\
DocumentRoot "{folder}"
<Directory "{folder}">
    Require all granted
    SetHandler mod_python
    PythonHandler {module}
    PythonDebug On
</Directory>
"""


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/serve",
        description="Builds the project and serves a Python handler with Debian's httpd, in the foreground.",
    )
    parser.add_argument(
        "app", nargs="?", metavar="APP.py|DIR",
        help="a module with a function handler(req), or a folder with handler.py in it (default: the examples)",
    )
    parser.add_argument("--port", type=int, help="default: 8080, or the next free one")
    parser.add_argument("--mpm", choices=MPMS, default="event")
    parser.add_argument("--log", metavar="FILE", help="where httpd's error log goes (default: to the terminal)")
    return parser.parse_args()


class Folder:
    """A folder with handlers: itself, or a copy that follows it when the user that Python runs as cannot read it.

    With `only`, that file is the only one of the folder that is copied: the others were not asked for.
    """

    def __init__(self, source, stage, only=None):
        self.source = source
        self.served = source
        self.only = only
        if not all(artefacts.readable(p) for p in (source, only or source / "handler.py")):
            self.served = stage / source.name
            self.served.mkdir(parents=True)
            self.follow()

    @property
    def copied(self):
        """Whether a copy is served."""
        return self.served != self.source

    def follow(self):
        """Brings a copy up to date."""
        if self.copied and self.only:
            artefacts.copy_if_changed(self.only, self.served / self.only.name)
        elif self.copied:
            artefacts.copy_tree(self.source, self.served)


def folder_and_module(app):
    """The folder to serve and the handler module's name."""
    path = Path(app).resolve()
    if path.is_dir():
        path = path / "handler.py"
    if not path.is_file():
        raise SystemExit(f"serve: there is no {path}")
    if not path.stem.isidentifier():
        raise SystemExit(f"serve: {path.name} is no name of a Python module")
    return path.parent, path.stem


def follow_log(path, stop):
    """Copies what is appended to the log to the terminal."""
    with open(path, "rb") as log:
        while True:
            last = stop.is_set()
            data = log.read()
            if data:
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()
            elif last:
                return
            else:
                stop.wait(0.2)


def main():
    """Serves until it is interrupted."""
    args = arguments()
    app = folder_and_module(args.app) if args.app else None
    httpd = Httpd(args.mpm, args.port or free_port(8080), name="serve")
    try:
        serve(httpd, args, app)
    finally:
        httpd.stop()
        httpd.remove()
    print("serve: stopped", flush=True)


def serve(httpd, args, app):
    """Configures, starts and watches it."""
    httpd.module = artefacts.module(stage=httpd.prefix / "build")
    if args.log:
        httpd.log = Path(args.log).resolve()
    httpd.log.touch()
    stage = httpd.prefix / "handlers"
    if app:
        source, module = app
        edit = source / f"{module}.py"
        folders = [Folder(source, stage, None if Path(args.app).is_dir() else edit)]
        httpd.add(APP.format(folder=folders[0].served, module=module))
    else:
        folders = [Folder(artefacts.REPO / "examples" / name, stage) for name in EXAMPLES]
        for folder in folders:
            httpd.add(f'Define HERE "{folder.served}"\nInclude "{folder.served}/vivarium.conf"')
        edit = folders[0].source / "handler.py"

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        httpd.start()
    except RuntimeError as error:
        raise SystemExit(f"serve: {error}") from None
    print_help(httpd, edit, examples=not app, copied=any(f.copied for f in folders), to_file=args.log)
    log_done = threading.Event()
    log_thread = threading.Thread(target=follow_log, args=(httpd.log, log_done))
    if not args.log:
        log_thread.start()
    try:
        while not stop.wait(0.3):
            if httpd.process.poll() is not None:
                raise SystemExit(f"serve: httpd ended with status {httpd.process.returncode}, see {httpd.log}")
            for folder in folders:
                folder.follow()
    finally:
        httpd.stop()
        log_done.set()
        if not args.log:
            log_thread.join()


def print_help(httpd, edit, examples, copied, to_file):
    """Says what can be done now."""
    try:
        shown = edit.relative_to(Path.cwd())
    except ValueError:
        shown = edit
    lines = [
        "",
        f"  Serving    {httpd.url}/   (httpd with the {httpd.mpm} MPM, Ctrl-C stops it)",
        f"  Edit       {shown}   then reload the page",
    ]
    if copied:
        lines.append(
            f"             ({artefacts.python_user()} cannot read that place: a copy is served that follows your edits)"
        )
    if examples:
        lines += [
            f"  Try        curl {httpd.url}/hello",
            f"             curl --data-binary 'some text' {httpd.url}/echo",
            f"             curl --no-buffer {httpd.url}/streaming",
            f"             curl {httpd.url}/shout/page.txt      (an output filter)",
            f"             {httpd.url}/guestbook/ in a browser (publisher, PSP, sessions)",
        ]
    else:
        lines.append(f"  Try        curl {httpd.url}/")
    lines += [
        f"  Python     runs as {artefacts.python_user()}, in processes of its own",
        f"  Error log  {httpd.log}" + ("" if to_file else "   and below"),
        "",
    ]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    os.umask(0o022)
    main()
