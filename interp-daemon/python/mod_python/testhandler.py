"""The handler that shows what handlers are given: ``PythonHandler mod_python.testhandler``.

A page about the interpreter, the request, its headers and variables, the directives and options that hold for it, the
connection, the server, and httpd's configuration. With ``PythonDebug On``, ``?view_log=1`` adds the last lines of the
error log.

Values that look like secrets (by their names, or as the password of a URL) are shown as ``********``. Even so the page
tells a stranger more than he should know: keep it where only its reader gets at it, as ``Require local`` does.
"""

from __future__ import annotations

import html
import os
import platform
import re
import sys
import threading
import time
from typing import Any, Iterable, List, Sequence, Tuple

from mod_python import apache, mp_version

_MASK = "********"
_SECRET = re.compile(
    r"pass(?!word_?file|env|phrasedialog)|pwd|secret|token|(?<![a-z])key$|api_?key|private|credential|authorization"
    r"|cookie|session_?id|signature_?key|dsn",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
_LOG_LINES = 100
_LOG_BYTES = 256 * 1024

_REQUEST = (
    "the_request method uri unparsed_uri args filename path_info hostname protocol user ap_auth_type handler "
    "content_type status useragent_ip interpreter phase request_time"
).split()
_CONNECTION = "client_addr local_addr remote_host keepalives id".split()
_SERVER = (
    "server_hostname port server_admin is_virtual names wild_names timeout keep_alive keep_alive_max "
    "keep_alive_timeout limit_req_line limit_req_fields limit_req_fieldsize defn_name defn_line_number error_fname"
).split()

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
body{color:#1d2733;background:#f6f7f9}
h1{font-size:1.6rem;margin:0}h1+p{margin-top:.2rem;color:#5a6673}
details,section{background:#fff;border:1px solid #dde2e8;border-radius:8px;margin:1rem 0;padding:.6rem 1rem}
h2,summary{font-size:1.05rem;font-weight:600;margin:.2rem 0}summary{cursor:pointer}
table{border-collapse:collapse;width:100%}td,th{padding:.15rem .6rem .15rem 0;text-align:left;vertical-align:top}
th{font-weight:500;color:#5a6673;width:17rem}td,pre{font-family:ui-monospace,monospace;font-size:13px}
td{overflow-wrap:anywhere}pre{overflow-x:auto;margin:.3rem 0}tr+tr>*{border-top:1px solid #eef1f4}.none{color:#98a2ad}
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}details,section{background:#1c2229;
border-color:#2c343d}tr+tr>*{border-color:#262d35}th,h1+p{color:#93a0ad}}
"""


def handler(req: Any) -> int:
    """Answers with the page."""
    config = req.get_config()
    debug = config.get("PythonDebug") == "1"
    req.add_common_vars()
    parts = [
        _table("Python and httpd", _facts(req), True),
        _table("Request", _attributes(req, _REQUEST), True),
        _table("Request headers", req.headers_in.items(), True),
        _table("Directives that hold for this request", config.items(), True),
        _table("PythonOption", req.get_options().items(), True),
        _table("Variables of the request (subprocess_env)", sorted(req.subprocess_env.items())),
        _table("Notes of the request", req.notes.items()),
        _table("Connection", _attributes(req.connection, _CONNECTION)),
        _table("Server", _attributes(req.server, _SERVER)),
        _table("Environment of this worker", sorted(os.environ.items())),
        _table("Modules are looked for in (sys.path)", [(str(n), path) for n, path in enumerate(sys.path)]),
        _text("Configuration of httpd", "\n".join(_tree(apache.config_tree(), 0))),
    ]
    if "view_log=1" in (req.args or "").split("&"):
        parts.append(_text("Error log", _log(req) if debug else "Shown only with PythonDebug On.", True))
    req.content_type = "text/html; charset=utf-8"
    req.headers_out["Cache-Control"] = "no-store"
    req.headers_out["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    req.write(_page(parts))
    return apache.OK


def _facts(req: Any) -> List[Tuple[str, Any]]:
    return [
        ("Python", sys.version),
        ("mod_python interface", mp_version),
        ("platform", platform.platform()),
        ("interpreter", req.interpreter),
        ("worker process", f"pid {os.getpid()}, user {os.geteuid()}, group {os.getegid()}"),
        ("threads", threading.active_count()),
        ("current directory", os.getcwd()),
        ("MPM threaded / forked", f"{apache.mpm_query(2)} / {apache.mpm_query(3)}"),
        ("server root", apache.server_root()),
        ("document root", req.document_root()),
        ("time", time.strftime("%Y-%m-%d %H:%M:%S %z")),
    ]


def _attributes(thing: Any, names: Sequence[str]) -> List[Tuple[str, Any]]:
    return [(name, getattr(thing, name, None)) for name in names]


def masked(name: str, value: Any) -> str:
    """A value as it is shown: without what its name says is a secret, and without passwords in URLs."""
    if value is None:
        return ""
    if _SECRET.search(name):
        return _MASK
    return _URL_PASSWORD.sub(rf"\1:{_MASK}@", str(value))


def _tree(nodes: Iterable[Any], depth: int) -> Iterable[str]:
    """The lines of the configuration: each is a pair, the inside of a section a list that follows it."""
    opened = ""
    for node in nodes:
        if isinstance(node, list):
            yield from _tree(node, depth + 1)
            if opened:
                yield "    " * depth + opened
                opened = ""
            continue
        if opened:
            yield "    " * depth + opened
            opened = ""
        name, args = node[0], node[1]
        words = args.split(None, 1)
        # `PythonOption key value` and `SetEnv NAME value` hide their value by their key.
        if len(words) == 2 and _SECRET.search(words[0]) and name.lower() in ("pythonoption", "setenv", "define"):
            args = f"{words[0]} {_MASK}"
        else:
            args = masked(name, args)
        yield "    " * depth + f"{name} {args}".rstrip()
        if name.startswith("<"):
            opened = f"</{name[1:]}>"
    if opened:
        yield "    " * depth + opened


def _log(req: Any) -> str:
    """The last lines of the error log, as far as this worker's user may read it."""
    name = req.server.error_fname
    if not name:
        return "The error log is no file."
    path = os.path.join(apache.server_root(), name)
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()[-_LOG_LINES:]
    except OSError as error:
        return f"The error log cannot be read by this worker's user: {error}"
    return "\n".join(_URL_PASSWORD.sub(rf"\1:{_MASK}@", line) for line in lines)


# --- the page --------------------------------------------------------------------------------------------------------


def _page(parts: Iterable[str]) -> str:
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>mod_python.testhandler</title>"
        f"<style>{_STYLE}</style></head><body>\n<h1>It works</h1>\n"
        "<p>What a handler sees at this place. Secrets are masked; even so, this page is not for strangers.</p>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _table(title: str, rows: Iterable[Tuple[str, Any]], opened: bool = False) -> str:
    lines = []
    for name, value in rows:
        shown = html.escape(masked(name, value)) or "<span class='none'>&mdash;</span>"
        lines.append(f"<tr><th>{html.escape(name)}</th><td>{shown}</td></tr>")
    inside = "<table>" + "".join(lines) + "</table>" if lines else "<p class='none'>nothing</p>"
    return _details(title, inside, opened)


def _text(title: str, text: str, opened: bool = False) -> str:
    return _details(title, f"<pre>{html.escape(text)}</pre>", opened)


def _details(title: str, inside: str, opened: bool) -> str:
    mark = " open" if opened else ""
    return f"<details{mark}><summary>{html.escape(title)}</summary>{inside}</details>"
