"""Measures how fast we are beside others. See docs/performance.md."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from .. import artefacts
from . import measure, report
from .contenders import MAKERS, USUAL, wait_until_right
from .works import WORKS, lua


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of one second a cell: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="for one cell of one round")
    parser.add_argument("--works", nargs="*", default=list(WORKS), choices=WORKS, metavar="WORK",
                        help=f"of {', '.join(WORKS)}")
    parser.add_argument("--contenders", nargs="*", default=list(USUAL), choices=MAKERS, metavar="WHO",
                        help=f"of {', '.join(MAKERS)}")
    parser.add_argument("--connections", type=int, nargs="*", help="instead of each work's own")
    parser.add_argument("--write", action="store_true", help="put the tables and the chart into docs/performance.md")
    return parser.parse_args()


def all_cells(works, servers, override):
    """(work's name, connections, those that can do it)."""
    for name, work in works.items():
        able = [s for s in servers if set(work.kinds) & set(s.kinds)]
        for connections in override or work.connections:
            if able:
                yield name, connections, able


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


def write(text, svg):
    """Puts the results into the page."""
    page = artefacts.REPO / "docs/performance.md"
    begin, end = "<!-- bench: begin -->\n", "<!-- bench: end -->"
    before, rest = page.read_text().split(begin, 1)
    page.write_text(before + begin + text + rest[rest.index(end):])
    (page.parent / "performance.svg").write_text(svg)


def main():
    """Measures and prints."""
    args = arguments()
    if args.quick:
        args.rounds = args.seconds = 1
    works = {name: WORKS[name] for name in args.works}
    if args.connections:
        works = {n: type(w)(**{**vars(w), "connections": tuple(args.connections)}) for n, w in works.items()}
    servers, started = [MAKERS[name]() for name in args.contenders], []
    try:
        with tempfile.TemporaryDirectory() as folder:
            scripts = {name: lua(Path(folder), name, work) for name, work in works.items()}
            for server in servers:
                started.append(server)
                server.start()
                wait_until_right(server, works.values())
            # Once for nothing: every process and thread that will be needed is there.
            for name, _, able in all_cells(works, servers, [64]):
                for server in able:
                    measure.run(server, works[name], 64 if works[name].scheme != "h2" else 8, 1, scripts[name])
            found = measure_all(works, servers, args, scripts)
    finally:
        for server in started:
            server.stop()
    text = report.conditions(args.rounds, args.seconds) + "\n\n" + report.tables(works, found)
    print(text)
    if args.write:
        write(text, report.chart(works, found))


if __name__ == "__main__":
    os.umask(0o022)
    main()
