"""Measures how fast we are beside others. See docs/performance.md."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from .. import artefacts
from . import cold, measure, report, where
from .contenders import BESIDE, MAKERS, THREADS, USUAL, wait_until_right
from .works import WORKS, lua

#: The work that is measured by itself: see cold.py.
COLD = "cold-start"


def numbers(text):
    """Numbers of connections: 1,8,64."""
    return [int(part) for part in text.split(",") if part]


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of one second a cell: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="for one cell of one round")
    parser.add_argument("--works", nargs="*", default=[*WORKS, COLD], choices=[*WORKS, COLD], metavar="WORK",
                        help=f"of {', '.join([*WORKS, COLD])}")
    parser.add_argument("--contenders", nargs="*", choices=MAKERS, metavar="WHO",
                        help=f"of {', '.join(MAKERS)}; without it {', '.join(USUAL)}, and for the work cpu also "
                             f"{', '.join(BESIDE['cpu'])}")
    parser.add_argument("--connections", type=numbers, nargs="*", metavar="N",
                        help="instead of each work's own: 1,8,64,256,512")
    parser.add_argument("--write", action="store_true", help="put the tables and the chart into docs/performance.md")
    parser.add_argument("--where", action="store_true",
                        help="instead: system calls and CPU time of a hello by area, by perf (with --connections, --contenders)")
    args = parser.parse_args()
    args.connections = [n for part in args.connections or () for n in part]
    if args.quick:
        args.rounds = args.seconds = 1
    return args


def all_cells(works, servers, override):
    """(work's name, connections, those that can do it)."""
    for name, work in works.items():
        able = [s for s in servers if s.does(name, work)]
        for connections in override or work.connections:
            if able:
                yield name, connections, able


def contenders(args):
    """The servers to start."""
    threads = max([THREADS, *args.connections])
    servers = {name: MAKERS[name](threads) for name in args.contenders or USUAL}
    for work, names in BESIDE.items():
        if not args.contenders and work in args.works:
            for name in names:
                servers[name] = MAKERS[name](threads)
                servers[name].only = (work,)
    return list(servers.values())


def measure_all(works, servers, args, scripts):
    """{work: {(connections, contender): [Run, ...]}}"""
    found = {}
    for number in range(args.rounds):
        for name, connections, able in all_cells(works, servers, args.connections):
            # The order turns, so that no contender always follows the same one.
            turn = number % len(able)
            for server in able[turn:] + able[:turn]:
                run = measure.run(server, works[name], connections, args.seconds, scripts[name])
                cells = found.setdefault(name, {})
                cells.setdefault((connections, server.name), []).append(run)
                print(f"{name:8} {connections:3} {server.name:24} {run.rate:9.0f}/s  {run.httpd:6.1f} + {run.python:6.1f} µs  "
                      f"{run.switches:.2f} switches", file=sys.stderr, flush=True)
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
    # In the order in which they were named, not in that of the last round.
    order = [s.name for s in servers]
    return {n: dict(sorted(c.items(), key=lambda i: (i[0][0], order.index(i[0][1])))) for n, c in found.items()}


def write(part, text):
    """Puts a text into the page, between the marks of its part."""
    page = artefacts.REPO / "docs/performance.md"
    begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->"
    before, rest = page.read_text().split(begin, 1)
    page.write_text(before + begin + text + rest[rest.index(end):])


def measured(works, args):
    """Starts everybody and measures all works."""
    servers = contenders(args)
    try:
        with tempfile.TemporaryDirectory() as folder:
            scripts = {name: lua(Path(folder), name, work) for name, work in works.items()}
            for server in servers:
                server.start()
                wait_until_right(server, works)
            # Once for nothing: every process and thread that will be needed is there.
            for name, _, able in all_cells(works, servers, [max([64, *args.connections])]):
                for server in able:
                    connections = 64 if works[name].scheme != "h2" else 8
                    measure.run(server, works[name], max([connections, *args.connections]), 1, scripts[name])
            return measure_all(works, servers, args, scripts)
    finally:
        for server in servers:
            server.stop()


def main():
    """Measures and prints."""
    args = arguments()
    if args.where:
        text = where.where(args.contenders or where.WHO, args.connections or where.CONNECTIONS)
        print(text)
        if args.write:
            write("where", text)
        return
    works = {name: WORKS[name] for name in args.works if name != COLD}
    if args.connections:
        works = {n: type(w)(**{**vars(w), "connections": tuple(args.connections)}) for n, w in works.items()}
    found = measured(works, args) if works else {}
    text = report.conditions(args.rounds, args.seconds) + "\n\n" + report.tables(works, found)
    if COLD in args.works:
        names = [name for name in args.contenders or USUAL if name != "c"]
        text += "\n" + cold.table(cold.measure(names, args.rounds))
    print(text)
    if args.write:
        write("bench", text)
        if found:
            (artefacts.REPO / "docs/performance.svg").write_text(report.chart(works, found))


if __name__ == "__main__":
    os.umask(0o022)
    main()
