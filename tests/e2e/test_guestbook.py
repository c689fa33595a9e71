"""The guestbook of examples/: as two people with browsers use it, and as somebody hostile does."""

import re
import struct
import threading
import zlib

import pytest

from devlib import artefacts
from harness.browser import browser

EXAMPLE = artefacts.REPO / "examples/guestbook"

CONF = """\
Define HERE "{copy}"
Include "{copy}/vivarium.conf"
<Directory "{copy}/site">
    PythonOption guestbook.data {scratch}/guestbook
    PythonOption mod_python.session.database_directory {scratch}
</Directory>
"""


def png(width, height):
    """A PNG image."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((200, 80, 40)) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def guestbook(make_server, mpm):
    server = make_server(mpm=mpm)
    copy = server.prefix / "guestbook"
    artefacts.copy_tree(EXAMPLE, copy)
    server.add(CONF.format(copy=copy, scratch=server.scratch))
    return server.start()


# --- with browsers


def join(tab, name):
    """Makes an account and logs in."""
    tab.open("/guestbook/").one("#login").click()
    tab.type("input[name=name]", name)
    tab.type("input[name=password]", f"password of {name}")
    tab.press("#join")
    assert tab.text("#user") == name


def sign(tab, text, photo=None):
    """Signs the guestbook."""
    tab.type("textarea", text)
    if photo:
        tab.one("input[type=file]").send_keys(str(photo))
    tab.press("#sign button")


def entries(tab):
    """The texts of the entries on the page."""
    return [element.text for element in tab.all("article .text")]


@pytest.mark.parametrize("mpm", ["event"])
def test_two_people(guestbook, tmp_path):
    photo = tmp_path / "Grüße.png"
    photo.write_bytes(png(32, 16))
    with browser(guestbook.url, tmp_path / "a") as anna, browser(guestbook.url, tmp_path / "b") as ben:
        assert ben.open("/guestbook/").all("#sign") == []
        join(anna, "Anna")
        sign(anna, "Grüße <b>& more</b>\nsecond line", photo)
        assert anna.text("article .text") == "Grüße <b>& more</b>\nsecond line"
        # The browser has shown the image.
        assert anna.driver.execute_script("return document.querySelector('article img').naturalWidth") == 32

        # Another browser sees the entry, and is not logged in.
        assert ben.open("/guestbook/").text("article h2").startswith("Anna")
        assert ben.driver.execute_script("return document.querySelector('article img').naturalHeight") == 16
        assert (ben.all("#user"), ben.all("article b")) == ([], [])

        # A name is one person's.
        ben.one("#login").click()
        ben.type("input[name=name]", "Anna")
        ben.type("input[name=password]", "password of Ben")
        ben.press("#join")
        assert ben.text("#message") == "Somebody has that name already."
        ben.type("input[name=name]", "Anna")
        ben.type("input[name=password]", "password of Ben")
        ben.press("#enter button")
        assert ben.text("#message") == "Name or password are wrong."
        join(ben, "Ben")

        # Both at the same time.
        def several(tab, name):
            for number in range(3):
                sign(tab, f"{name} {number}")

        threads = [threading.Thread(target=several, args=pair) for pair in ((anna, "Anna"), (ben, "Ben"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        anna.open("/guestbook/")
        assert sorted(entries(anna)[:6]) == [f"{name} {n}" for name in ("Anna", "Ben") for n in range(3)]
        assert (anna.text("#user"), ben.open("/guestbook/").text("#user")) == ("Anna", "Ben")

        # One leaves, with no effect on the other.
        anna.press("#logout")
        assert anna.all("#user") == []
        assert anna.open("/guestbook/").all("#sign") == []
        assert ben.open("/guestbook/").text("#user") == "Ben"

        # And comes back.
        anna.one("#login").click()
        anna.type("input[name=name]", "Anna")
        anna.type("input[name=password]", "password of Anna")
        anna.press("#enter button")
        assert anna.text("#user") == "Anna"
        # The two pages that refused Ben are errors of a kind that browsers note.
        assert [e for e in anna.errors() + ben.errors() if "403" not in e and "favicon" not in e] == []


# --- without


class Visitor:
    """Somebody with cookies."""

    def __init__(self, server):
        self.server = server
        self.cookie = None
        self.token = ""

    def request(self, method, path, headers=(), **more):
        """A request with the cookie; notes a new cookie, and the token of the page."""
        if self.cookie:
            headers = [*headers, ("Cookie", self.cookie)]
        response = self.server.request(method, f"/guestbook/{path}", headers, **more)
        for line in response.all("Set-Cookie"):
            self.cookie = line.split(";")[0]
        found = re.search(rb'name="token" value="([\w-]+)"', response.body)
        if found:
            self.token = found.group(1).decode()
        return response

    def get(self, path=""):
        """A page."""
        return self.request("GET", path)

    def post(self, path, fields=None, files=(), token=None):
        """A form. A file is (name, file name, content)."""
        fields = {"token": self.token if token is None else token, **(fields or {})}
        parts = [f'--X\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items()]
        parts += [
            f'--X\r\nContent-Disposition: form-data; name="{n}"; filename="{f}"\r\nContent-Type: image/png\r\n\r\n'.encode()
            + content + b"\r\n" for n, f, content in files
        ]
        body = b"".join(parts) + b"--X--\r\n"
        return self.request("POST", path, [("Content-Type", "multipart/form-data; boundary=X")], body=body)

    def join(self, name):
        """Makes an account."""
        self.get("login")
        response = self.post("join", {"name": name, "password": "a password"})
        assert (response.status, response.header("Location")) == (302, "./")
        self.get()
        return self


def test_what_is_sent_is_what_is_shown(guestbook):
    visitor = Visitor(guestbook).join("Eve <script>")
    assert visitor.post("sign", {"text": "<script>alert(1)</script> ü \"'&"}).status == 302
    page = visitor.get().text
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; ü &quot;&#x27;&amp;" in page
    assert "Eve &lt;script&gt;" in page
    image = png(8, 8)
    assert visitor.post("sign", {"text": "photo"}, [("photo", "../../../etc/passwd", image)]).status == 302
    number = re.search(r"photo\?entry=(\d+)", visitor.get().text).group(1)
    answer = visitor.get(f"photo?entry={number}")
    assert (answer.body, answer.header("Content-Type")) == (image, "image/png")
    assert answer.header("X-Content-Type-Options") == "nosniff"


def test_what_is_refused(guestbook):
    stranger = Visitor(guestbook)
    assert stranger.get("sign").status == stranger.get("logout").status == 405
    stranger.get("login")
    assert stranger.post("sign", {"text": "x"}).status == 403
    for fields in ({"name": "a", "password": "short"}, {"name": "", "password": "long enough"},
                   {"name": "x" * 41, "password": "long enough"}, {"name": "a\0b", "password": "long enough"}):
        assert stranger.post("join", fields).status == 403
    member = Visitor(guestbook).join("Eve")
    assert member.post("sign", {"text": "x"}, token="guessed").status == 403
    assert member.post("sign", {"text": "x"}, token=stranger.token).status == 403
    assert member.post("logout", token="").status == 403
    assert member.post("sign", {"text": " "}).status == 400
    assert member.post("sign", {"text": "x" * 2001}).status == 400
    assert member.post("sign", {"text": "x"}, [("photo", "a.png", b"<html>")]).status == 400
    assert member.post("sign", {}, [("text", "a", b"a file where text is meant")]).status == 400
    assert member.post("sign", {"text": "x"}, [("token", "t", b"two tokens")]).status == 400
    large = member.post("sign", {"text": "x"}, [("photo", "a.png", png(1, 1) + bytes(2 * 1024 * 1024))])
    assert large.status == 400
    assert member.post("sign", {"text": "x"}, [("photo", "a.png", bytes(4 * 1024 * 1024))]).status == 413
    for path in ("photo?entry=0", "photo?entry=-1", "photo?entry=" + "9" * 400, "photo?entry=%2e%2e/book.db", "photo",
                 "photo?entry=1&entry=2", "templates/index.psp", "none"):
        assert member.get(path).status == 404, path
    for path in ("book", "_book", "_book/Book", "hmac", "Session", "index/_TEMPLATES", "_session"):
        assert member.get(path).status == 403, path
    for page in ("-1", "0", "x", "9" * 30, "%00"):
        assert member.get(f"?page={page}").status == 200, page
    assert "<article" not in member.get().text


def test_a_session_that_was_known_before_the_login_is_worth_nothing(guestbook):
    visitor = Visitor(guestbook)
    visitor.get("login")
    before = visitor.cookie
    visitor.join("Eve")
    assert visitor.cookie != before
    thief = Visitor(guestbook)
    thief.cookie = before
    assert 'id="user"' not in thief.get().text
    # Nor is one that was ended.
    ended = visitor.cookie
    assert visitor.post("logout").status == 302
    thief.cookie = ended
    assert 'id="user"' not in thief.get().text
