"""Doubles of the server, the connection, handler lists and file information."""

from __future__ import annotations

import os
import stat as stat_
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mod_python import _table
from mod_python._constants import (
    APLOG_DEBUG,
    APLOG_EMERG,
    APLOG_ERR,
    APLOG_WARNING,
    APR_BLK,
    APR_CHR,
    APR_DIR,
    APR_LNK,
    APR_NOFILE,
    APR_PIPE,
    APR_REG,
    APR_SOCK,
    APR_UNKFILE,
)

#: One handler of a list: name, directory, silent, is_location.
Item = Tuple[str, Optional[str], bool, bool]


class LogLine(NamedTuple):
    """A line of the error log: the ``APLOG_*`` level and the text."""

    level: int
    text: str


#: Where log lines go.
Log = Callable[[int, str], None]


def log_line(log: Log, message: Any, level: Optional[int]) -> None:
    """What every ``log_error`` does: ``None`` is ignored, level 0 counts as not given."""
    if message is None:
        return
    if not isinstance(message, str):
        raise TypeError(f"argument 1 must be str or None, not {type(message).__name__}")
    if "\0" in message:
        raise ValueError("embedded null character")
    level = APLOG_ERR if level in (None, APLOG_EMERG) else level
    log(min(int(level or APLOG_ERR) & 15, APLOG_DEBUG), message)


class HandlerList:
    """``req.hlist``: the handler that runs and those that follow."""

    def __init__(self, items: List[Item]) -> None:
        self._items = items
        self._at = 0

    def _part(self, n: int) -> Any:
        return self._items[self._at][n] if self._at < len(self._items) else None

    def _flag(self, n: int) -> Optional[int]:
        found = self._part(n)
        return None if found is None else int(found)

    @property
    def handler(self) -> Optional[str]:
        """``module`` or ``module::object``."""
        return self._part(0)  # type: ignore[no-any-return]

    @property
    def directory(self) -> Optional[str]:
        """The directory of the section that names the handler."""
        return self._part(1)  # type: ignore[no-any-return]

    @property
    def silent(self) -> Optional[int]:
        """1 if a missing handler is skipped."""
        return self._flag(2)

    @property
    def is_location(self) -> Optional[int]:
        """1 if the section is a ``<Location>``."""
        return self._flag(3)

    def next(self) -> None:
        """Goes on to the next handler; at the end all attributes are ``None``."""
        self._at = min(self._at + 1, len(self._items))


HandlerList.__name__ = HandlerList.__qualname__ = "mp_hlist"

_TYPES = (
    (stat_.S_ISREG, APR_REG),
    (stat_.S_ISDIR, APR_DIR),
    (stat_.S_ISCHR, APR_CHR),
    (stat_.S_ISBLK, APR_BLK),
    (stat_.S_ISFIFO, APR_PIPE),
    (stat_.S_ISLNK, APR_LNK),
    (stat_.S_ISSOCK, APR_SOCK),
)
#: The attributes in the order of the ``FINFO_*`` indices.
_ORDER = (
    "protection", "inode", "device", "nlink", "user", "group", "size", "atime", "mtime", "ctime", "fname", "name",
    "filetype",
)  # fmt: skip
_VALID = 0x73F370


class FileInfo:
    """``mp_finfo``: what is known of a file; ``None`` where nothing is."""

    __slots__ = (*_ORDER, "valid")

    def __init__(self, **values: Any) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, values.get(name))
        if self.filetype is None:
            object.__setattr__(self, "filetype", APR_NOFILE)

    filetype: Any

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError("the attributes of mp_finfo objects are read-only")

    def __getitem__(self, index: int) -> Any:
        """A value by its ``FINFO_*`` index."""
        if not 0 <= index < len(_ORDER):
            raise IndexError("tuple index out of range")
        return getattr(self, _ORDER[index])

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{n!r}: {getattr(self, n)!r}" for n in self.__slots__) + "}"


FileInfo.__name__ = FileInfo.__qualname__ = "mp_finfo"


def file_info(name: str, wanted: int = 0) -> FileInfo:
    """What ``apache.stat`` gives: a missing file is an object of type ``APR_NOFILE``."""
    try:
        found = os.lstat(name) if wanted & 1 else os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return FileInfo()
    mode = found.st_mode
    kind = next((number for is_kind, number in _TYPES if is_kind(mode)), APR_UNKFILE)
    return FileInfo(
        fname=name,
        filetype=kind,
        valid=_VALID,
        protection=(mode >> 6 & 7) << 8 | (mode >> 3 & 7) << 4 | mode & 7,
        user=found.st_uid,
        group=found.st_gid,
        size=found.st_size,
        inode=found.st_ino,
        device=found.st_dev,
        nlink=found.st_nlink,
        atime=int(found.st_atime),
        mtime=int(found.st_mtime),
        ctime=int(found.st_ctime),
    )


class Server:
    """``mp_server``: the virtual host, one object for all requests of a client. Any attribute may be set."""

    def __init__(
        self,
        hostname: str,
        port: int,
        config: Dict[str, str],
        options: Dict[str, str],
        log: Log,
        cleanups: List[Tuple[Any, Callable[..., Any], Any]],
    ) -> None:
        self._config = _table.table(config)
        self._options = _table.table(options)
        self._log = log
        self._cleanups = cleanups
        self.server_hostname = hostname
        self.port = port
        self.server_admin = "[no address given]"
        self.server_scheme: Optional[str] = None
        self.defn_name: Optional[str] = None
        self.defn_line_number = 0
        self.error_fname = "/dev/null"
        self.loglevel = APLOG_DEBUG
        self.is_virtual = 0
        self.timeout = 60.0
        self.keep_alive_timeout = 5.0
        self.keep_alive_max = 100
        self.keep_alive = 1
        self.path: Optional[str] = None
        self.pathlen = 0
        self.names: Tuple[str, ...] = ()
        self.wild_names: Tuple[str, ...] = ()
        self.limit_req_line = 8190
        self.limit_req_fieldsize = 8190
        self.limit_req_fields = 100
        self.my_generation = 0
        self.restart_time = time.time()
        self.next: Optional[Server] = None

    def get_config(self) -> _table.table:
        """The Python directives at server level."""
        return self._config

    def get_options(self) -> _table.table:
        """The ``PythonOption``s; what is changed here stays changed."""
        return self._options

    def log_error(self, message: Optional[str], level: Optional[int] = None) -> None:
        """Writes a line to the client's log."""
        log_line(self._log, message, level)

    def register_cleanup(self, request: Any, callback: Callable[..., Any], data: Any = None) -> None:
        """Has ``callback(data)`` called when the client is closed."""
        if not callable(callback):
            raise ValueError("second argument must be a callable object")
        self._cleanups.append((None, callback, data))


Server.__name__ = Server.__qualname__ = "mp_server"


class Connection:
    """``mp_conn``. ``input`` is what a connection handler reads, ``output`` what it has written."""

    __slots__ = (
        "_hlist", "_log", "aborted", "base_server", "client_addr", "client_ip", "double_reverse", "id", "input",
        "keepalive", "keepalives", "local_addr", "local_host", "local_ip", "notes", "output", "remote_host",
        "remote_logname",
    )  # fmt: skip

    def __init__(self, server: Any, client: Tuple[str, int], local: Tuple[str, int], log: Log) -> None:
        self._hlist: Optional[HandlerList] = None
        self._log = log
        self.base_server = server
        self.client_addr = client
        self.client_ip = client[0]
        self.local_addr = local
        self.local_ip = local[0]
        self.local_host: Optional[str] = None
        self.remote_host: Optional[str] = None
        self.remote_logname: Optional[str] = None
        self.aborted = 0
        self.double_reverse = 0
        self.keepalive = 0
        self.keepalives = 0
        self.id = 0
        self.notes = _table.table()
        self.input = b""
        self.output = bytearray()

    @property
    def hlist(self) -> HandlerList:
        """The handlers of a connection phase."""
        if self._hlist is None:
            raise AttributeError("hlist: no connection handler is running")
        return self._hlist

    @property
    def remote_addr(self) -> Tuple[str, int]:
        """The old name of ``client_addr``."""
        self.log_error("remote_addr is deprecated in 2.4, use client_addr or req.useragent_addr", APLOG_WARNING)
        return self.client_addr

    @property
    def remote_ip(self) -> str:
        """The old name of ``client_ip``."""
        self.log_error("remote_ip is deprecated in 2.4, use client_ip or req.useragent_ip", APLOG_WARNING)
        return self.client_ip

    def log_error(self, message: Optional[str], level: Optional[int] = None) -> None:
        """Writes a line to the client's log."""
        log_line(self._log, message, level)

    def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes, all without it; ``OSError`` at the end."""
        return self._take(len(self.input) if n <= 0 else n)

    def readline(self, n: int = -1) -> bytes:
        """A line with its end; ``OSError`` at the end."""
        end = self.input.find(b"\n") + 1 or len(self.input)
        return self._take(end if n <= 0 else min(n, end))

    def _take(self, n: int) -> bytes:
        data, self.input = self.input[:n], self.input[n:]
        if not data:
            raise OSError("Connection read error")
        return data

    def write(self, data: Any) -> None:
        """Sends text (as UTF-8) or bytes."""
        self.output += body_bytes(data)


Connection.__name__ = Connection.__qualname__ = "mp_conn"


def body_bytes(data: Any) -> bytes:
    """What ``write`` takes: ``bytes``, or ``str``, which is sent as UTF-8."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode("utf-8")
    raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'")


def text_of(values: Sequence[Any]) -> str:
    """The values as the arguments of a directive."""
    return " ".join(str(value) for value in values)
