"""A client of sessions, and the fixtures that tests of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

from form_requests import FormRequest

from mod_python import Session

KINDS = ["SqliteSession", "FileSession", "DbmSession", "MemorySession"]
SERIALISING = [kind for kind in KINDS if kind != "MemorySession"]


class Browser:
    """A client: it keeps the cookies that it is sent."""

    def __init__(self, directory: Path, kind: str = "SqliteSession", **options: str) -> None:
        self.options = {
            "mod_python__session__session_type": kind,
            "mod_python__session__database_directory": str(directory),
            **options,
        }
        self.mutexes = str(directory)
        self.cookie: Any = None
        self.open: List[FormRequest] = []

    def request(self) -> FormRequest:
        req = FormRequest(cookie=self.cookie, **self.options)
        req.server.options["mod_python.mutex_directory"] = self.mutexes
        self.open.append(req)
        return req

    def end(self) -> None:
        """The end of all requests: takes the cookies over."""
        for req in self.open:
            for line in req.cookies_set():
                self.cookie = line.partition(";")[0] if "1970" not in line else None
            req.end()
        self.open.clear()

    def visit(self, **contents: Any) -> Dict[str, Any]:
        """A request that stores something; gives what the session had before."""
        session = Session.Session(self.request())
        found = dict(session)
        session.update(contents)
        session.save()
        self.end()
        return found
