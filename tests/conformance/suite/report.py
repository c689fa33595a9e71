"""The table of agreements and differences: docs/compatibility.md, and the summary at the end of a run."""

from collections import Counter
from pathlib import Path

from .rows import SECTIONS

PAGE = Path(__file__).resolve().parents[3] / "docs/compatibility.md"

HEAD = """\
# Compatibility with mod_python

What this page says is tested: the conformance suite, `tests/conformance`, sends the same requests to Vivarium, under
httpd's event, worker and prefork models, and to Debian's mod_python 3.5 under event, both with the same
configuration and the same handlers, and compares the answers: status, headers, body, lines of the error log. This page is
made from the suite's list of cases; a case whose answer is not as the page says fails.

| in the tables | means |
|---|---|
| same | both answer the same |
| **differs** | Vivarium answers differently on purpose, for the reason given |
| **mod_python fails** | mod_python crashes, hangs or breaks here, so Vivarium's answer alone is tested |
| **here only** | there is nothing to compare with, for the reason given |

{count} cases: {same} the same, {differs} argued differences, {defects} that mod_python fails,
{ours} that are tested here only. What no request can show is in [Migrating from mod_python](migrating-from-mod_python.md):
raw pointers, exported C functions, one process for all.
"""


def word(case):
    """What the page says of a case."""
    if case.defect:
        return "defects"
    if case.only_ours:
        return "ours"
    return "differs" if case.differs else "same"


def counts(groups):
    """How many cases come out how."""
    return Counter(word(case) for group in groups for case in group.cases)


def of_rows(groups):
    """Row -> its cases."""
    found = {}
    for group in groups:
        for case in group.cases:
            for row in case.rows:
                found.setdefault(row, []).append(case)
    return found


def outcome(cases):
    """The last cell of a row."""
    parts = ["same"] if any(word(case) == "same" for case in cases) else []
    labels = {"differs": "**differs**", "defects": "**mod_python fails**", "ours": "**here only**"}
    for kind, label in labels.items():
        reasons = dict.fromkeys(case.defect or case.only_ours or case.differs for case in cases if word(case) == kind)
        parts += [f"{label}: {reason}" for reason in reasons]
    return "<br>".join(parts).replace("|", "\\|")


def page(groups):
    """The text of the page."""
    tally, cases = counts(groups), of_rows(groups)
    names = ("same", "differs", "defects", "ours")
    lines = [HEAD.format(count=sum(tally.values()), **{name: tally[name] for name in names})]
    for number, (title, rows) in sorted(SECTIONS.items(), key=lambda section: int(section[0])):
        lines += [f"## {title}\n", "| | cases | |", "|---|---|---|"]
        for row in rows:
            own = cases.get(f"{number}.{row}", [])
            name = row.replace("|", "\\|")
            lines.append(f"| {name} | {len(own)} | {outcome(own)} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def summary(groups, outcomes):
    """Lines for the end of a run: a table of what agreed, then the argued differences that were seen."""
    kinds = ("same", "differs", "defect", "ours", "fails")
    lines = [f"{'group':<20}" + "".join(f"{kind:>9}" for kind in kinds)]
    total = Counter()
    for group in groups:
        seen = Counter(kind for (name, _, _), kind in outcomes.items() if name == group.name)
        total += seen
        if seen:
            lines.append(f"{group.name:<20}" + "".join(f"{seen[kind]:>9}" for kind in kinds))
    lines.append(f"{'all':<20}" + "".join(f"{total[kind]:>9}" for kind in kinds))
    argued = {(name, case) for (name, case, _), kind in outcomes.items() if kind == "differs"}
    if argued:
        lines += ["", "argued differences:"]
        cases = [case for group in groups for case in group.cases if (group.name, case.id) in argued]
        lines += [f"  {case.id}: {case.differs}" for case in cases]
    return lines
