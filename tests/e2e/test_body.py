"""Reading the body of a request."""

import hashlib
import json
import random

import pytest

TEXT = b"one\ntwo\n\nfour without end"


def configure(server):
    server.allow_line(r"AH0156[67]|half a body")
    server.site("body", "PythonDebug Off")


def ask(web, target, body):
    response = web.post(target, body)
    assert response.status == 200, response
    return json.loads(response.body)


@pytest.mark.compat
@pytest.mark.parametrize("size", [1, 4095, 65536, 65537, 1 << 20, 9_999_999])
@pytest.mark.compat
def test_whole_body(web, size):
    body = random.Random(size).randbytes(size)
    assert ask(web, "/whole", body) == [size, hashlib.sha256(body).hexdigest(), True, "bytes"]


@pytest.mark.compat
@pytest.mark.parametrize("block", [1000, 65536, 200_000])
@pytest.mark.compat
def test_blocks(web, block):
    body = random.Random(block).randbytes(1_234_567)
    assert ask(web, f"/blocks?{block}", body) == [len(body), hashlib.sha256(body).hexdigest(), True]


@pytest.mark.compat
def test_empty_body(web):
    assert ask(web, "/whole", b"")[0] == 0
    assert ask(web, "/lines", b"") == []


@pytest.mark.compat
def test_lines(web):
    expected = ["one\n", "two\n", "\n", "four without end"]
    assert ask(web, "/lines", TEXT) == expected
    assert ask(web, "/all_lines", TEXT) == expected
    assert ask(web, "/short_lines", b"abcdefg\nhi\n") == ["abcd", "efg\n", "hi\n"]


@pytest.mark.compat
def test_long_lines(web):
    text = b"a" * 100_000 + b"\n" + b"b" * 70_000
    assert ask(web, "/lines", text) == ["a" * 100_000 + "\n", "b" * 70_000]


@pytest.mark.compat
def test_lines_and_bytes_mixed(web):
    assert ask(web, "/mixed", TEXT) == ["one\n", "two", "\n\nfour without end"]


@pytest.mark.compat
def test_how_much_was_read(web):
    assert ask(web, "/lengths", b"0123456789") == [0, 4, 10]


@pytest.mark.compat
@pytest.mark.parametrize("target", ["/whole", "/blocks?1000"])
def test_a_chunked_body(web, target):
    """mod_python refuses these with 411; here they are read like others."""
    blocks = [random.Random(size).randbytes(size) for size in (1, 70_000, 5)]
    with web.connect() as connection:
        connection.send_head("POST", target, [("Transfer-Encoding", "chunked")])
        for block in [*blocks, b""]:
            connection.send_chunk(block)
        count, digest, *_ = json.loads(connection.response().body)
    assert (count, digest) == (70_006, hashlib.sha256(b"".join(blocks)).hexdigest())


@pytest.mark.compat
def test_an_unread_body_does_not_harm_the_next_request(web):
    with web.connect() as connection:
        assert connection.request("POST", "/unread", body=b"x" * 100_000).status == 200
        assert connection.request("POST", "/mixed", body=TEXT).status == 200


@pytest.mark.compat
def test_expect_continue(web):
    with web.connect() as connection:
        connection.send_head("POST", "/echo", [("Content-Length", "5"), ("Expect", "100-continue")])
        assert connection.interim() == 100
        connection.send(b"hello")
        assert connection.response().body == b"hello"


@pytest.mark.compat
def test_write_before_read(web):
    assert web.post("/early", b"body").body == b"before after body"


@pytest.mark.compat
def test_half_a_body(web):
    with web.connect() as connection:
        connection.send_head("POST", "/half", [("Content-Length", "1000")])
        connection.send(b"x" * 500)
    web.wait_log("half a body: OSError")


@pytest.mark.compat
def test_body_and_answer_at_the_same_time(web):
    """The answer begins long before the body ends: neither side holds it."""
    block = random.Random(1).randbytes(1 << 20)
    with web.connect() as connection:
        connection.send_head("POST", "/echo", [("Content-Length", str(4 * len(block)))])
        connection.send(block)
        response = connection.head()
        pieces = connection.pieces(response)
        got = b"".join(_take(pieces, 512 * 1024))
        for _ in range(3):
            connection.send(block)
            got += b"".join(_take(pieces, len(block)))
        got += b"".join(pieces)
    assert got == 4 * block


def _take(pieces, least):
    """Pieces until at least that many bytes came."""
    while least > 0:
        piece = next(pieces)
        least -= len(piece)
        yield piece
