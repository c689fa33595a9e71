"""The page that shows a PSP page beside the Python that it becomes."""

from __future__ import annotations

import html
import re
import sys
from typing import List

from mod_python._psp_code import _place, source_of
from mod_python._psp_parser import Generated

_BLOCK = re.compile(r"&lt;%--.*?--%&gt;|&lt;%.*?(?:%&gt;|\Z)", re.S)

_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.5 sans-serif; margin: 1.5em; color: #222 }}
h1 {{ font-size: 1.2em }} h2 {{ font-size: 1em; margin: 0 0 .4em }}
div.both {{ display: flex; gap: 1em; align-items: flex-start }}
section {{ flex: 1; min-width: 0; overflow-x: auto; border: 1px solid #ccc; border-radius: 4px; padding: .6em }}
section section {{ margin-top: 1em }}
pre {{ font: 13px/1.5 monospace; margin: 0 }}
i {{ color: #999; font-style: normal; user-select: none }} b {{ font-weight: normal; background: #fff3c4 }}
</style></head><body><h1>{title}</h1><div class="both">
<section><h2>PSP</h2>{left}</section>
<section><h2>Python</h2><pre>{right}</pre></section>
</div></body></html>
"""


def page(made: Generated) -> str:
    """The page. Its numbers are those of the lines that tracebacks name."""
    left = []
    for part, source in enumerate(made.sources):
        # A block may go over lines: each line gets its own mark.
        shown = _BLOCK.sub(
            lambda found: "\n".join(f"<b>{line}</b>" for line in found.group().split("\n")),
            html.escape(source.text, quote=False),
        )
        lines = "\n".join(f"<i>{n:>4}</i> {line}" for n, line in enumerate(shown.split("\n"), 1))
        block = f"<pre>{lines}</pre>"
        left.append(f"<h2>{part}: {html.escape(source.name)}</h2>{block}" if part else block)
    return _PAGE.format(title=html.escape(made.sources[0].name), left="\n".join(left), right=_python(made))


def _python(made: Generated) -> str:
    # Lines of included files have the files' numbers in front.
    parts = {source.offset: f"{part}:" if part else "" for part, source in enumerate(made.sources)}
    found: List[str] = []
    for number, line in enumerate(made.text.split("\n"), 1):
        if not line.strip():
            found.append("")
            continue
        source, at = source_of(made.sources, max(_place(made.marks, number, sys.maxsize)[0], 1))
        found.append(f"<i>{parts[source.offset] + str(at):>6}</i> {html.escape(line, quote=False)}")
    return "\n".join(found)
