"""What scripts/test budget and scripts/bench --where make of what they are told."""

import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "scripts"))

from devlib.bench.areas import area  # noqa: E402  pylint: disable=wrong-import-position
from devlib.bench.where import frames_of  # noqa: E402  pylint: disable=wrong-import-position
from devlib.budget import __main__ as budget  # noqa: E402  pylint: disable=wrong-import-position
from devlib.budget import hello  # noqa: E402  pylint: disable=wrong-import-position


def test_what_is_over_its_budget_is_named(capsys):
    rows = [("a", 1.0, 1.0, "look here"), ("b", 1.2, 1.1, "look there")]
    assert budget.report(rows) == [rows[1]]
    shown = capsys.readouterr().out.splitlines()
    assert "OVER" not in shown[0] and "OVER" in shown[1]


def test_an_overrun_fails_with_the_piece_the_figure_and_the_remedy(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["budget"])
    monkeypatch.setattr(budget, "instructions", lambda _: [("instructions: ring", 320.0, 300, "callgrind shows where")])
    monkeypatch.setattr(budget, "of_hello", lambda _: [])
    assert budget.main() == 1
    said = capsys.readouterr().err
    for part in ("instructions: ring", "320.00", "300.00", "callgrind shows where", "raise the figure"):
        assert part in said


def test_calls_without_a_budget_are_summed_but_for_those_of_scheduling():
    found = {"read": 2.0, "sched_yield": 40.0, "openat": 0.5, "close": 0.5}
    rows = budget.compared("x", found, {"read": 2.1, "futex": 3, "rest": 0.2}, "advice")
    assert [(what, figure) for what, figure, *_ in rows] == [
        ("x: read", 2.0), ("x: futex", 0), ("x: other system calls", 1.0),
    ]
    assert len(budget.report(rows)) == 1


def test_every_part_of_the_file_is_compared():
    parts = tomllib.loads(budget.FILE.read_text())
    assert set(parts) == {"instructions", "httpd", "worker", "switches"}
    assert all(value > 0 for part in parts.values() for value in part.values())
    assert "rest" in parts["httpd"] and "rest" in parts["worker"]


TRACE = """\
10 100.000000 read(10, ""..., 8000) = 35
11 100.000100 futex(0x7f49, FUTEX_WAIT, 1, NULL <unfinished ...>
12 100.000150 futex(0x7f49, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, NULL, FUTEX_BITSET_MATCH_ANY) = 0
12 100.000160 futex(0x7f492c370040, FUTEX_WAKE_BITSET, 1, 0x80000000) = 1
10 100.000200 writev(10, [...], 4) = 145
11 100.000300 <... futex resumed>) = 0
10 100.000400 +++ exited with 0 +++
10 100.000500 --- SIGTERM {si_signo=SIGTERM} ---
10 200.000000 read(10, 0x7f, 8000) = -1 EAGAIN (Resource temporarily unavailable)
10 300.000000 read(10, 0x7f, 8000) = -1 EAGAIN (Resource temporarily unavailable)
"""


def test_system_calls_are_counted_once_in_their_batch(tmp_path):
    path = tmp_path / "trace"
    path.write_text(TRACE)
    first, second = hello.Traced(1, path).calls([(99.0, 101.0), (199.0, 201.0)])
    one = 1 / hello.BATCH
    assert first == {"read": one, "wait": one, "writev": one, "futex, private": one, "wake": one}
    assert second == {"read": one}


@pytest.mark.parametrize("answer, is_whole", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", False),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", True),
    (b"HTTP/1.1 200 OK\r\n\r\nabc", False),
])
def test_an_answer_is_whole(answer, is_whole):
    assert bool(hello.whole(answer)) == is_whole


SAMPLES = """\
apache2 1/2
\tffffffff81 finish_task_switch.isra.0 ([kernel.kallsyms])
\tffffffff82 __x64_sys_futex ([kernel.kallsyms])
\t   fde9d syscall (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t   a525f wait (inlined)
\t   a525f vivarium_protocol::futex::sleep_on (/x/libmod_vivarium.so)
\t   12345 ap_run_handler (/usr/sbin/apache2)

apache2 1/2
\t   16d90d __memcpy_avx512_unaligned_erms (inlined)
\t   a525f drop (inlined)
\t   a525f core::ptr::drop_in_place<mod_vivarium::conversation::tree::Tree> (/x/libmod_vivarium.so)

apache2 1/2
\tffffffff82 do_writev ([kernel.kallsyms])
\t   fde9d __GI___writev (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t   25c07 apr_socket_sendv (/usr/lib/x86_64-linux-gnu/libapr-1.so.0.7.2)

python3 3/3
\t   111 _PyEval_EvalFrameDefault (/usr/bin/python3.11)
\t   222 _vivarium::engine::phases::enter (/x/lib_vivarium.so)

python3 3/3
\t   111 malloc (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t   222 vivarium_protocol::ring::Consumer<M>::pull (/x/lib_vivarium.so)
"""


def test_samples_are_put_into_areas():
    found = [
        area("httpd" if command == "apache2" else "Python", frames) for command, frames in frames_of(SAMPLES)
    ]
    assert found == [
        "waiting for the worker: sleeping", "module: objects of a request", "TCP: writing the answer",
        "interpreter: handler and the objects it makes", "ring and lane",
    ]
