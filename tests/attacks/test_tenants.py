"""Attacks by a tenant's Python on everything but httpd's own interface; each with a control that shows that it works."""

import os
import signal

import pytest

from arena import unit_capabilities
from cases import ALL
from harness import fake, procs
from harness.wait import wait_until


@pytest.mark.parametrize("case", ALL, ids=[case.id for case in ALL])
def test_attack(arena, table, case):
    """The attack fails in a tenant's sandbox and works without it."""
    args = case.args(arena)
    user = {"attacker": arena.attacker, "victim": arena.victim, "root": None}[case.control]
    control_args = case.control_args(arena) if case.control_args else args
    works, what, _ = arena.control(case.attack, control_args, user, **case.control_more)
    if case.may_lack and not works:
        pytest.skip(f"this machine refuses it to {case.control} without any sandbox: {what}")
    won, how = arena.attack(case.attack, args, case.sandbox(arena), case.top)
    if case.attack == "leave_in":
        # In a /tmp of its own it may leave what it likes; what counts is whether others see it.
        won = (arena.tmp.read_text().startswith("planted"), how)[0]
        os.unlink(os.path.join(control_args["directory"], control_args["name"]))
    table.append((case.title, not won, how, what))
    assert works, f"the attack does not work without protection either: {what}"
    assert not won, f"the attack succeeded: {how}"


def test_log_flood(arena, table):
    """A flood of lines is counted, not written; alone it would be all written."""
    _, _, raw = arena.control("flood", {"count": 5000}, arena.attacker)
    assert raw.count(b"flood\n") == 5000
    before = arena.log().count("flood")
    won, how = arena.attack("flood", {"count": 5000}, until="suppressed")
    written = arena.log().count("flood") - before
    table.append(("log flood", not won and written <= 2000, f"{written} lines written, {how}", "5000 lines"))
    assert not won and written <= 2000


def test_log_injection(arena, table):
    """A line stays one line, and harmless."""
    _, _, raw = arena.control("inject", {}, arena.attacker)
    assert b"\x1b[2J" in raw
    arena.attack("inject")
    log = (arena.base / "log").read_bytes()
    held = b"\x1b" not in log and b"\r" not in log and b"\\x1b[2J" in log
    table.append(("log injection", held, "escaped", "raw escape sequences"))
    assert held


def _forged(arena, table, title, packet):
    won, how = arena.attack("worker_forges", {"packet": packet}, until="is killed")
    good, what = arena.attack("tcp", {"port": arena.tcp}, sandbox='[network]\nmode = "full"')
    table.append((title, not won, how, "an honest worker lives on: " + what))
    assert not won and good, (how, what)


def test_forged_second_ready(arena, table):
    """A worker that speaks twice is killed; one that speaks once is not."""
    _forged(arena, table, "a second ready", "00" + fake.number(fake.VERSION).hex() + "06" + b"3.11.2".hex())


def test_forged_message_of_httpd(arena, table):
    """A worker that asks for another tenant's pool at its own socket is killed."""
    packet = fake.number(2) + fake.text("victim") + fake.text("main") + fake.number(1)
    _forged(arena, table, "httpd's message from a worker", packet.hex())


def test_forged_noise(arena, table):
    """A worker that sends what is no message is killed."""
    _forged(arena, table, "noise on the control socket", "ff" * 100)


def test_descriptors_from_a_worker(arena, table):
    """A worker that sends descriptors is killed: they could be anything."""
    won, how = arena.attack("worker_grabs", until="it sent descriptors")
    good, what = arena.attack("tcp", {"port": arena.tcp}, sandbox='[network]\nmode = "full"')
    table.append(("descriptors for the supervisor", not won, how, "an honest worker lives on: " + what))
    assert not won and good, what


def test_silent_worker(arena, table):
    """A worker that never becomes ready is killed after its time, and holds nobody up meanwhile."""
    won, how = arena.attack("worker_silent", sandbox="[timeouts]\nstart_s = 1", until="not ready within 1 s")
    good, what = arena.attack("tcp", {"port": arena.tcp}, sandbox='[network]\nmode = "full"\n[timeouts]\nstart_s = 60')
    table.append(("a worker that is never ready", not won, how, "with a longer time it lives: " + what))
    assert not won and good, what


def test_deaf_worker(arena, table):
    """A worker that does not stop when it is told to is killed."""
    child = arena.attach("deaf", arena.attacker, "worker_deaf", sandbox="[timeouts]\nstop_s = 1")
    wait_until(lambda: [line for line in arena.log().splitlines() if "VIV0010" in line and "deaf/main" in line], "the deaf worker")
    (arena.tenants / "deaf.toml").unlink()
    arena.reload()
    found = wait_until(lambda: [line for line in arena.log().splitlines() if "VIV0015" in line and "deaf/main" in line], "its end")
    child.close()
    table.append(("a worker that does not stop", True, found[0].split(": ", 1)[1], "its own time-out alone"))


def test_daemon_left_behind(arena, table):
    """A daemon that a handler starts ends with its worker; outside of a sandbox it stays."""
    path = str(arena.homes[0] / "daemon")
    works, what, _ = arena.control("outlive", {"path": path}, arena.attacker)
    with open(path, encoding="ascii") as file:
        left = int(file.read())
    assert works and procs.alive(left), what
    os.kill(left, signal.SIGKILL)
    os.unlink(path)
    # In its own PID namespace: looked for by its user.
    before = set(arena.own_processes())
    arena.attack("outlive", {"path": path})
    wait_until(lambda: not set(arena.own_processes()) - before, "the end of the tenant's processes")
    table.append(("a daemon left behind", True, "ended with its worker", what))


def test_a_link_for_the_supervisor_to_follow(arena, table):
    """A tenant's own link in a path of its file is not followed by root."""
    link = arena.homes[0] / "data"
    link.symlink_to(arena.homes[1])
    os.lchown(link, arena.attacker.pw_uid, arena.attacker.pw_gid)
    args = {"path": str(arena.homes[1] / "public"), "contains": arena.mark}
    named = f'[files]\nread_only = ["{arena.homes[1]}"]'
    works, what = arena.attack("read_file", args, sandbox=named)
    won, how = arena.attack("read_file", args, sandbox=f'[files]\nread_only = ["{link}"]')
    link.unlink()
    table.append(("a link for the supervisor to follow", not won, how, "named outright: " + what))
    assert works and not won, (what, how)


def test_the_supervisor_has_the_capabilities_of_its_unit(arena, table):
    """Everything above was done by a supervisor with these capabilities and no other."""
    wanted = sum(1 << number for number in unit_capabilities())
    found = [line.split()[1] for line in procs.status(arena.supervisor.pid).splitlines() if line.startswith(("CapEff", "CapPrm"))]
    assert [int(value, 16) for value in found] == [wanted, wanted], found
    table.append(("the supervisor itself", True, "has the unit's capabilities only", "all of root's"))


def test_everybody_is_still_there(arena, table):
    """After all that the victim, the supervisor and httpd live, and the supervisor serves."""
    alive = procs.alive(arena.victim_pid) and arena.supervisor.poll() is None and arena.httpd.poll() is None
    won, how = arena.attack("tcp", {"port": arena.tcp}, sandbox='[network]\nmode = "full"')
    table.append(("all of it together", alive and won, "all live, the supervisor serves", how))
    assert alive and won, how
    assert "panicked" not in arena.log()
