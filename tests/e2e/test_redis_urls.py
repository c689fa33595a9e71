"""What a URL of RedisSession may name: real servers, clusters, sentinels and TLS, without httpd in between."""

import subprocess
import sys

import pytest
from devlib.artefacts import REPO
from devlib.httpd import free_port
from harness import wait_until
from harness.redis_server import RedisServer
from redis.exceptions import ConnectionError as Refused


@pytest.fixture(scope="module")
def redis_of():
    """The module of RedisSession, from the source tree."""
    sys.path.insert(0, str(REPO / "interp-daemon/python"))
    try:
        from mod_python._sessions import redis

        yield redis
    finally:
        sys.path.remove(str(REPO / "interp-daemon/python"))
        for name in [name for name in sys.modules if name.split(".")[0] in ("mod_python", "_apache")]:
            del sys.modules[name]


def works(redis_of, url):
    """A key and a lock, with the commands that sessions use."""
    client = redis_of.connect(url, 5)
    try:
        assert client.set("mp_sess:a", b"\x00\xff", px=60_000)
        assert client.get("mp_sess:a") == b"\x00\xff"
        one, two = (redis_of.RedisLock(client, lambda action: action(client), "mp_sess:lock:a", 60) for _ in range(2))
        assert one.acquire(1)
        assert not two.acquire(0.05)
        two.release()
        assert not two.acquire(0.05), "only the holder gives a lock back"
        one.renew()
        one.release()
        assert two.acquire(1)
        two.release()
        assert client.delete("mp_sess:a") == 1
        assert client.get("mp_sess:a") is None
    finally:
        client.close()


def test_one_server(redis_of):
    with RedisServer() as server:
        works(redis_of, server.url)
        works(redis_of, server.url.replace("redis://", "valkey://"))


def test_a_user_with_a_password(redis_of):
    with RedisServer("user site on >ge:heim ~mp_sess:* +@all\nrequirepass other\n") as server:
        works(redis_of, f"redis://site:ge%3Aheim@127.0.0.1:{server.port}/0")


def test_a_unix_socket(redis_of):
    with RedisServer("unixsocket {folder}/socket\n") as server:
        works(redis_of, f"unix://{server.path}/socket?db=1")


def test_tls(redis_of, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    plain = RedisServer()
    tls = f"tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {certificate}\ntls-auth-clients no\n"
    config = plain.path / "redis.conf"
    # One more port for TLS, so that the harness may ask by the plain one whether the server is up.
    port = free_port()
    config.write_text(config.read_text() + tls + f"tls-port {port}\n")
    with plain:
        works(redis_of, f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}")
        client = redis_of.connect(f"rediss://127.0.0.1:{port}/0", 5)
        with pytest.raises(Refused, match="(?i)certificate"):
            client.get("x")
        client.close()


def test_a_cluster(redis_of):
    with RedisServer("cluster-enabled yes\n") as server:
        subprocess.run(
            ["redis-cli", "-p", str(server.port), "cluster", "addslotsrange", "0", "16383"], check=True, capture_output=True
        )

        def ready():
            done = subprocess.run(
                ["redis-cli", "-p", str(server.port), "cluster", "info"], check=True, capture_output=True, text=True
            )
            return "cluster_state:ok" in done.stdout

        wait_until(ready, "the cluster to be up")
        works(redis_of, f"redis+cluster://127.0.0.1:{server.port}")


def test_sentinels(redis_of):
    with RedisServer() as server, RedisServer(
        f"sentinel monitor site 127.0.0.1 {server.port} 1\n", sentinel=True
    ) as sentinel:
        works(redis_of, f"redis+sentinel://127.0.0.1:{sentinel.port}/site/0")
        works(redis_of, f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/site")


@pytest.mark.parametrize("url", ["http://x", "redis", "redis+none://x", "", "redis+sentinel://127.0.0.1:1", "redis+sentinel:///site"])
def test_a_url_that_is_none_is_named(redis_of, url):
    with pytest.raises(ValueError, match="mod_python.redis_session.url"):
        redis_of.connect(url, 5)


def test_passwords_are_not_shown(redis_of):
    assert redis_of.without_password("redis://u:geheim@h:1/0?password=geheim") == "redis://***@h:1/0"
    assert redis_of.without_password("redis://h:1/0") == "redis://h:1/0"
