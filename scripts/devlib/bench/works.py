"""What is asked of the servers: the programs they run, the requests they get, and the answers that must come back."""

import base64
import dataclasses
import os
import re
import subprocess

POST_BYTES = 1 << 20
LARGE_BYTES = 100 * 1024
STREAM_BYTES = 10 << 20
FILTER_BYTES = 10 * 1024
#: Pure Python that takes about two milliseconds here; the same number of steps for everybody.
STEPS = 40_000

HELLO = b"Hello, world!\n"

#: The handlers, for mod_python and for us.
HANDLERS = f"""
from mod_python import apache

PAGE = b"x" * {LARGE_BYTES}
PIECE = b"x" * 65536

def hello(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\\n")
    return apache.OK

def headers(req):
    cookie = req.headers_in.get("Cookie", "")
    agent = req.headers_in["User-Agent"]
    req.content_type = "text/plain"
    req.headers_out["X-Agent"] = agent
    req.headers_out["Set-Cookie"] = "seen=1; path=/"
    req.write(str(len(cookie)))
    return apache.OK

def large(req):
    req.content_type = "text/plain"
    req.write(PAGE)
    return apache.OK

def stream(req):
    req.content_type = "application/octet-stream"
    for _ in range({STREAM_BYTES // 65536}):
        req.write(PIECE)
    return apache.OK

def post(req):
    count = 0
    while block := req.read(65536):
        count += len(block)
    req.content_type = "text/plain"
    req.write(str(count))
    return apache.OK

def cpu(req):
    total = 0
    for n in range({STEPS}):
        total += n & 7
    req.content_type = "text/plain"
    req.write(str(total))
    return apache.OK

def allowed(req):
    return apache.OK

def known(req):
    req.get_basic_auth_pw()
    return apache.OK if req.user == "bench" else apache.HTTP_UNAUTHORIZED

def upper(filter):
    block = filter.read()
    while block:
        filter.write(block.upper())
        block = filter.read()
    if block is None:
        filter.close()
"""

#: The WSGI application, for everybody that serves WSGI.
WSGI = f"""
PAGE = b"x" * {LARGE_BYTES}
PIECE = b"x" * 65536

def application(environ, start_response):
    name = (environ["SCRIPT_NAME"] + environ["PATH_INFO"]).rsplit("/", 1)[-1]
    kind, more = "text/plain", []
    if name in ("hello", "wsgi"):
        body = [b"Hello, world!\\n"]
    elif name == "large":
        body = [PAGE]
    elif name == "stream":
        kind, body = "application/octet-stream", (PIECE for _ in range({STREAM_BYTES // 65536}))
    elif name == "headers":
        more = [("X-Agent", environ["HTTP_USER_AGENT"]), ("Set-Cookie", "seen=1; path=/")]
        body = [str(len(environ.get("HTTP_COOKIE", ""))).encode()]
    elif name == "cpu":
        total = 0
        for n in range({STEPS}):
            total += n & 7
        body = [str(total).encode()]
    else:
        count, source = 0, environ["wsgi.input"]
        while block := source.read(65536):
            count += len(block)
        body = [str(count).encode()]
    if isinstance(body, list):
        more.append(("Content-Length", str(len(body[0]))))
    start_response("200 OK", [("Content-Type", kind), *more])
    return body
"""

#: The same hello, and a page of 100 KiB, in C: what httpd itself costs.
C_MODULE = f"""
#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"
#include <string.h>

static char page[{LARGE_BYTES}];

static int handler(request_rec *r)
{{
    if (!r->handler || strcmp(r->handler, "bench-c"))
        return DECLINED;
    ap_set_content_type(r, "text/plain");
    if (strstr(r->uri, "large"))
        ap_rwrite(page, sizeof page, r);
    else
        ap_rputs("Hello, world!\\n", r);
    return OK;
}}

static void hooks(apr_pool_t *p)
{{
    memset(page, 'x', sizeof page);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}}

module AP_MODULE_DECLARE_DATA bench_c_module = {{ STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, hooks }};
"""

COOKIE = "; ".join(f"name{n}=value-{n:04}" for n in range(8))
TWENTY = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Cookie": COOKIE,
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.5",
    **{f"X-Header-{n}": f"a value of some length, number {n}" for n in range(16)},
}
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"bench:secret").decode()}


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of request. `kinds` says who can do it: handlers, WSGI applications, the C module."""

    title: str
    target: str
    expected: bytes
    kinds: tuple = ("handlers", "wsgi")
    headers: tuple = ()
    post: bool = False
    #: http, https, or h2 (HTTP/2 over TLS, by h2load).
    scheme: str = "http"
    connections: tuple = (1, 8, 64)


def _answer_of_cpu():
    return str(sum(n & 7 for n in range(STEPS))).encode()


WORKS = {
    "hello": Work("hello, 14 bytes, PythonHandler", "/hello", HELLO, ("handlers", "wsgi", "c")),
    "wsgi": Work("hello, 14 bytes, WSGI", "/wsgi", HELLO, ("wsgi", "wsgi handler")),
    "large": Work("100 KiB answer", "/large", b"x" * LARGE_BYTES, ("handlers", "wsgi", "c")),
    "stream": Work("10 MiB streamed in pieces of 64 KiB", "/stream", b"x" * STREAM_BYTES),
    "post": Work("1 MiB POST", "/post", str(POST_BYTES).encode(), post=True),
    "access": Work("access handler before a file", "/access/file.txt", HELLO, ("handlers",)),
    "filter": Work("output filter on a file of 10 KiB", "/filter/page.txt", b"Y" * FILTER_BYTES, ("handlers",)),
    "stack": Work(
        "access, authentication, fixup, content and log handlers", "/stack", HELLO, ("handlers",),
        headers=tuple(LOGIN.items()),
    ),
    "headers": Work(
        "20 headers and 8 cookies", "/headers", str(len(COOKIE)).encode(), headers=tuple(TWENTY.items())
    ),
    "cpu": Work(f"CPU-bound, {STEPS} steps of a Python loop", "/cpu", _answer_of_cpu(), connections=(8, 64)),
    "tls": Work("hello over TLS", "/hello", HELLO, scheme="https"),
    "h2": Work("hello over HTTP/2", "/hello", HELLO, scheme="h2", connections=(1, 8)),
}


def write_files(folder):
    """The files that the servers serve and run."""
    (folder / "benchmark.py").write_text(HANDLERS)
    (folder / "application.py").write_text(WSGI)
    (folder / "benchmark.wsgi").write_text(WSGI)
    for name, text in (("access/file.txt", HELLO), ("filter/page.txt", b"y" * FILTER_BYTES)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)


def check(url, work):
    """The answer must be right before it is timed."""
    command = ["curl", "-sSk", "--max-time", "60"]
    if work.scheme == "h2":
        command.append("--http2")
    for name, value in work.headers:
        command += ["-H", f"{name}: {value}"]
    if work.post:
        command += ["--data-binary", "@-", "-H", "Content-Type: application/octet-stream", "-H", "Expect:"]
    body = b"x" * POST_BYTES if work.post else None
    done = subprocess.run([*command, url + work.target], input=body, capture_output=True, check=False)
    if done.returncode or done.stdout != work.expected:
        raise SystemExit(f"bench: {url}{work.target} answered {done.stdout[:400]!r} {done.stderr[:200]!r}")


def lua(folder, name, work):
    """wrk's script for a work, if it needs one."""
    if not work.post and not work.headers:
        return None
    lines = [f'wrk.headers["{k}"] = "{v}"' for k, v in work.headers]
    if work.post:
        lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {POST_BYTES})',
                  'wrk.headers["Content-Type"] = "application/octet-stream"']
    path = folder / f"{re.sub('[^a-z]', '', name)}.lua"
    path.write_text("\n".join(lines) + "\n")
    os.chmod(path, 0o644)
    return path
