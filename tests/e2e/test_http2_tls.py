"""HTTP/2 and TLS, and what httpd does around a handler: conditional requests, ranges, HEAD, error documents, indexes."""

import json
import subprocess

import pytest

from devlib.httpd import free_port

CONF = """\
Listen 127.0.0.1:{tls}
Protocols h2 h2c http/1.1
H2Direct on
SSLSessionCache none
<VirtualHost 127.0.0.1:{tls}>
    ServerName vivarium.test
    DocumentRoot "{htdocs}"
    SSLEngine on
    SSLCertificateFile "{prefix}/cert.pem"
    SSLCertificateKeyFile "{prefix}/key.pem"
</VirtualHost>
ErrorDocument 404 /oops
<Directory "{htdocs}/sub">
    DirectoryIndex page.html
    PythonHandler secure::index
</Directory>
<Location "/numbered">
    SetOutputFilter DEFLATE
</Location>
"""


@pytest.fixture(scope="module")
def mpm():
    """HTTP/2 is for threaded MPMs."""
    return "event"


def configure(server):
    server.extra_modules = ("ssl", "http2", "dir", "socache_shmcb", "filter", "deflate")
    server.tls = free_port()
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=vivarium.test",
         "-keyout", "key.pem", "-out", "cert.pem"], cwd=server.prefix, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    server.write("sub/page.html", "not this")
    server.supervisor_config("[default]\nprocesses = 1\n")
    server.site("secure")
    server.add(CONF.format(tls=server.tls, htdocs=server.htdocs, prefix=server.prefix))


def curl(web, target, *options, tls=True):
    base = f"https://127.0.0.1:{web.tls}" if tls else web.url
    run = subprocess.run(["curl", "-sk", "--max-time", "60", *options, base + target], capture_output=True, check=False)
    assert run.returncode == 0, (run.returncode, run.stderr)
    return run.stdout


def test_tls(web):
    seen = json.loads(curl(web, "/about", "--http1.1"))
    assert seen["is_https"] == 1
    assert seen["protocol"] == "HTTP/1.1"
    assert seen["vars"]["SSL_PROTOCOL"].startswith("TLSv1")
    assert seen["vars"]["SSL_SERVER_S_DN_CN"] == "vivarium.test"
    assert seen["vars"]["HTTPS"] == "on"
    assert not seen["vars"]["NO_SUCH_VARIABLE"]
    assert seen["url"].startswith("https://")


def test_plain(web):
    seen = json.loads(curl(web, "/about", tls=False))
    assert seen["is_https"] == 0
    assert not seen["vars"]["SSL_PROTOCOL"]
    assert seen["url"].startswith("http://")


def test_http2(web):
    assert json.loads(curl(web, "/about", "--http2"))["protocol"] == "HTTP/2.0"


def test_streams_of_one_client_run_in_parallel(web):
    """Six streams of one connection, each of which is answered when all are there."""
    urls = [f"http://127.0.0.1:{web.port}/meet?6&{n}" for n in range(6)]
    run = subprocess.run(["nghttp", *urls], capture_output=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == b"met\n" * 6


def test_bodies_over_http2(web, tmp_path):
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * 8192)
    assert curl(web, "/echo", "--http2", "--data-binary", f"@{upload}") == upload.read_bytes()
    assert curl(web, "/big", "--http2") == b"x" * (64 * 65536)


NUMBERED = b"".join(b"%07d\n" % number * 5000 for number in range(200))


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("options", [("--http1.1",), ("--http2",), ("--http1.1", "--compressed"), ("--http1.0", "--no-alpn")])
def test_large_pieces_arrive_as_they_were_written(web, tls, options):
    """Through filters that only hand data on, and through one that looks at it."""
    assert curl(web, "/numbered", *options, tls=tls) == NUMBERED


def test_conditional(web):
    first = web.get("/when")
    assert (first.status, first.body) == (200, b"0123456789")
    tag, modified = first.header("ETag"), first.header("Last-Modified")
    assert modified == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert web.get("/when", [("If-Modified-Since", modified)]).status == 304
    if tag:
        assert web.get("/when", [("If-None-Match", tag)]).status == 304
    assert web.get("/when", [("If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT")]).status == 412


def test_range(web):
    response = web.get("/when", [("Range", "bytes=2-4")])
    assert (response.status, response.body) == (206, b"234")


def test_head(web):
    response = web.request("HEAD", "/when")
    assert (response.status, response.body) == (200, b"")
    assert response.header("Content-Length") == "10"


def test_error_document_sees_the_first_request(web):
    response = web.get("/missing")
    assert (response.status, response.body) == (404, b"/missing 404 red")


def test_directory_index(web):
    assert web.get("/sub/").body == b"index /sub/page.html"
