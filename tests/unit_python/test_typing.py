"""Types: the package passes mypy, and so does a handler that uses its names; the stub has what the extension has."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Set

import pytest

from mod_python import hints
from mod_python.testing import Client
from mod_python.testing._fields import FIELDS

REPO = Path(__file__).resolve().parents[2]
PACKAGES = REPO / "interp-daemon/python"
TYPES = REPO / "interp-daemon/worker/src/types"

HAVE_MYPY = importlib.util.find_spec("mypy") is not None
#: What differs between versions of mypy and of the libraries' stubs is no matter.
CONFIG = """
[mypy]
strict = True
warn_unused_ignores = False
warn_return_any = False
show_error_codes = True
[mypy-redis.*]
ignore_missing_imports = True
follow_imports = skip
"""

APP = """
from __future__ import annotations
from mod_python import apache
from mod_python.hints import Connection, Filter, Request

def handler(req: Request) -> int:
    req.content_type = "text/plain"
    req.write(f"{req.uri} {req.connection.client_ip} {req.headers_in.get('x', 5)}")
    req.mine = 1
    req.status = "200"  # ERROR Incompatible types in assignment
    req.method = "GET"  # ERROR read-only
    req.write(5)  # ERROR incompatible type
    req.flush(1, 2)  # ERROR Too many arguments
    return apache.OK

def outputfilter(flt: Filter) -> None:
    data = flt.read()
    if data:
        flt.write(data.upper())
    flt.read().upper()  # ERROR has no attribute

def connectionhandler(conn: Connection) -> int:
    conn.write(conn.readline())
    conn.mine = 1  # ERROR has no attribute
    return apache.OK
"""


@pytest.mark.skipif(not HAVE_MYPY, reason="mypy is not installed (apt install mypy)")
def test_mypy_on_the_package_and_on_a_handler(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    env = {**os.environ, "MYPYPATH": f"{PACKAGES}:{tmp_path}"}
    command = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "-p", "mod_python", "-m", "app"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line for line in lines if not line.startswith("app.py:")] == []
    found = {int(line.split(":")[1]): line for line in lines}
    wanted = {n: line.partition("# ERROR ")[2] for n, line in enumerate(APP.splitlines(), 1) if "# ERROR" in line}
    assert wanted
    assert set(found) == set(wanted)
    assert all(text in found[n] for n, text in wanted.items())


def stub() -> Dict[str, Set[str]]:
    """What the stub has: class -> names."""
    tree = ast.parse((PACKAGES / "_vivarium.pyi").read_text())
    found: Dict[str, Set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            names |= {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}  # type: ignore[union-attr]
            found[node.name] = {name for name in names if not name.startswith("_")}
    return found


def source(name: str) -> Set[str]:
    """The methods and attributes that a type of the extension offers to Python."""
    text = (TYPES / f"{name}.rs").read_text()
    inside = text[text.index("#[pymethods]") :]
    inside = inside[: inside.find("\n}\n")]
    return {n for n in re.findall(r"^    fn ([a-z]\w*)", inside, re.M) if not n.startswith(("set_", "new"))} | (
        {"set_etag", "set_last_modified", "set_content_length"} if name == "request" else set()
    )


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("request", "mp_request"), ("table", "mp_table"), ("server", "mp_server"), ("conn", "mp_conn"),
        ("filter", "mp_filter"), ("hlist", "mp_hlist"),
    ],
)  # fmt: skip
def test_the_stub_is_complete(file: str, name: str) -> None:
    wanted = source(file) | ({row[0] for row in FIELDS} if file == "request" else set())
    own = {"keepalive"} if file == "conn" else {"req", "softspace"} if file == "filter" else set()
    assert stub()[name] == wanted | own


def test_the_names_outside_a_worker() -> None:
    def handler(req: Any) -> int:
        assert isinstance(req.headers_in, hints.Table.__mro__[-2])
        req.write("x")
        return 0

    response = Client(handler, raise_errors=True).get("/")
    assert type(response.request).__name__ == "mp_request"
    done = subprocess.run(
        [sys.executable, "-c", "from mod_python import hints; print(hints.Request, hints.Filter, hints.Table)"],
        env={**os.environ, "PYTHONPATH": str(PACKAGES)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "<class 'mp_request'> <class 'mp_filter'> <class 'mp_table'>\n"


def test_everything_public_is_documented() -> None:
    missing = []
    for file in sorted((PACKAGES / "mod_python").rglob("*.py")):
        tree = ast.parse(file.read_text())
        if ast.get_docstring(tree) is None:
            missing.append(str(file))
        if file.name.startswith("_") and file.name != "__init__.py":
            continue
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                if ast.get_docstring(node) is None:
                    missing.append(f"{file.name}: {node.name}")
    assert missing == []
