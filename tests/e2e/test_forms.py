"""Forms through the real server: uploads of any size, limits, and what attackers send."""

import collections
import hashlib
import json
import random

import pytest
from harness import Truncated

MULTIPART = [("Content-Type", "multipart/form-data; boundary=XbX")]
URLENCODED = [("Content-Type", "application/x-www-form-urlencoded")]
HEAD = b'--XbX\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n'
TAIL = b"\r\n--XbX--\r\n"


def configure(server):
    server.allow("VIV0060")
    server.site("forms")


def value(response):
    assert response.status == 200, response
    return json.loads(response.body)


def test_a_form(web):
    body = b"--XbX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nval\xc3\xa9\r\n" + HEAD + b"content" + TAIL
    assert value(web.post("/show?q=%C3%A9", body, MULTIPART)) == [["q", "é"], ["a", "valé"], ["f", "n"]]
    assert value(web.post("/show", b"a=%C3%A9&b=+c&a=", URLENCODED)) == [["a", "é"], ["b", " c"], ["a", ""]]


def test_a_redirect_keeps_cookies(web):
    response = web.get("/redirect?a=1")
    assert (response.status, response.header("Location")) == (302, "/show?a=1")
    assert response.all("Set-Cookie") == ["left=here"]


@pytest.mark.parametrize("chunked", [False, True])
def test_memory_is_flat_while_a_file_of_any_size_comes(web, chunked):
    """256 MiB: the worker never has a fraction of it."""
    block, count = random.Random(1).randbytes(1 << 20), 256
    before = value(web.post("/upload", HEAD + b"x" + TAIL, MULTIPART))[2]
    length = len(HEAD) + count * len(block) + len(TAIL)
    digest = hashlib.sha256()
    with web.connect() as connection:
        kind = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(length))
        connection.send_head("POST", "/upload", [*MULTIPART, kind])
        send = connection.send_chunk if chunked else connection.send
        send(HEAD)
        for _ in range(count):
            send(block)
            digest.update(block)
        send(TAIL)
        if chunked:
            connection.send_chunk(b"")
        size, found, most = value(connection.response())
    assert (size, found) == (count * len(block), digest.hexdigest())
    assert most - before < 64 * 1024, "KiB that the worker grew by"


def test_a_limit_is_413_before_the_whole_body_has_come(web):
    """16 MiB are allowed: nobody reads the gigabyte that is announced."""
    with web.connect() as connection:
        connection.send_head("POST", "/show", [*URLENCODED, ("Content-Length", str(1 << 30)), ("Connection", "close")])
        try:
            for _ in range(24):
                connection.send(b"a" * (1 << 20))
            assert connection.response().status == 413
        except (BrokenPipeError, ConnectionResetError, Truncated):
            # httpd closed the connection on us: the log says what the answer was.
            pass
    assert web.wait_log("VIV0060.*413")


def soup(chance):
    """A body, its type, and headers, some of which are wrong."""
    pieces = [
        HEAD, TAIL, b"--XbX", b"\r\n--XbX\r\n", b"\r\n", b"\r\n\r\n", b"--XbX--", b"a=1&", b"%ff%00", b"&" * 50, b"a=%C3;b", b"x" * 5000,
        b'Content-Disposition: form-data; name="a"\r\n\r\n', b'Content-Disposition: form-data; name="', b"\0", b"\xff\xfe",
        b"--XbX\r\n" + b"X: " + b"y" * 20000 + b"\r\n\r\n", b"a&" * 1200, b"Content-Type: text/plain; charset=idna\r\n",
    ]
    body = b"".join(chance.choice(pieces) if chance.random() < 0.8 else chance.randbytes(9) for _ in range(chance.randrange(9)))
    if chance.random() < 0.5:
        body = HEAD + body + TAIL
    kind = chance.choice([MULTIPART, MULTIPART, URLENCODED, [], [("Content-Type", "text/x")],
                          [("Content-Type", 'multipart/form-data; boundary="')]])
    cookie = "".join(chance.choice(["pysid=", "a=", ";", '"', "\\", "../", "%2e", "0" * 32, "é", "=", ",", " "]) for _ in range(9))
    return body, [*kind, ("Cookie", cookie.encode().decode("latin-1"))]


def test_what_attackers_send_is_answered_and_leaves_nothing(web):
    """Some hundreds of bodies: 200 or a clear 4xx (501 for a type that is none), and no growth."""
    chance = random.Random(6)

    def states(requests=60):
        """The largest that each worker says of itself, over several requests."""
        seen = {}
        for _ in range(requests):
            pid, files, memory = value(web.get("/state"))
            seen[pid] = (files, memory)
        return seen

    def attack(count):
        statuses = collections.Counter()
        for _ in range(count):
            body, headers = soup(chance)
            target = "/hostile?" + chance.choice(["", "a=1;b", "%00", "a" * 3000])
            statuses[web.post(target, body, headers).status] += 1
        return statuses

    attack(100)
    before = states()
    statuses = attack(300)
    after = states()
    assert set(statuses) <= {200, 400, 413, 501}, statuses
    assert {200, 400, 413, 501} <= set(statuses), f"{statuses}: not all of it was tried"
    for pid in before.keys() & after.keys():
        assert after[pid][0] <= before[pid][0] + 2, "open files"
        assert after[pid][1] - before[pid][1] < 16 * 1024, "KiB of memory"
    assert before.keys() & after.keys(), "a worker died"
