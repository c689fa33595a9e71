"""The cases, one module for each group."""

from . import (  # noqa: F401
    request_body,
    request_methods,
    request_readonly,
    request_writable,
    tables,
)

GROUPS = (
    tables.GROUP,
    request_methods.GROUP,
    request_body.GROUP,
    request_readonly.GROUP,
    request_writable.GROUP,
)
