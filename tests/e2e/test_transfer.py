"""Large bodies, small pieces, slow clients: all of it arrives, and memory stays where it is."""

import hashlib
import threading

import pytest

from harness.memory import Growth
from harness.wait import settled, wait_until

MIB = 1 << 20
GIB = 1 << 30
LIMIT = 32 * 1024  # KiB

# What httpd, the ring and the kernel may hold between a handler and a client that does not read: sockets of the
# loopback take a few MiB each way, the rest is smaller.
IN_BETWEEN = 24 * MIB


def blocks(size):
    fill = hashlib.shake_128(b"fill").digest(MIB)
    for number in range(size // MIB):
        yield number.to_bytes(8, "big") + fill[8:]


def warm_up(web):
    """Every path that the transfer takes is taken once, so that growth is growth."""
    for _ in range(20):
        assert web.get(f"/down?{MIB}").status == 200
        assert web.post("/up", b"x" * MIB).status == 200
    return Growth(web.tree())


def upload(web, size):
    digest = hashlib.blake2b()
    with web.connect() as connection:
        connection.send_head("POST", "/up", [("Content-Length", str(size))])
        for block in blocks(size):
            digest.update(block)
            connection.send(block)
        response = connection.response()
    assert response.text == f"{size} {digest.hexdigest()}"


def download(web, size):
    digest, count = hashlib.blake2b(), 0
    with web.connect() as connection:
        connection.send_head("GET", f"/down?{size}")
        response = connection.head()
        for piece in connection.pieces(response, MIB):
            digest.update(piece)
            count += len(piece)
    assert count == size
    note = web.scratch / "down"
    wait_until(note.exists, "the handler's own digest")
    assert note.read_text() == digest.hexdigest()
    note.unlink()


@pytest.fixture
def event(make_server):
    server = make_server(mpm="event")
    server.site("transfer")
    return server.start()


def test_one_gib_up(event):
    growth = warm_up(event)
    upload(event, GIB)
    worst = growth.worst()
    assert worst[0] <= LIMIT, worst


def test_one_gib_down(event):
    growth = warm_up(event)
    (event.scratch / "down").unlink()
    download(event, GIB)
    worst = growth.worst()
    assert worst[0] <= LIMIT, worst


def test_up_and_down_at_the_same_time(web):
    failures = []

    def run(work):
        try:
            work(web, 48 * MIB)
        except BaseException as error:  # handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in (upload, upload, download)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_a_hundred_thousand_flushed_pieces(web):
    growth = warm_up(web)
    with web.connect() as connection:
        connection.send_head("GET", "/pieces?100000")
        response = connection.head()
        got = b"".join(connection.pieces(response))
    assert got == b"".join(b"%07d\n" % n for n in range(100_000))
    worst = growth.worst()
    assert worst[0] <= LIMIT, worst


def test_a_flushed_piece_arrives_while_the_handler_waits(web):
    with web.connect() as connection:
        connection.send_head("GET", "/lockstep")
        pieces = connection.pieces(connection.head())
        seen = b""
        for number in range(10):
            while not seen.endswith(b"piece %d\n" % number):
                seen += next(pieces)
            (web.scratch / f"seen-{number}").touch()
        assert list(pieces) == []
    for number in range(10):
        (web.scratch / f"seen-{number}").unlink()


def test_a_slow_client_stops_a_fast_handler(web):
    """The client takes 1 KiB a second; the handler, which would write 1 GiB, comes to a stop, and no memory fills."""
    growth = warm_up(web)
    written, ended = web.scratch / "written", web.scratch / "ended"
    pace = threading.Event()
    with web.connect(receive_buffer=4096) as connection:
        connection.send_head("GET", f"/fast?{GIB}")
        read = 0
        pieces = connection.pieces(connection.head(), size=1024)
        stopped_at = settled(lambda: written.read_text() if written.exists() else None)
        for _ in range(5):
            read += len(next(pieces))
            pace.wait(1)
        assert int(written.read_text()) - read <= IN_BETWEEN
        assert int(written.read_text()) >= int(stopped_at)
        assert not ended.exists()
        worst = growth.worst()
    # The client is gone: the handler learns it by its next write.
    wait_until(ended.exists, "the handler's end")
    assert ended.read_text() == "OSError: Write failed, client closed connection."
    assert worst[0] <= LIMIT, worst
    written.unlink()
    ended.unlink()


def test_a_slow_client_gets_everything_in_the_end(web):
    size, ended = 64 * MIB, web.scratch / "ended"
    with web.connect(receive_buffer=4096) as connection:
        connection.send_head("GET", f"/fast?{size}")
        response = connection.head()
        settled(lambda: (web.scratch / "written").exists() and (web.scratch / "written").read_text())
        count = sum(len(piece) for piece in connection.pieces(response))
    assert count == size
    wait_until(ended.exists, "the handler's end")
    assert ended.read_text() == "complete"
    ended.unlink()
    (web.scratch / "written").unlink()
