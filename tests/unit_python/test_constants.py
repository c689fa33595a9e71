"""The constants of ``mod_python.apache``: as mod_python has them, and as the headers do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict

import pytest
from measured_constants import MEASURED

from mod_python import _constants, apache

HEADERS = {
    Path("/usr/include/apache2"): ("httpd.h", "http_core.h", "ap_mpm.h", "http_log.h", "ap_mmn.h"),
    Path("/usr/include/apr-1.0"): ("apr_file_info.h",),
}
# mod_python gives APLOG_NOERRNO as 0; newer headers have more methods of asking.
DIFFERENT = {"APLOG_NOERRNO", "MODULE_MAGIC_NUMBER_MINOR"}


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_every_constant_of_mod_python_is_there(name: str) -> None:
    assert getattr(apache, name) == MEASURED[name]
    assert type(getattr(apache, name)) is type(MEASURED[name])


def defined() -> Dict[str, int]:
    found: Dict[str, int] = {}
    for directory, files in HEADERS.items():
        for file in files:
            path = directory / file
            if not path.exists():
                pytest.skip(f"{path} is not installed")
            text = path.read_text(errors="replace")
            for name, value in re.findall(r"^#define\s+(\w+)\s+\(?(-?(?:0x)?[0-9a-fA-F]+)\)?\s*(?:/.*)?$", text, re.M):
                found[name] = int(value, 0)
    return found


def test_constants_agree_with_the_headers() -> None:
    headers = defined()
    names = [name for name in vars(_constants) if name.isupper() and name in headers and name not in DIFFERENT]
    assert len(names) > 150
    wrong = {name: (getattr(_constants, name), headers[name]) for name in names if getattr(_constants, name) != headers[name]}
    assert wrong == {}


def test_every_status_and_method_of_the_headers_is_there() -> None:
    wanted = re.compile(r"HTTP_(?!VERSION$)[A-Z_]+|M_[A-Z_]+|AP_REQ_[A-Z_]+|PROXYREQ_[A-Z]+|APR_FINFO_[A-Z]+")
    missing = [name for name in defined() if wanted.fullmatch(name) and not hasattr(apache, name)]
    assert missing == []
