"""What ``req.build_wsgi_env()`` and ``req.wsgi_start_response()`` do."""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, Optional

_BASE = "mod_python.wsgi.base_uri"


def build_env(req: Any) -> Optional[Dict[str, Any]]:
    """A WSGI environment for the request; ``None`` if its URI is not below the application's.

    The application's URI is ``PythonOption mod_python.wsgi.base_uri``, else the path of the ``<Location>``, else the
    server's root.
    """
    uri = req.uri or ""
    script = _script_name(req, uri)
    if script is None:
        return None
    req.add_cgi_vars()
    env: Dict[str, Any] = dict(req.subprocess_env.items())
    authorization = req.headers_in.get("authorization")
    if authorization is not None:
        env["HTTP_AUTHORIZATION"] = authorization
    env["SCRIPT_NAME"] = script
    env["PATH_INFO"] = uri[len(script) :]
    env["wsgi.version"] = (1, 0)
    env["wsgi.url_scheme"] = "https" if req.is_https() else "http"
    env["wsgi.input"] = req
    env["wsgi.errors"] = sys.stderr
    # Whatever httpd's process model is: a pool has several workers, and they several threads.
    env["wsgi.multithread"] = True
    env["wsgi.multiprocess"] = True
    return env


def _script_name(req: Any, uri: str) -> Optional[str]:
    base = req.get_options().get(_BASE)
    if base:
        if base.endswith("/"):
            raise ValueError(f"PythonOption '{_BASE}' ('{base}') must not end with '/'")
    else:
        walk = req.hlist
        place = walk.directory if walk is not None and walk.is_location else None
        base = (place or "").rstrip("/")
    if uri == base or uri.startswith(base + "/"):
        return str(base)
    return None


def start_response(req: Any, status: Any, headers: Any, exc_info: Any = None) -> Callable[..., None]:
    """WSGI's ``start_response``; gives ``write``."""
    if not isinstance(status, str):
        raise TypeError(f"wsgi_start_response() argument 1 must be str, not {type(status).__name__}")
    if not isinstance(headers, list):
        raise TypeError(f"headers argument must be a list, not a '{type(headers).__name__}'")
    code = status[:3]
    if not (code.isascii() and code.isdigit() and status[3:4] in ("", " ")) or int(code) < 100:
        raise ValueError(f"not a status: {status!r}")
    if exc_info is not None:
        try:
            if req.sent_bodyct:
                raise exc_info[1].with_traceback(exc_info[2])
        finally:
            exc_info = None
    for name, value in headers:
        for what, text in (("names", name), ("values", value)):
            if not isinstance(text, str):
                raise TypeError(f"header {what} must be strings, not '{type(text).__name__}'")
            if "\n" in text or "\r" in text:
                raise ValueError("a line break in a header")
    out = req.headers_out
    for name in {name.lower() for name, _ in headers}:
        del out[name]
    for name, value in headers:
        if name.lower() == "content-type":
            req.content_type = value
        else:
            out.add(name, value)
    # httpd makes the status line from the number unless there is one of the same number.
    req.status = int(code)
    req.status_line = status
    return req.write  # type: ignore[no-any-return]
