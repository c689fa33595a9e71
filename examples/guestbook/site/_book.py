"""What the guestbook keeps: names, entries and photos, in an SQLite database and a folder beside it."""

import contextlib
import hashlib
import hmac
import os
import secrets
import sqlite3
import stat
import tempfile
import time

LONGEST_NAME = 40
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 200
LONGEST_TEXT = 2000
LARGEST_PHOTO = 2 * 1024 * 1024

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, salt BLOB NOT NULL, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, user TEXT NOT NULL, text TEXT NOT NULL, at REAL NOT NULL, photo TEXT, type TEXT
);
"""

# The first bytes of the images that browsers show.
_KINDS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


class Refused(Exception):
    """What a visitor did wrong, in words for the visitor."""


class Book:
    """The guestbook in a folder, which is made if there is none."""

    def __init__(self, folder=None):
        self.folder = folder or os.path.join(tempfile.gettempdir(), f"guestbook-{os.geteuid()}")
        self.photos = os.path.join(self.folder, "photos")
        if not os.path.isdir(self.photos):
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if folder is None:
            # Anybody may have made a folder of that name.
            found = os.lstat(self.folder)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise RuntimeError(f"{self.folder} is not ours: name another folder (PythonOption guestbook.data)")
        if not os.path.isdir(self.photos):
            with self._open() as database:
                database.executescript(SCHEMA)
            # The last step: another worker that finds it finds all.
            os.makedirs(self.photos, mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def _open(self):
        """The database, in a transaction."""
        database = sqlite3.connect(os.path.join(self.folder, "book.db"), timeout=30)
        database.row_factory = sqlite3.Row
        try:
            with database:
                yield database
        finally:
            database.close()

    def entries(self, page, count):
        """A page of entries, the latest first, and whether there is another page."""
        with self._open() as database:
            found = database.execute(
                "SELECT * FROM entries ORDER BY id DESC LIMIT ? OFFSET ?", (count + 1, (page - 1) * count)
            ).fetchall()
        return found[:count], len(found) > count

    def sign(self, user, text, photo=None):
        """Adds an entry. `photo` is a binary file, or None."""
        if not text:
            raise Refused("There is no text.")
        if len(text) > LONGEST_TEXT:
            raise Refused(f"The text is longer than {LONGEST_TEXT} characters.")
        name, kind = self._keep(photo) if photo is not None else (None, None)
        with self._open() as database:
            database.execute(
                "INSERT INTO entries (user, text, at, photo, type) VALUES (?, ?, ?, ?, ?)",
                (user, text, time.time(), name, kind),
            )

    def _keep(self, photo):
        """Writes the photo to a file of its own; returns the file's name and the photo's type."""
        data = photo.read(LARGEST_PHOTO + 1)
        if len(data) > LARGEST_PHOTO:
            raise Refused("The photo is larger than 2 MiB.")
        kind = next((kind for start, kind in _KINDS if data.startswith(start)), None)
        if kind is None:
            raise Refused("The photo is no PNG, JPEG or GIF image.")
        # The name that the visitor's file had is of no use here.
        name = secrets.token_hex(16)
        with open(os.path.join(self.photos, name), "xb") as file:
            file.write(data)
        return name, kind

    def photo(self, entry):
        """The path and the type of an entry's photo, or None."""
        if entry >= 1 << 63:
            return None
        with self._open() as database:
            found = database.execute("SELECT photo, type FROM entries WHERE id = ?", (entry,)).fetchone()
        return None if found is None or found["photo"] is None else (os.path.join(self.photos, found["photo"]), found["type"])

    def join(self, name, password):
        """Makes an account; returns its name."""
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise Refused(f"A name has 1 to {LONGEST_NAME} characters.")
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise Refused(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
        salt = secrets.token_bytes(16)
        hashed = _hash(password, salt)
        try:
            with self._open() as database:
                database.execute("INSERT INTO users VALUES (?, ?, ?)", (name, salt, hashed))
        except sqlite3.IntegrityError:
            raise Refused("Somebody has that name already.") from None
        return name

    def check(self, name, password):
        """The name, if the password is right."""
        with self._open() as database:
            found = database.execute("SELECT * FROM users WHERE name = ?", (name,)).fetchone()
        # For a name that does not exist it takes as long.
        salt, known = (found["salt"], found["hash"]) if found else (bytes(16), b"")
        if not hmac.compare_digest(_hash(password[:LONGEST_PASSWORD], salt), known):
            raise Refused("Name or password are wrong.")
        return name


def _hash(password, salt):
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
