"""The cases, one module for each group."""

from . import (  # noqa: F401
    connections,
    filters,
    finfos,
    handler_names,
    request_body,
    request_methods,
    request_readonly,
    request_writable,
    results,
    servers,
    tables,
)

GROUPS = (
    tables.GROUP,
    request_methods.GROUP,
    request_body.GROUP,
    request_readonly.GROUP,
    request_writable.GROUP,
    connections.GROUP,
    servers.GROUP,
    finfos.GROUP,
    filters.GROUP,
    handler_names.GROUP,
    results.GROUP,
)
