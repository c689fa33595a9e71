"""Applications for test_wsgi.py: the first step of the path names one."""

import hashlib
import io
import json
import os
import sys
import tempfile
import threading
from wsgiref.validate import validator

PLAIN = [("Content-Type", "text/plain")]


def application(env, start):
    name = env["PATH_INFO"].split("/")[1]
    return globals()[name](env, start)


def environment(env, start):
    start("200 OK", [("Content-Type", "application/json")])
    shown = {key: value for key, value in env.items() if isinstance(value, (str, bool, tuple))}
    return [json.dumps(shown).encode()]


def status(env, start):
    start(
        env["QUERY_STRING"].replace("%20", " "), [*PLAIN, ("X-Own", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    )
    return [b"own body"]


@validator
def validated(env, start):
    body = env["wsgi.input"].read(1000)
    env["wsgi.errors"].write("validated writes to the log\n")
    write = start("201 Created", PLAIN)
    write(b"written,")
    return [b"returned,", b"", body]


def sizes(env, start):
    start("200 OK", PLAIN)
    return [b"x" * int(n) for n in env["QUERY_STRING"].split(",")]


def digest(env, start):
    found = hashlib.sha256()
    size = 0
    while data := env["wsgi.input"].read(65536):
        found.update(data)
        size += len(data)
    start("200 OK", PLAIN)
    return [f"{size} {found.hexdigest()}".encode()]


def lines(env, start):
    start("200 OK", PLAIN)
    return [b"|".join(env["wsgi.input"])]


def steps(env, start):
    """Yields a piece each time the client has made the file that allows it."""
    start("200 OK", PLAIN)
    folder = env["mod_python.request"].get_options()["scratch"]
    for n in range(3):
        while not os.path.exists(f"{folder}/step{n}"):
            threading.Event().wait(0.005)
        yield f"piece {n}\n".encode()


def file(env, start):
    handle = tempfile.TemporaryFile(buffering=0)
    handle.write(b"0123456789" * 20000)
    handle.seek(5)
    start("200 OK", PLAIN)
    return env["wsgi.file_wrapper"](handle)


def memory(env, start):
    start("200 OK", PLAIN)
    return env["wsgi.file_wrapper"](io.BytesIO(b"in memory"))


def fails(env, start):
    start("200 OK", [("X-App", "1")])
    raise RuntimeError("the application fails")


def late(env, start):
    start("200 OK", [*PLAIN, ("Content-Length", "1000")])
    yield b"begun"
    raise RuntimeError("the application fails late")


def short(env, start):
    start("200 OK", [*PLAIN, ("Content-Length", "10")])
    return [b"short"]


def long(env, start):
    start("200 OK", [*PLAIN, ("Content-Length", "3")])
    return [b"longer"]


class Endless:
    """Yields until it is closed, which it writes to the log."""

    def __iter__(self):
        while True:
            yield b"x" * 8192

    def close(self):
        print("the endless answer was closed", file=sys.stderr)


def endless(env, start):
    start("200 OK", PLAIN)
    return Endless()


def with_error(env, start):
    start("200 OK", PLAIN)
    try:
        raise KeyError("k")
    except KeyError:
        start("503 Later", [("Retry-After", "1")], sys.exc_info())
    return [b"sorry"]
