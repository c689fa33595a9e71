"""The cases, one module for each group."""

from . import (  # noqa: F401
    connections,
    finfos,
    request_body,
    request_methods,
    request_readonly,
    request_writable,
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
)
