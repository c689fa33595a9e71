"""What the administrator types: `vivarium check`, `reload`, `status`, with their exit codes."""

import os
import subprocess

import pytest

from arena import write
from devlib.artefacts import REPO


@pytest.fixture(name="vivarium")
def fixture_vivarium(arena):
    """Runs a command against the arena's supervisor; (exit code, output)."""
    def run(command, *more, user=None):
        where = {
            "check": ["--config", str(arena.base / "vivariumd.toml")],
            "reload": ["--run-dir", str(arena.base / "vivarium")],
            "status": ["--run-dir", str(arena.base / "vivarium")],
        }[command]
        extra = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        done = subprocess.run(
            [program, command, *where, *more], capture_output=True, text=True, check=False, cwd="/", **extra
        )
        return done.returncode, done.stdout + done.stderr
    # The build tree may be closed to other users.
    program = arena.base / "vivarium-command"
    program.write_bytes((REPO / "target/release/vivarium").read_bytes())
    os.chmod(program, 0o755)
    return run


def declare(arena, name, text):
    """A tenant's file; its path."""
    return write(arena.tenants / f"{name}.toml", text)


def test_check_says_what_each_tenant_gets(arena, vivarium):
    """Machine, configuration and tenants; the exit code follows the worst."""
    code, text = vivarium("check", "victim")
    assert f"victim: user {arena.victim.pw_name} (uid {arena.victim.pw_uid})" in text
    assert "no_new_privs" in text and "gets user, no_new_privs, capabilities" in text
    assert code in (0, 1), text
    wrong = declare(arena, "wrong", "user = 'root'\n")
    code, text = vivarium("check")
    assert code == 2 and "wrong: WRONG: " in text and "never runs as root" in text
    wrong.unlink()
    missing = declare(arena, "missing", f"user = '{arena.attacker.pw_name}'\ndocument_roots = ['/no/such/site']\n")
    code, text = vivarium("check", "missing")
    assert code == 1 and "MISSING /no/such/site" in text
    missing.unlink()
    assert vivarium("check", "nobody-of-that-name")[0] == 2


def test_check_as_a_plain_user_says_that_nothing_can_be_served(arena, vivarium):
    """It looks with the rights that it has."""
    code, text = vivarium("check", user=arena.attacker)
    assert code == 2 and "it can become nobody else" in text


def test_reload_says_what_has_changed(arena, vivarium):
    """Added, changed, removed, wrong; 1 if anything is wrong."""
    assert vivarium("reload") == (0, "read again; nothing has changed\n")
    fresh = declare(arena, "fresh", f"user = '{arena.attacker.pw_name}'\n")
    code, text = vivarium("reload")
    assert code == 0 and "added 1: fresh" in text
    declare(arena, "fresh", "user = 'root'\n")
    code, text = vivarium("reload")
    assert code == 1 and "never runs as root" in text and "last good form" in text
    code, text = vivarium("status")
    assert code == 1 and "WRONG" in text
    fresh.unlink()
    code, text = vivarium("reload")
    assert code == 0 and "removed 1: fresh" in text


def test_status_shows_pools(arena, vivarium):
    """Pools with their workers."""
    code, text = vivarium("status")
    assert f"(pid {arena.supervisor.pid}), a service" in text
    assert "victim/main (generation 1): 1 of 1 workers" in text
    assert code in (0, 1)


def test_nobody_else_is_answered(arena, vivarium):
    """Tenants cannot ask."""
    for command in ("reload", "status"):
        code, text = vivarium(command, user=arena.attacker)
        assert code == 2 and "no supervisor can be asked" in text
    assert vivarium("status", "--pid", "1")[0] == 2
