"""The documentation and what it is about: generated files are current, log codes are explained, links lead somewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / "README.md", *(REPO / "docs").rglob("*.md")])


def gen_docs(root, *arguments):
    return subprocess.run(
        [sys.executable, root / "scripts/gen-docs", *arguments], capture_output=True, text=True, check=False
    )


def without_code(text):
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    text = path.read_text()
    headings = re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h) for h in headings)
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in plain}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.fixture
def copy(tmp_path):
    """The generator with what it reads and writes, to be changed at will."""
    for name in ("scripts/gen-docs", "conf/directives.toml", "docs/SUMMARY.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, tmp_path / name)
    assert gen_docs(tmp_path).returncode == 0
    assert gen_docs(tmp_path, "--check").returncode == 0
    return tmp_path


def test_generated_files_are_current():
    done = gen_docs(REPO, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_sees_a_changed_table(copy):
    table = copy / "conf/directives.toml"
    table.write_text(table.read_text().replace('default = "managed"', 'default = "by hand"'))
    done = gen_docs(copy, "--check")
    assert done.returncode == 1
    changed = {line.split(":")[0] for line in done.stdout.splitlines()[:-1]}
    assert changed == {"docs/directives.md", "docs/directives/VivariumDaemon.md", "conf/man/vivarium-directives.5"}


def test_check_sees_a_page_too_many_and_one_too_few(copy):
    (copy / "docs/directives/PythonGone.md").write_text("# PythonGone\n")
    (copy / "docs/directives/PythonPath.md").unlink()
    done = gen_docs(copy, "--check")
    assert done.returncode == 1
    assert "docs/directives/PythonGone.md: belongs to no directive" in done.stdout
    assert "docs/directives/PythonPath.md: is not current" in done.stdout


def test_a_wrong_key_in_the_table_is_named(copy):
    table = copy / "conf/directives.toml"
    table.write_text(table.read_text().replace("differences = ", "difference = ", 1))
    done = gen_docs(copy, "--check")
    assert done.returncode == 2
    assert re.search(r"Python\w+: keys missing or unknown: difference\b", done.stderr)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_man_page_formats_without_a_warning():
    page = REPO / "conf/man/vivarium-directives.5"
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", page], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "VivariumDaemon" in done.stdout


def test_every_log_code_is_explained():
    explained = set(re.findall(r"^\| (VIV\d{4}) \|", (REPO / "docs/log-codes.md").read_text(), flags=re.M))
    sources = [
        path
        for folder in ("httpd-module", "interp-daemon", "protocol")
        for path in (REPO / folder).rglob("*.rs")
        if "target" not in path.parts
    ]
    used = {code: path for path in sources for code in re.findall(r"\bVIV\d{4}\b", path.read_text())}
    assert used, "no source has a log code: has the code's form changed?"
    assert {code: str(path.relative_to(REPO)) for code, path in used.items() if code not in explained} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_relative_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", without_code(page.read_text())):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / unquote(name) if name else page
        if not path.exists():
            broken.append(target)
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            broken.append(f"{target} (no such heading)")
    assert broken == []
