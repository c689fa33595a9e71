"""What `cargo build --release` made, at a place from which the user that Python runs as can read it."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
LIBRARIES = ("libmod_vivarium.so", "vivariumd", "lib_vivarium.so")
PACKAGES = Path("interp-daemon/python")


def httpd_user():
    """The user for httpd's children: www-data below root; None (no change of user) for a plain user."""
    return "www-data" if os.geteuid() == 0 else None


def python_user():
    """The user that handlers of the default tenant run as."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    try:
        return pwd.getpwnam("vivarium").pw_name
    except KeyError:
        return httpd_user()


def run_as_python_user(*command):
    """Runs a command as the user that Python will run as; returns its exit status."""
    extra = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam(python_user())
        extra = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return subprocess.run(command, cwd="/", check=False, **extra).returncode


def readable(path):
    """Whether the user that Python will run as can read the file or enter the folder."""
    return run_as_python_user("test", "-x" if Path(path).is_dir() else "-r", str(path)) == 0


def module(stage=None):
    """The path for `LoadModule python_module`: in the build tree, or in a copy of it below `stage` if the user that
    Python will run as cannot read the build tree. `VIVARIUM_MODULE` names another one, such as an installed one."""
    if os.environ.get("VIVARIUM_MODULE"):
        return Path(os.environ["VIVARIUM_MODULE"])
    built = REPO / "target/release"
    missing = [name for name in LIBRARIES if not (built / name).exists()]
    if missing:
        raise SystemExit(f"{built} has no {', '.join(missing)}: run cargo build --release first")
    if readable(built / LIBRARIES[-1]) and readable(REPO / PACKAGES):
        return built / LIBRARIES[0]
    if stage is None:
        raise SystemExit(f"{REPO} is not readable for {python_user()}")
    return copy_build(Path(stage))


def copy_build(root):
    """Lays the parts of the build tree that httpd needs below `root`; returns the module's path there."""
    built = REPO / "target/release"
    copy_tree(REPO / PACKAGES, root / PACKAGES)
    (root / "target/release").mkdir(parents=True, exist_ok=True)
    for name in LIBRARIES:
        copy_if_changed(built / name, root / "target/release" / name)
    return root / "target/release" / LIBRARIES[0]


def copy_tree(source, target):
    """Copies files that are new or changed, readable for everybody. Compiled Python is left out."""
    source, target = Path(source), Path(target)
    for folder, folders, files in os.walk(source):
        folders[:] = [f for f in folders if f != "__pycache__"]
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in files:
            copy_if_changed(Path(folder) / name, here / name)


def copy_if_changed(source, target):
    """Copies one file, in one step for whoever reads it, if it is not the same already."""
    now = source.stat()
    if target.exists():
        then = target.stat()
        if (then.st_mtime_ns, then.st_size) == (now.st_mtime_ns, now.st_size):
            return
    fresh = target.with_name(f".{target.name}.new")
    shutil.copy2(source, fresh)
    os.chmod(fresh, 0o755 if now.st_mode & 0o100 else 0o644)
    os.replace(fresh, target)
