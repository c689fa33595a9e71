"""Names for the types of what handlers are given, to annotate them with::

    from mod_python.hints import Request

    def handler(req: Request) -> int:
        ...

A type checker takes them from the stub of the extension. When the program runs, they are the extension's types in a
worker, and the doubles of :mod:`mod_python.testing` anywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _vivarium import (
        mp_conn as Connection,
        mp_filter as Filter,
        mp_finfo as FileInfo,
        mp_request as Request,
        mp_server as Server,
        mp_table as Table,
    )
else:
    from mod_python import _apache

    if hasattr(_apache._vivarium, "mp_request"):
        _types = _apache._vivarium
    else:
        from mod_python.testing import _httpd as _types
    Connection = _types.mp_conn
    Filter = _types.mp_filter
    FileInfo = _types.mp_finfo
    Request = _types.mp_request
    Server = _types.mp_server
    Table = _types.table

__all__ = ["Connection", "FileInfo", "Filter", "Request", "Server", "Table"]
