"""The page of ``mod_python.testhandler``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mod_python.testhandler import masked
from mod_python.testing import Client


def test_the_page() -> None:
    client = Client("mod_python.testhandler", PythonOption={"colour": "<green>"}, environ={"FROM_CONF": "yes"})
    response = client.get("/x?a=b", headers={"X-Own": "header"})
    assert (response.status, response.content_type, response.log) == (200, "text/html", [])
    assert response.headers["Cache-Control"] == "no-store"
    for shown in (
        "GET /x?a=b HTTP/1.1",
        "&lt;green&gt;",
        "FROM_CONF",
        "X-Own",
        "main_interpreter",
        "127.0.0.1",
        "PythonOption",
    ):
        assert shown in response.text
    assert "<green>" not in response.text


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hidden1")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:hidden2@db/x")
    options = {"shop.api_key": "hidden3", "session.secret": "hidden4", "redis": "rediss://:hidden5@h/0"}
    client = Client("mod_python.testhandler", PythonOption=options, PythonDebug=True)
    client.cookies["pysid"] = "hidden6"
    response = client.get("/", auth=("ada", "hidden7"), headers={"X-Auth-Token": "hidden8"})
    assert "hidden" not in response.text
    assert "aGlkZGVu" not in response.text
    assert "postgres://user:********@db/x" in response.text


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("PASSWORD", "x", "********"), ("Authorization", "x", "********"), ("Cookie", "x", "********"),
        ("url", "http://u:p@h/", "http://u:********@h/"), ("colour", "green", "green"), ("keep_alive", 1, "1"),
        ("url", "http://h/a:b@c", "http://h/a:b@c"), ("monkey", "x", "x"), ("nothing", None, ""),
    ],
)  # fmt: skip
def test_masking(name: str, value: Any, shown: str) -> None:
    assert masked(name, value) == shown


@pytest.mark.parametrize("debug", [True, False])
def test_the_log(tmp_path: Path, debug: bool) -> None:
    log = tmp_path / "error.log"
    log.write_text("".join(f"line {n}\n" for n in range(1, 201)) + "redis://:hidden@h/\n")
    client = Client("mod_python.testhandler", PythonDebug=debug)
    client.server.error_fname = str(log)
    text = client.get("/?view_log=1").text
    assert ("line 200" in text, "line 101\n" in text, "hidden" in text) == (debug, False, False)
    assert ("only with PythonDebug On" in text) is not debug
    assert "line 200" not in client.get("/").text
    client.server.error_fname = str(tmp_path / "none")
    assert client.get("/?view_log=1").status == 200


def test_the_configuration_tree() -> None:
    client = Client("mod_python.testhandler", PythonOption={"password": "hidden"})
    client.location("/inner", PythonOption={"k": "v"})
    text = client.get("/").text
    assert "&lt;Location /inner&gt;\n    PythonOption k v\n&lt;/Location&gt;" in text
    assert "PythonOption password ********" in text
