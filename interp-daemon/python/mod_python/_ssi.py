"""Running the Python of SSI pages: ``<!--#python eval="..." -->`` and ``<!--#python exec="..." -->``."""

from __future__ import annotations

import textwrap
from typing import Any, Dict


def run(filter: Any, what: str, code: str) -> None:  # noqa: A002
    """Runs one element. The elements of a request share the name space ``req.ssi_globals``.

    In it are ``filter``, by which ``exec`` writes into the page, and ``__file__``. The value of ``eval`` is written as
    ``str`` makes it; ``None`` is nothing.
    """
    req = filter.req
    names: Dict[str, Any] = getattr(req, "ssi_globals", None)  # type: ignore[assignment]
    if names is None:
        names = req.ssi_globals = {}
    names["filter"] = filter
    names["__file__"] = req.filename
    try:
        if what == "eval":
            value = eval(code.strip(), names)  # noqa: S307 (that is what it is for)
            if value is not None:
                filter.write(str(value))
        elif what == "exec":
            exec(_dedented(code), names)  # noqa: S102 (likewise)
        else:
            raise ValueError(f"an SSI python element has no attribute {what!r}")
    finally:
        names["filter"] = None


def _dedented(code: str) -> str:
    """The code without the indentation that all of it has."""
    first = next((line for line in code.splitlines() if line.strip()), "")
    # Code that begins at the margin stays as it is, with the white space in its strings.
    return textwrap.dedent(code) if first[:1].isspace() else code
