"""The list of cases is whole, and docs/compatibility.md is what it says."""

from collections import Counter

from cases import GROUPS
from suite import report, rows


def test_every_row_has_a_case():
    assert set(rows.ALL) - set(report.of_rows(GROUPS)) == set()


def test_every_case_stands_for_a_row():
    assert set(report.of_rows(GROUPS)) - set(rows.ALL) == set()


def test_no_two_cases_have_one_name():
    names = Counter(case.id for group in GROUPS for case in group.cases)
    assert [name for name, count in names.items() if count > 1] == []


def test_the_page_is_current():
    written = report.PAGE.read_text() if report.PAGE.exists() else ""
    assert written == report.page(GROUPS), "write it anew: pytest tests/conformance --write-compatibility"
