"""Compares what is measured with benches/budget.toml: `scripts/test budget`, `scripts/test budget --write`."""

import argparse
import math
import re
import sys
import tomllib

from .. import artefacts
from . import hello, pieces

FILE = artefacts.REPO / "benches/budget.toml"
#: What `--write` allows above the figure that was measured.
SLACK = 1.1
SCHEDULING = hello.SCHEDULING
SIDES = {"httpd": "child of httpd", "worker": "worker"}


def compared(title, found, budget, advice):
    """Rows (what, figure, budget, advice) of the system calls of a side; those that depend on scheduling are left out."""
    rest = sum(v for name, v in found.items() if name not in budget and name not in SCHEDULING)
    rows = [(f"{title}: {name}", found.get(name, 0), most, advice) for name, most in budget.items() if name != "rest"]
    rows.append((f"{title}: other system calls", rest, budget["rest"], advice))
    return rows


def report(rows):
    """Prints all, returns what is over its budget."""
    over = []
    for what, figure, most, advice in rows:
        bad = figure > most
        print(f"{what:44} {figure:10.2f}   budget {most:10.2f}{'   OVER' if bad else ''}")
        if bad:
            over.append((what, figure, most, advice))
    return over


def instructions(budget):
    """Rows of the pieces."""
    known = pieces.names()
    for name in budget:
        if name not in known:
            raise SystemExit(f"budget: {FILE} has a budget for {name}, which benches/src/lib.rs does not have")
    found = pieces.measure(list(budget))
    advice = "callgrind on `target/release/pieces {0} 100000` shows where".format
    return [(f"instructions: {name}", figure, budget[name], advice(name)) for name, figure in found.items()]


def of_hello(budget):
    """Rows of the hello; what is not compared is printed."""
    found, sleeps = hello.measure()
    rows = []
    for side, counts in found.items():
        advice = f"strace -f -p PID of the {SIDES[side]} during a request shows where"
        rows += compared(f"a hello, {side}, system calls", counts, budget[side], advice)
        others = {n: round(v, 2) for n, v in sorted(counts.items()) if n not in budget[side] and v}
        if others:
            print(f"a hello, {side}: system calls without a budget of their own: {others}")
    advice = "Somebody sleeps, and has to be woken, more often than before"
    rows += [(f"a hello, {side}, sleeps", sleeps[side], most, advice) for side, most in budget["switches"].items()]
    return rows


def write(rows):
    """Puts the instructions that were measured into the file, with some slack."""
    text = FILE.read_text()
    for what, figure, *_ in rows:
        name = what.removeprefix("instructions: ")
        text = re.sub(rf"^{name} = .*$", f"{name} = {math.ceil(figure * SLACK / 10) * 10}", text, flags=re.M)
    FILE.write_text(text)


def main():
    """Measures and compares; status 1 if something is over its budget."""
    parser = argparse.ArgumentParser(prog="scripts/test budget", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the instructions measured here into benches/budget.toml")
    args = parser.parse_args()
    budget = tomllib.loads(FILE.read_text())
    rows = instructions(budget["instructions"])
    if args.write:
        write(rows)
        rows = [(what, figure, math.inf, advice) for what, figure, _, advice in rows]
    over = report(rows + of_hello(budget))
    for what, figure, most, advice in over:
        print(f"budget: {what}: {figure:.2f} is more than the {most:.2f} of benches/budget.toml. {advice}; "
              "if it is meant, raise the figure there and say why in the commit.", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
