"""One httpd, tenants on different Pythons: two virtual environments with different versions of a package, and two builds."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from conftest import open_to_tenants, skip_where_impossible
from harness.wait import wait_until

SYSTEM = "/usr/bin/python3"
DESCRIBE = "import sys, sysconfig; print(sys.version, sysconfig.get_config_var('ABIFLAGS'), sysconfig.get_platform(), sys.base_prefix)"

HANDLER = """\
import json, os, sys, sysconfig
from mod_python import apache

def handler(req):
    try:
        import vivtestpkg
        package = vivtestpkg.VERSION
    except ImportError:
        package = None
    req.write(json.dumps({
        "package": package, "version": list(sys.version_info[:3]), "prefix": sys.prefix, "base": sys.base_prefix,
        "build": sys.version, "debug": hasattr(sys, "gettotalrefcount"), "uid": os.getuid(),
    }))
    return apache.OK
"""


def described(python):
    """What tells one build from another; None if it does not run, is too old, or is not CPython."""
    check = "import sys; sys.exit(sys.implementation.name != 'cpython' or sys.version_info < (3, 9))"
    try:
        if subprocess.run([python, "-I", "-c", check], capture_output=True, check=False).returncode:
            return None
        return subprocess.run([python, "-I", "-c", DESCRIBE], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def other_builds():
    """Executables of other builds than the system's Python (Debian's debug build, other versions, pyenv's), oldest first."""
    candidates = sorted(Path("/usr/bin").glob("python3.*[0-9]")) + sorted(Path("/usr/bin").glob("python3*-dbg"))
    candidates += sorted(Path("/usr/local/bin").glob("python3.*[0-9]")) + sorted(Path("/opt").glob("python*/bin/python3"))
    candidates += sorted(Path(os.environ.get("PYENV_ROOT", "/root/.pyenv")).glob("versions/3.*/bin/python3"))
    own, seen = described(SYSTEM), set()
    found = []
    for path in candidates:
        said = described(str(path))
        if said and said != own and said not in seen:
            seen.add(said)
            found.append(([int(part) for part in said.split()[0].rstrip("+").split(".")[:2]], str(path)))
    return [path for _, path in sorted(found)]


@pytest.fixture
def make_site(tmp_path):
    """Makes sites with two tenants, `closed` and `open`, of the given Pythons."""
    skip_where_impossible()
    from tenant_site import TenantSite  # pylint: disable=import-outside-toplevel

    open_to_tenants(tmp_path)
    made = []

    def make(pythons):
        site = TenantSite(stage=tmp_path, phases=False)
        made.append(site)
        for name, python in pythons(site).items():
            path = site.tenants / f"{name}.toml"
            # The environment's own prefix is visible by itself; the build's that it was made of is named.
            base = subprocess.run([python, "-I", "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True)
            text = path.read_text().replace("read_only = [", f'read_only = ["{base.stdout.strip()}", ')
            path.write_text(f'python = "{python}"\n' + text)
        for root in site.roots.values():
            (root / "attack.py").write_text(HANDLER)
        site.server.start()
        return site

    yield make
    for site in made:
        site.finish()


def environment(where, python, version):
    """A virtual environment with a package of that version in it; its Python."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(where)], check=True, capture_output=True)
    (packages,) = where.glob("lib/python*/site-packages")
    (packages / "vivtestpkg").mkdir()
    (packages / "vivtestpkg" / "__init__.py").write_text(f'VERSION = "{version}"\n')
    subprocess.run(["chmod", "-R", "a+rX", str(where)], check=True)
    return where / "bin" / "python"


def asked(site, host):
    """What a tenant's Python says of itself."""
    answer = site.get(host, "/page")
    assert answer.status == 200, (answer, site.server.log_text()[-3000:])
    return json.loads(answer.body)


def both(site):
    """Both tenants, at the same time on their own workers."""
    first = {host: asked(site, host) for host in ("closed", "open")}
    # None of the two took the other's place.
    assert {host: asked(site, host) for host in ("closed", "open")} == first
    wait_until(lambda: len(site.server.log_lines("VIV0010")) >= 2, "a worker of each")
    assert first["closed"]["uid"] == site.users["closed"].pw_uid and first["open"]["uid"] == site.users["open"].pw_uid
    return first["closed"], first["open"]


def test_two_virtual_environments(make_site):
    """Each tenant imports the package's version of its own environment; the built-in one has none."""
    def pythons(site):
        return {name: environment(site.site / f"venv-{name}", SYSTEM, version) for name, version in (("closed", "1.0"), ("open", "2.0"))}

    site = make_site(pythons)
    first, second = both(site)
    assert (first["package"], second["package"]) == ("1.0", "2.0")
    assert first["prefix"] == str(site.site / "venv-closed") and second["prefix"] == str(site.site / "venv-open")
    assert asked(site, "default")["package"] is None


def test_two_builds(make_site):
    """The system's Python beside the oldest and the newest other build of this machine, each in a virtual environment."""
    builds = other_builds()
    if not builds:
        pytest.skip("this machine has one Python build only: apt-get install python3-dbg for another one")
    for build in {builds[0], builds[-1]}:
        site = make_site(lambda site, build=build: {
            "closed": environment(site.site / "venv-closed", SYSTEM, "system"),
            "open": environment(site.site / "venv-open", build, "other"),
        })
        first, second = both(site)
        assert (first["package"], second["package"]) == ("system", "other")
        assert (first["build"], first["debug"], first["base"]) != (second["build"], second["debug"], second["base"]), build
        assert asked(site, "default")["package"] is None
