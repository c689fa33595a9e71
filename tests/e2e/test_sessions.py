"""Sessions: what is saved is there, whichever worker is asked, and whoever dies."""

import json
import os
import pwd
import threading
from contextlib import contextmanager

import pytest
import redis as redis_py
from devlib import artefacts
from harness import procs, wait_until
from harness.redis_server import RedisServer

KINDS = ["Sqlite", "File", "Dbm"]


def configure(server):
    server.allow("VIV0011", "VIV0013", "VIV0020", "VIV0021", "VIV0061", "VIV0062")
    server.site("sessions", 'PythonOption mod_python.session.database_directory "%s"' % private(server))


def private(server, name="sessions"):
    """A folder that belongs to the user of Python alone."""
    folder = server.scratch / name
    folder.mkdir(mode=0o700)
    entry = pwd.getpwnam(artefacts.python_user())
    if os.geteuid() == 0:
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder


class Browser:
    """A client that keeps the session's cookie."""

    def __init__(self, server):
        self.server = server
        self.cookie = None

    def get(self, target):
        """The answer to a request."""
        response = self.server.get(target, [("Cookie", self.cookie)] if self.cookie else [])
        for line in response.all("Set-Cookie"):
            self.cookie = line.partition(";")[0]
        return response

    def value(self, target):
        """What a handler gave."""
        response = self.get(target)
        assert response.status == 200, response
        return json.loads(response.body)

    def to(self, server):
        """The same client at another server."""
        other = Browser(server)
        other.cookie = self.cookie
        return other


@contextmanager
def held(server, browser, kind):
    """A request that has the session while the block runs, and what it answered in the end."""
    for name in ("holding", "go"):
        (server.scratch / name).unlink(missing_ok=True)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(browser.get(f"/hold/{kind}")), daemon=True)
    thread.start()
    wait_until((server.scratch / "holding").exists, "the handler to hold the session")
    try:
        yield answers
    finally:
        (server.scratch / "go").touch()
        thread.join(120)
    assert answers, "the request that held the session was never answered"


# --- on one machine

@pytest.mark.parametrize("kind", KINDS)
def test_contents_are_kept(web, kind):
    browser, other = Browser(web), Browser(web)
    assert browser.value(f"/count/{kind}")[:2] == [1, True]
    assert browser.value(f"/count/{kind}")[:2] == [2, False]
    assert other.value(f"/count/{kind}")[:2] == [1, True]
    assert browser.value(f"/read/{kind}") == {"hits": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_requests_of_one_session_do_not_overlap(web, kind):
    """Six clients with one cookie, on all workers: no count is lost."""
    browser = Browser(web)
    browser.value(f"/count/{kind}")
    pids, troubles = set(), []

    def several():
        own = browser.to(web)
        for _ in range(15):
            response = own.get(f"/count/{kind}")
            if response.status == 200:
                pids.add(json.loads(response.body)[2])
            else:
                troubles.append(response)

    rounds = 0
    # Who gets a request is chance: another round if one worker did everything, which is no test of locks between processes.
    while len(pids) < 2 and rounds < 20:
        rounds += 1
        threads = [threading.Thread(target=several) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
    assert troubles == []
    assert len(pids) > 1
    assert browser.value(f"/read/{kind}") == {"hits": 1 + rounds * 6 * 15}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_holder_has_no_lock(web, kind):
    browser = Browser(web)
    browser.value(f"/count/{kind}")
    assert browser.get(f"/die/{kind}").status == 502
    wait_until(lambda: browser.get(f"/read/{kind}").status == 200, "a worker to be there")
    assert browser.value(f"/count/{kind}")[:2] == [2, False]
    assert browser.value(f"/read/{kind}") == {"hits": 2}


def test_who_waits_too_long_gets_503(web):
    browser = Browser(web)
    browser.value("/count/Sqlite")
    with held(web, browser, "Sqlite"):
        assert browser.to(web).get("/slow_lock/Sqlite").status == 503
        assert web.wait_log("VIV0062")
    assert browser.value("/read/Sqlite") == {"hits": 1, "held": 1}


def test_a_page_reached_by_an_internal_redirect_has_the_same_session(web):
    assert Browser(web).value("/outer/Sqlite") == {"outer": 1, "inner": 1}


def test_a_login_changes_the_id(web):
    browser = Browser(web)
    browser.value("/count/Sqlite")
    before = browser.to(web)
    browser.value("/login/Sqlite?bob")
    assert browser.cookie != before.cookie
    assert browser.value("/read/Sqlite") == {"hits": 1, "user": "bob"}
    assert before.value("/read/Sqlite") == {}


@pytest.mark.parametrize("sid", ["../../../../etc/passwd", "..%2f..", "0" * 31, "0" * 33, "/etc/passwd", "%00", "x" * 3000, '"\\057"', "."])
def test_ids_that_are_paths(web, sid):
    for kind in KINDS:
        browser = Browser(web)
        browser.cookie = f"pysid={sid}"
        hits, new, _ = browser.value(f"/count/{kind}")
        assert (hits, new) == (1, True)
        assert len(browser.cookie) == len("pysid=") + 32


def test_sessions_outlive_a_restart(make_server):
    server = make_server(mpm="event")
    configure(server)
    server.start()
    browsers = {kind: Browser(server) for kind in KINDS}
    for kind, browser in browsers.items():
        browser.value(f"/count/{kind}")
    workers = server.workers()
    server.graceful()
    wait_until(lambda: not set(workers) & set(server.workers()), "the end of the old workers")
    for kind, browser in browsers.items():
        assert browser.value(f"/read/{kind}") == {"hits": 1}


# --- Redis

@pytest.fixture(scope="module")
def redis():
    """A server for the tests that do it no harm."""
    with RedisServer() as server:
        yield server


def with_redis(make_server, url, extra=""):
    """An httpd whose sessions are in that Redis."""
    server = make_server(mpm="event")
    server.allow("VIV0011", "VIV0013", "VIV0020", "VIV0021", "VIV0061", "VIV0062")
    server.site("sessions", f'PythonOption mod_python.redis_session.url "{url}"\n{extra}')
    return server.start()


def test_two_servers_with_one_redis(make_server, redis):
    one, two = with_redis(make_server, redis.url), with_redis(make_server, redis.url)
    browser = Browser(one)
    browser.value("/login/Redis?bob")
    assert browser.to(two).value("/read/Redis") == {"user": "bob"}
    one.stop()
    assert browser.to(two).value("/read/Redis") == {"user": "bob"}


def test_requests_of_one_session_do_not_overlap_with_redis(make_server, redis):
    servers = [with_redis(make_server, redis.url) for _ in range(2)]
    browser = Browser(servers[0])
    browser.value("/count/Redis")

    def several(server):
        own = browser.to(server)
        for _ in range(10):
            own.value("/count/Redis")

    threads = [threading.Thread(target=several, args=(server,)) for server in servers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert browser.value("/read/Redis") == {"hits": 1 + 4 * 10}


def test_a_dead_holder_has_no_lock_for_long_with_redis(make_server, redis):
    server = with_redis(make_server, redis.url, "PythonOption mod_python.redis_session.lock_ttl 1")
    browser = Browser(server)
    browser.value("/count/Redis")
    assert browser.get("/die/Redis").status == 502
    wait_until(lambda: browser.get("/read/Redis").status == 200, "a worker to be there")
    assert browser.value("/read/Redis") == {"hits": 1}


def test_a_living_holder_keeps_its_lock_with_redis(make_server, redis):
    """Longer than the lock's life: it is renewed."""
    server = with_redis(make_server, redis.url, "PythonOption mod_python.redis_session.lock_ttl 6")
    browser = Browser(server)
    browser.value("/count/Redis")
    client = redis_py.Redis.from_url(redis.url)
    key = f"mp_sess:lock:{browser.cookie.partition('=')[2]}"
    with held(server, browser, "Redis"):
        token = client.get(key)
        assert token
        # The time at which it would end moves on, twice.
        for _ in range(2):
            end = client.pexpiretime(key)
            wait_until(lambda end=end: client.pexpiretime(key) > end, "the lock to be renewed")
        assert client.get(key) == token
    wait_until(lambda: client.get(key) is None, "the lock to be given back")
    client.close()


def test_keys_expire_by_themselves(make_server, redis):
    server = with_redis(make_server, redis.url, "PythonOption mod_python.session.timeout 1000\nPythonOption mod_python.redis_session.prefix other:")
    browser = Browser(server)
    browser.value("/count/Redis")
    client = redis_py.Redis.from_url(redis.url)
    key = f"other:{browser.cookie.partition('=')[2]}"
    assert 0 < client.pttl(key) <= 1_000_000
    assert json.loads(client.get(key))["_data"] == {"hits": 1}
    client.delete(key)
    assert browser.value("/count/Redis")[:2] == [1, True]
    client.close()


def test_redis_is_killed_in_mid_flight(make_server):
    """A clear 503 for who wanted to save, and what was saved before is there again with the server."""
    with RedisServer() as redis:
        server = with_redis(make_server, redis.url, "PythonOption mod_python.redis_session.lock_ttl 1")
        browser = Browser(server)
        browser.value("/count/Redis")
        with held(server, browser, "Redis") as answers:
            redis.kill()
            assert browser.to(server).get("/read/Redis").status == 503
        assert answers[0].status == 503
        lines = server.wait_log("VIV0061", 2)
        assert all(f"127.0.0.1:{redis.port}" in line for line in lines)
        assert server.get("/count/Redis").status == 503
        redis.start()
        wait_until(lambda: browser.get("/read/Redis").status == 200, "the store to be back")
        assert browser.value("/read/Redis") == {"hits": 1}
        assert browser.value("/count/Redis")[:2] == [2, False]


def test_a_password_is_used_and_not_logged(make_server):
    with RedisServer("requirepass geheim\n") as redis:
        url = f"redis://:geheim@127.0.0.1:{redis.port}/0"
        server = with_redis(make_server, url)
        browser = Browser(server)
        assert browser.value("/count/Redis")[:2] == [1, True]
        redis.kill()
        assert browser.get("/count/Redis").status == 503
        assert server.wait_log("VIV0061")
        assert "geheim" not in server.log_text()


def test_a_worker_that_is_killed_costs_no_session(make_server, redis):
    server = with_redis(make_server, redis.url)
    browser = Browser(server)
    browser.value("/count/Redis")
    for pid in server.workers():
        procs.kill(pid)
    wait_until(lambda: browser.get("/read/Redis").status == 200, "a worker to be there")
    assert browser.value("/read/Redis") == {"hits": 1}
