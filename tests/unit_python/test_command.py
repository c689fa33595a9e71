"""The command ``mod_python``. Starting and stopping an httpd is tested in tests/e2e."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mod_python import __main__ as command
from mod_python import _skeleton, httpdconf

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An httpd, its modules and ours, none of which is real."""
    modules = tmp_path / "modules"
    modules.mkdir()
    for name in ("mpm_event", "authz_core", "mime", "dir"):
        (modules / f"mod_{name}.so").touch()
    module = tmp_path / "libmod_vivarium.so"
    module.touch()
    program = tmp_path / "httpd"
    program.write_text(
        f'#!/bin/sh\ncase $1 in -l) echo mod_so.c; echo mod_dir.c;; -v) echo "Server version: Test/1";;\n'
        f'*) echo "$@" >> {tmp_path}/calls; exit 3;; esac\n'
    )
    program.chmod(0o755)
    for name, value in (("HTTPD", program), ("HTTPD_MODULES", modules), ("VIVARIUM_MODULE", module)):
        monkeypatch.setenv(name, str(value))


def test_create(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "new"
    arguments = ["create", str(root), "--listen", "127.0.0.1:8080", "--listen", "8081", "--pythonpath", "/a:/b c"]
    assert command.main([*arguments, "--pythonhandler", "hello", "--pythonoption", "k v"]) == 0
    assert f"mod_python start {root}/conf/httpd.conf" in capsys.readouterr().out
    assert all((root / name).is_dir() for name in ("conf", "logs", "public"))
    conf = (root / "conf/httpd.conf").read_text()
    for line in (
        f'ServerRoot "{root}"', "Listen 127.0.0.1:8080", "Listen 8081", f'DocumentRoot "{root}/public"', "SetHandler mod_python",
        "PythonHandler hello", "PythonOption k v", "PythonPath \"['/a', '/b c'] + sys.path\"",
        f'LoadModule mpm_event_module "{tmp_path}/modules/mod_mpm_event.so"',
        f'LoadModule python_module "{tmp_path}/libmod_vivarium.so"',
    ):  # fmt: skip
        assert line in [each.strip() for each in conf.splitlines()]
    assert "dir_module" not in conf
    assert command.main(["create", str(root)]) == 1
    assert (root / "conf/httpd.conf").read_text() == conf


def test_genconfig(tmp_path: Path, capsys: Any) -> None:
    assert command.main(["create", str(tmp_path / "new")]) == 0
    capsys.readouterr()
    program = tmp_path / "new/conf/httpd_conf.py"
    assert command.main(["genconfig", str(program)]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "new/conf/httpd.conf").read_text()
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, env={})
    assert done.stdout == printed


def test_the_configuration_can_be_replaced(tmp_path: Path) -> None:
    first = httpdconf.write_basic_config(str(tmp_path / "x"), pythonhandler="one")
    again = httpdconf.write_basic_config(str(tmp_path / "x"), pythonhandler="two", replace_config=True)
    assert first == again == str(tmp_path / "x/conf/httpd_conf.py")
    assert "PythonHandler('two')" in Path(first).read_text()


@pytest.mark.parametrize(("name", "signal"), [("start", "start"), ("stop", "graceful-stop"), ("restart", "graceful")])
def test_control(tmp_path: Path, name: str, signal: str) -> None:
    conf = tmp_path / "httpd.conf"
    conf.touch()
    assert command.main([name, str(conf)]) == 3
    assert (tmp_path / "calls").read_text() == f"-f {conf} -k {signal}\n"


@pytest.mark.parametrize("arguments", [["start", "/no/such/conf"], ["genconfig", "/no/such/program"]])
def test_mistakes(arguments: Any, capsys: Any) -> None:
    assert command.main(arguments) == 1
    assert capsys.readouterr().err.startswith("mod_python: ")


def test_wrong_usage(capsys: Any) -> None:
    for arguments in ([], ["dance"], ["create"]):
        with pytest.raises(SystemExit) as end:
            command.main(arguments)
        assert end.value.code == 2
    assert "usage: mod_python" in capsys.readouterr().err


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name in ("HTTPD", "VIVARIUM_MODULE", "HTTPD_MODULES"):
        monkeypatch.setenv(name, "/no/such/thing")
        assert command.main(["create", str(tmp_path / name)]) == 1
        assert name in capsys.readouterr().err
    for look in (_skeleton.httpd_program, _skeleton.our_module, _skeleton.modules_directory):
        with pytest.raises(_skeleton.NotFound):
            look()


def test_version_and_the_script(tmp_path: Path) -> None:
    done = subprocess.run([REPO / "scripts/mod_python", "version"], capture_output=True, text=True, check=True, cwd="/")
    assert "mod_python:  3.5.0" in done.stdout
    assert "httpd:       Test/1" in done.stdout
    assert str(tmp_path / "libmod_vivarium.so") in done.stdout
    link = tmp_path / "link"
    link.symlink_to(REPO / "scripts/mod_python")
    again = subprocess.run([link, "version"], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert again.stdout == done.stdout
