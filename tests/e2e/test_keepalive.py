"""Connections that are kept: many requests on one, pipelined ones, and nobody who keeps others from being served.

After an answer a thread of httpd may look whether the next request is there already; what comes of it must not show.
"""

import threading

import pytest

from harness.client import Connection, Truncated

KEEP = "KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 300\n"


def configure(server):
    server.add(KEEP)
    server.site("keepalive")
    server.write("static/page.txt", "a static page\n")
    server.write("static/keepalive.py", (server.htdocs / "keepalive.py").read_bytes())
    server.add(f"""
        <Directory "{server.htdocs}/static">
            SetHandler none
            PythonAccessHandler keepalive::allowed
        </Directory>
    """)


# Method, target, body, and what comes back.
REQUESTS = (
    ("GET", "/echo?1", b"", 200, b"GET 1 "),
    ("POST", "/echo?2", b"the body", 200, b"POST 2 the body"),
    ("GET", "/flushed", b"", 200, b"one two "),
    ("GET", "/nothing", b"", 200, b""),
    ("HEAD", "/echo?3", b"", 200, b""),
    ("GET", "/static/page.txt", b"", 200, b"a static page\n"),
    ("GET", "/missing", b"", 404, None),
    ("GET", "/large", b"", 200, b"x" * 200_000),
    ("GET", "/echo?4", b"", 200, b"GET 4 "),
)


@pytest.mark.compat
def test_every_answer_belongs_to_its_request(web):
    with Connection(web.port) as connection:
        for turn in range(40):
            for method, target, body, status, expected in REQUESTS:
                response = connection.request(method, target, body=body or None)
                assert response.status == status, (turn, target)
                assert expected is None or response.body == expected, (turn, target)


@pytest.mark.compat
@pytest.mark.parametrize("rounds", [1, 30])
def test_requests_that_are_sent_before_the_answers_come(web, rounds):
    chosen = [r for r in REQUESTS if r[0] != "HEAD" and r[1] != "/large"]
    with Connection(web.port) as connection:
        text = b""
        for method, target, body, _, _ in chosen * rounds:
            text += f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        sender = threading.Thread(target=connection.send, args=(text,))
        sender.start()
        for number, (_, target, _, status, expected) in enumerate(chosen * rounds):
            connection.method = "GET"
            response = connection.response()
            assert response.status == status, (number, target)
            assert expected is None or response.body == expected, (number, target)
        sender.join()


@pytest.mark.compat
@pytest.mark.parametrize("at_once", [1, 30])
def test_notes_live_as_long_as_their_connection(web, at_once):
    ask = b"GET /counted HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for _ in range(20):
        with Connection(web.port) as connection:
            seen = []
            while len(seen) < 30:
                connection.send(ask * at_once)
                seen += [connection.response().text for _ in range(at_once)]
            assert seen == [str(n) for n in range(1, 31)]


def test_a_connection_that_was_told_too_much_is_not_kept(web):
    """What is told to a connection takes memory until it ends."""
    with Connection(web.port) as connection:
        for turn in range(6):
            response = connection.request("GET", "/noted?50000")
            assert response.status == 200
            closes = (response.header("Connection") or "").lower() == "close"
            assert closes == (turn == 5), turn


def rounds_of(port, target, expected, count):
    """Asks so many times; a connection that httpd closes between two requests is opened again."""
    done, connection = 0, None
    while done < count:
        try:
            connection = connection or Connection(port)
            response = connection.request("GET", target)
        except (Truncated, ConnectionError) as error:
            assert getattr(error, "response", None) is None, "an answer was broken off"
            connection.close()
            connection = None
            continue
        assert (response.status, response.body) == (200, expected)
        done += 1
    connection.close()


@pytest.mark.compat
@pytest.mark.parametrize("target, expected", [("/echo?x", b"GET x "), ("/static/page.txt", b"a static page\n")])
def test_more_clients_than_threads(make_server, target, expected):
    """Clients that ask again at once do not keep the threads: all get their answers."""
    server = make_server(mpm="event")
    server.add("StartServers 1\nServerLimit 1\nThreadsPerChild 2\nThreadLimit 2\nMaxRequestWorkers 2\n"
               "MinSpareThreads 1\nMaxSpareThreads 2\n")
    configure(server)
    server.start()
    rounds_of(server.port, target, expected, 100)
    failed = []

    def client():
        try:
            rounds_of(server.port, target, expected, 150)
        except BaseException as error:  # pylint: disable=broad-exception-caught
            failed.append(error)
            raise

    clients = [threading.Thread(target=client, daemon=True) for _ in range(8)]
    for each in clients:
        each.start()
    for each in clients:
        each.join(300)
    assert not failed
    assert not any(each.is_alive() for each in clients), "somebody is never served"
