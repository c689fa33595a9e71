"""The cases, one module for each group: `GROUP` of each is found by its place here."""

from . import (  # noqa: F401
    tables,
)

GROUPS = (
    tables.GROUP,
)
