"""Answers that are longer or shorter than they say, on a connection that others use too: the next answer is the next answer.

The client sends two requests at once. Whoever shares the connection with a tenant (a proxy in front of all) takes what comes
after `Content-Length` bytes for the second answer: nothing that the tenant wrote may come to stand there.
"""

import re

import pytest

EXTRA = """
PythonOutputFilter stages CHANGE
<Directory "{root}">
    PythonHandler stages
</Directory>
<Location "/more">
    SetHandler mod_python
    PythonHandler stages::forged
</Location>
<Location "/changed">
    SetHandler default-handler
    SetOutputFilter CHANGE
</Location>
Alias /changed "{root}/page.html"
"""
#: What the tenant does; the same request.
WAYS = {
    "more than it says": "/page?length=more&says=4",
    "less than it says": "/page?length=less",
    "less, never flushed": "/page?length=gathered",
    "nothing of what it says": "/page?length=none",
    "less, and DONE": "/page?length=done",
    "less, and an error page": "/page?length=error",
    "more, by an error page": "/page?length=error&says=20",
    "less, and an exception": "/page?length=raise",
    "less, and a death": "/page?length=die",
    "more, by a redirect": "/page?length=redirect&says=4",
    "less, by a redirect": "/page?length=redirect&says=1000",
    "more than a filter keeps": "/page?length=packed",
    "two lengths": "/page?length=two",
    "a length among the headers of errors": "/page?length=err",
    "a body where there is none": "/page?length=status",
    "a file that a filter makes longer": "/changed?longer=4",
    "a file that a filter makes shorter": "/changed?shorter=1",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server with tenants whose answers are wrong in length."""
    from conftest import open_to_tenants, skip_where_impossible  # pylint: disable=import-outside-toplevel

    skip_where_impossible()
    from tenant_site import TenantSite  # pylint: disable=import-outside-toplevel

    stage = tmp_path_factory.mktemp("stage")
    open_to_tenants(stage)
    made = TenantSite(stage=stage, phases=False, extra=EXTRA)
    made.server.allow("VIV0011", "VIV0012", "VIV0013", "VIV0021", "VIV0022")
    try:
        made.server.start()
        yield made
    finally:
        made.finish()


def exchange(server, host, target):
    """The bytes that come for two requests at once."""
    with server.connect() as connection:
        lines = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\nGET /page?value=second HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.send(lines.encode())
        data = b""
        try:
            while piece := connection.socket.recv(65536):
                data += piece
        except ConnectionError:
            pass
    return data


def after_first(data):
    """What a client takes for the second answer; empty if the first one is visibly not whole."""
    head, found, rest = data.partition(b"\r\n\r\n")
    assert found, data
    status = int(head.split()[1])
    if status in (204, 304):
        return rest
    length = re.search(rb"(?im)^content-length: (\d+)", head)
    if b"chunked" in head.lower():
        while rest:
            size, found, rest = rest.partition(b"\r\n")
            if not found or not re.fullmatch(rb"[0-9a-fA-F]+", size):
                return b""
            if int(size, 16) == 0:
                return rest[2:]
            rest = rest[int(size, 16) + 2:]
        return b""
    return rest[int(length.group(1)):] if length else b""


def judged(data, second):
    """What is wrong with two answers, if anything."""
    found = after_first(data)
    if not found:
        # Broken off: then nothing may follow, and the first one must not look whole.
        first = data.partition(b"\r\n\r\n")[2]
        return "the second answer is part of the first" if second in first else ""
    return "" if re.match(rb"HTTP/1\.1 200 OK\r\n", found) and found.endswith(second + b"\n") else f"{found[:60]!r} is the second"


#: Where httpd itself sees to it, whatever a handler says.
MENDED = {
    "less, never flushed", "nothing of what it says", "less, and a death", "more than a filter keeps", "two lengths",
    "a body where there is none", "a file that a filter makes shorter",
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.replace(" ", "-").replace(",", ""))
def test_the_next_answer_is_the_next_answer(shared, table, way):
    shared.get("closed", "/page")
    target = WAYS[way]
    wrong = judged(exchange(shared.server, "closed", target), b"closed second")
    control = judged(exchange(shared.server, "default", target), b"default second")
    table.append((way, not wrong, wrong or "the next one is right, or none comes", control or "httpd sees to it"))
    assert not wrong, wrong
    assert control or way in MENDED


def test_a_right_length_keeps_the_connection(shared):
    """Nothing of that costs an honest tenant its connection."""
    for target in ("/page?length=less&says=4", "/page?value=first", "/changed", "/more/page"):
        with shared.server.connect() as connection:
            for _ in range(3):
                answer = connection.request("GET", target, host="closed")
                assert answer.status == 200 and answer.header("Connection") != "close", answer
            assert connection.request("GET", "/page?value=second", host="closed").body == b"closed second\n"
