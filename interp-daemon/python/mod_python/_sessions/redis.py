"""Sessions in Redis or Valkey: for sites of more than one machine."""

from __future__ import annotations

import os
import secrets
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from mod_python._sessions import locks, options
from mod_python._sessions.base import DFT_LOCK, BaseSession

_KIND = "mod_python.redis_session."
_URL = "redis://127.0.0.1:6379/0"
_PREFIX = "mp_sess:"
#: Seconds until a server that does not answer counts as gone.
_SOCKET_TIMEOUT = 5
#: Seconds after which a lock is free whose holder has died.
_LOCK_TTL = 30

# Only the holder of a lock may renew it or give it back.
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class RedisSession(BaseSession):
    """Sessions in a Redis or Valkey server, cluster, or group watched by sentinels.

    Each is a key that the server forgets when it expires. A session's lock is a key too, which its holder renews as
    long as it lives.
    """

    def __init__(
        self, req: Any, sid: Any = 0, secret: Any = None, timeout: float = 0, lock: Any = DFT_LOCK
    ) -> None:
        self._url = _url(req)
        self._client = _client(self._url, options.number(req, _KIND + "socket_timeout", _SOCKET_TIMEOUT))
        self._prefix = options.text(req, _KIND + "prefix", _PREFIX)
        super().__init__(req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def do_load(self) -> Optional[Dict[str, Any]]:
        """Reads the key."""
        return self._loads(self._do(lambda client: client.get(self._key())))

    def do_save(self, record: Dict[str, Any]) -> None:
        """Writes the key."""
        data = self._dumps(record)
        life = max(1, int(1000 * record["_timeout"]))
        self._do(lambda client: client.set(self._key(), data, px=life))

    def do_delete(self) -> None:
        """Removes the key."""
        self._do(lambda client: client.delete(self._key()))

    def do_cleanup(self) -> None:
        """Does nothing: the server forgets sessions by itself."""

    def _key(self) -> str:
        return f"{self._prefix}{self._sid}"

    def _make_lock(self) -> Any:
        ttl = options.number(self._req, _KIND + "lock_ttl", _LOCK_TTL)
        return RedisLock(self._client, self._do, f"{self._prefix}lock:{self._sid}", max(ttl, 1))

    def _do(self, action: Callable[[Any], Any]) -> Any:
        """Does something with the server; 503 if it does not answer."""
        from redis.exceptions import RedisError

        try:
            return action(self._client)
        except (RedisError, OSError) as error:
            options.unavailable(self._req, f"the store of sessions {without_password(self._url)}", error)


# --- locks

class RedisLock:
    """A lock that is a key with a limited life, which is renewed until the lock is given back or the process ends."""

    def __init__(self, client: Any, do: Any, name: str, ttl: float) -> None:
        self.key = name
        self._client = client
        self._do = do
        self._token = secrets.token_hex(16)
        self._life = int(1000 * ttl)
        #: When it is to be renewed, on the monotonic clock.
        self.due = 0.0

    def acquire(self, seconds: float) -> bool:
        """Takes the lock, waiting that long (0: for ever); says whether it did."""
        taken = locks.patiently(
            lambda: bool(self._do(lambda client: client.set(self.key, self._token, nx=True, px=self._life))),
            seconds,
            longest=0.1,
        )
        if taken:
            self._again()
            _renewer.add(self)
        return taken

    def release(self) -> None:
        """Gives it back, or leaves it to die if the server does not answer."""
        _renewer.remove(self)
        self._quietly(_RELEASE)

    def renew(self) -> None:
        """Lets it live on."""
        self._again()
        self._quietly(_RENEW, self._life)

    def _again(self) -> None:
        """Says when it is to be renewed: after a third of its life."""
        self.due = time.monotonic() + self._life / 3000

    def _quietly(self, script: str, *more: Any) -> None:
        from redis.exceptions import RedisError

        try:
            self._client.eval(script, 1, self.key, self._token, *more)
        except (RedisError, OSError):
            # Whoever uses the session next hears of it; the key's life ends by itself.
            return


class _Renewer:
    """Renews the locks of this process, in a thread of its own that ends when there are none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._locks: List[RedisLock] = []
        self._running = False

    def add(self, lock: RedisLock) -> None:
        """Begins to renew a lock."""
        with self._changed:
            self._locks.append(lock)
            if self._running:
                self._changed.notify()
                return
            self._running = True
        threading.Thread(target=self._run, name="session-locks", daemon=True).start()

    def remove(self, lock: RedisLock) -> None:
        """Ends that."""
        with self._changed:
            if lock in self._locks:
                self._locks.remove(lock)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._locks:
                    # A little patience: the next request is not far.
                    self._changed.wait(10)
                    if not self._locks:
                        self._running = False
                        return
                now = time.monotonic()
                due = [lock for lock in self._locks if lock.due <= now]
                if not due:
                    self._changed.wait(min(lock.due for lock in self._locks) - now)
                    continue
            for lock in due:
                lock.renew()


_renewer = _Renewer()


# --- servers

_clients: Dict[Tuple[str, float], Any] = {}
_clients_guard = threading.Lock()


def _start_anew() -> None:
    """In a forked process, which has none of its parent's threads, connections and locks."""
    global _renewer, _clients_guard
    _renewer = _Renewer()
    _clients_guard = threading.Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_start_anew)


def _url(req: Any) -> str:
    path = options.text(req, _KIND + "url_file")
    if path:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    return options.text(req, _KIND + "url", _URL) or _URL


def _client(url: str, patience: float) -> Any:
    """The client for a URL: one for each process, which keeps connections open."""
    with _clients_guard:
        found = _clients.get((url, patience))
        if found is None:
            found = _clients[url, patience] = connect(url, patience)
        return found


def connect(url: str, patience: float) -> Any:
    """A client for a URL.

    ===================================================================  ===============================================
    URL                                                                  means
    ===================================================================  ===============================================
    ``redis://USER:PASSWORD@HOST:PORT/DB``, ``rediss://`` (TLS)          one server
    ``unix://PASSWORD@/PATH?db=DB``                                      one server of this machine
    ``redis+cluster://HOST:PORT``, ``rediss+cluster://``                 a cluster: any of its servers
    ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB``, ``rediss+...``  what the sentinels say is the primary
    ===================================================================  ===============================================

    ``valkey`` stands for ``redis`` anywhere. A ``?`` begins options of redis-py, such as ``ssl_ca_certs``; for
    sentinels ``sentinel_username`` and ``sentinel_password`` too.
    """
    try:
        import redis
    except ImportError:
        raise RuntimeError(
            "RedisSession needs the package redis (redis-py): apt-get install python3-redis, or pip install redis"
        ) from None
    url = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    common = {"socket_timeout": patience or None, "socket_connect_timeout": patience or None}
    if base not in ("redis", "rediss", "unix") or kind not in ("", "cluster", "sentinel") or not rest:
        raise ValueError(
            f"PythonOption {_KIND}url: {without_password(url)!r} does not begin with redis://, rediss://, unix://, "
            "redis+cluster:// or redis+sentinel://"
        )
    if kind == "cluster":
        from redis.cluster import RedisCluster

        return RedisCluster.from_url(f"{base}://{rest}", **common)
    if kind == "sentinel":
        return _by_sentinels(url, base == "rediss", common)
    if base == "unix":
        # There is nothing to wait for when one connects to a socket of this machine.
        del common["socket_connect_timeout"]
    return redis.Redis.from_url(url, health_check_interval=30, **common)


def _by_sentinels(url: str, tls: bool, common: Dict[str, Any]) -> Any:
    from redis.sentinel import Sentinel

    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise ValueError(f"PythonOption {_KIND}url: redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB is the form")
    given: Dict[str, Any] = dict(parse_qsl(parts.query))
    sentinel = {name: given.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in given}
    if login:
        user, _, password = login.rpartition(":")
        given["password"] = unquote(password)
        if user:
            given["username"] = unquote(user)
    if tls:
        given["ssl"] = sentinel["ssl"] = True
        sentinel.update({name: value for name, value in given.items() if name.startswith("ssl_")})
    addresses = []
    for host in hosts.split(","):
        name, colon, port = host.rpartition(":")
        addresses.append((name, int(port)) if colon else (host, 26379))
    watch = Sentinel(addresses, sentinel_kwargs={**common, **sentinel}, **common, **given)
    return watch.master_for(service, db=int(db or 0))


def without_password(url: str) -> str:
    """The URL as it may be logged."""
    parts = urlsplit(url)
    _, at, hosts = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, f"***@{hosts}" if at else hosts, parts.path, "", ""))
