"""The cases, one module for each group."""

from . import (  # noqa: F401
    request_methods,
    tables,
)

GROUPS = (
    tables.GROUP,
    request_methods.GROUP,
)
