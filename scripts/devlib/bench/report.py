"""The results as tables and as a chart."""

import datetime
import html
import os
import platform
import re
import statistics
import subprocess

from .contenders import REFERENCE


def figure(value):
    """A number with three digits that mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def median(runs, field):
    """The median of a figure over the rounds."""
    return statistics.median(getattr(run, field) for run in runs)


def table(work, found, names, reference):
    """One work's table. `found` is {(connections, name): [Run, ...]}."""
    heads = [f"{c} connections" if c > 1 else "1 connection" for c in work.connections]
    short = "/".join(map(str, work.connections))
    lines = [
        f"### {work.title}", "",
        f"| | {' | '.join(heads)} | ratio to {reference} at {short} | CPU µs a request, httpd + Python | switches a request |",
        "|---" * (len(heads) + 4) + "|",
    ]
    for name in names:
        cells, ratios, cpu, switches = [], [], [], []
        for connections in work.connections:
            runs = found[connections, name]
            rates = [run.rate for run in runs]
            bad = sum(run.failed for run in runs), sum(run.broken for run in runs)
            cells.append(
                f"{figure(statistics.median(rates))} ({figure(min(rates))}-{figure(max(rates))})"
                + (f", p99 {figure(median(runs, 'p99'))} ms" if runs[0].p99 else "")
                + (f", {bad[0]} failed" if bad[0] else "") + (f", {bad[1]} broken off" if bad[1] else "")
            )
            ratios.append(f"{median(runs, 'rate') / median(found[connections, reference], 'rate'):.2f}")
            cpu.append(f"{figure(median(runs, 'httpd'))} + {figure(median(runs, 'python'))}")
            switches.append(f"{median(runs, 'switches'):.2f}")
        lines.append(
            f"| {name} | {' | '.join(cells)} | {' / '.join(ratios)} | {' / '.join(cpu)} | {' / '.join(switches)} |"
        )
    return "\n".join([*lines, ""])


def reference_for(names):
    """Whom the ratios are to: mod_wsgi's daemon where it can do the work, else mod_python, else the first."""
    for name in (REFERENCE, "mod_python"):
        if name in names:
            return name
    return names[0]


def tables(works, found):
    """All tables. `found` is {work name: {(connections, contender): [Run, ...]}}."""
    parts = []
    for name, cells in found.items():
        names = list(dict.fromkeys(contender for _, contender in cells))
        parts.append(table(works[name], cells, names, reference_for(names)))
    return "\n".join(parts)


def conditions(rounds, seconds):
    """What was measured, where."""
    version = subprocess.run(["/usr/sbin/apache2", "-v"], capture_output=True, text=True, check=True).stdout
    httpd = re.search(r"Apache/(\S+)", version).group(1)
    load = os.getloadavg()[1]
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, httpd {httpd}, Python "
        f"{platform.python_version()}, wrk and h2load with keep-alive on the same machine; {rounds} rounds of {seconds} s a "
        f"cell; load average over the last five minutes {load:.1f}."
    )


COLOURS = ("#2a6f4f", "#c98b2b", "#7a8793", "#a8b3bd", "#5a78b0", "#b05a78", "#444444")


def chart(works, found):
    """An SVG of the ratios to the reference, one group of bars for each work and number of connections."""
    groups = []
    for name, cells in found.items():
        names = list(dict.fromkeys(contender for _, contender in cells))
        reference = reference_for(names)
        for connections in works[name].connections:
            base = median(cells[connections, reference], "rate")
            bars = [(n, median(cells[connections, n], "rate") / base) for n in names]
            groups.append((f"{name}, {connections}", bars))
    everyone = list(dict.fromkeys(n for _, bars in groups for n, _ in bars))
    colour = {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(everyone)}
    top = max(value for _, bars in groups for _, value in bars)
    height, y, left, width = 14, 40 + 18 * len(everyone), 120, 560
    out = []
    for i, name in enumerate(everyone):
        out.append(f'<rect x="{left}" y="{20 + 18 * i}" width="12" height="12" fill="{colour[name]}"/>'
                   f'<text x="{left + 18}" y="{30 + 18 * i}">{html.escape(name)}</text>')
    for label, bars in groups:
        out.append(f'<text x="{left - 8}" y="{y + height * len(bars) / 2 + 4:.0f}" text-anchor="end">{label}</text>')
        for name, value in bars:
            length = width * value / top
            out.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{height - 3}" fill="{colour[name]}"/>'
                       f'<text x="{left + length + 4:.1f}" y="{y + 10}">{value:.2f}</text>')
            y += height
        y += 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {y}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="14">Requests a second, as a multiple of mod_wsgi\'s daemon (of mod_python where it '
        f'cannot do the work)</text>{"".join(out)}</svg>\n'
    )
