"""Runs every case on Vivarium under each process model, and on mod_python under event, and compares."""

import json

import pytest
from suite.case import UNSAID
from suite.runner import TRIES, NoServer

# Stands for httpd's own page in messages.
PAGE = "<!DOCTYPE HTML PUBLIC"


# Rows that do not work yet, each with the reason. A case that begins to pass must leave this list.
OPEN = {}


def shown(seen):
    """An answer in few lines."""
    body = seen.get("body")
    if isinstance(body, str) and body.startswith(PAGE):
        seen = {**seen, "body": "(httpd's page)"}
    return json.dumps(seen, ensure_ascii=False)


def expected(case, seen):
    """What the case says of Vivarium's answer, as far as it says anything."""
    wanted = {"status": case.status, "body": case.expect, "headers": case.expect_headers, "log": case.expect_log}
    return {name: value for name, value in wanted.items() if value is not UNSAID and name in {*seen, "status"}}


def verdict(case, ours, theirs):
    """How the case came out, and a message if it came out wrong."""
    wanted = expected(case, ours)
    if {name: ours.get(name) for name in wanted} != wanted:
        return "fails", f"the case says\n    {shown(wanted)}"
    if theirs is None:
        return "defect" if case.defect else "ours", None
    if case.differs:
        if ours == theirs:
            return "fails", "both answer the same: `differs` is no longer true"
        return "differs", None
    return ("same", None) if ours == theirs else ("fails", "they differ")


def test_case(servers, outcomes, mpm, group, case):
    outcomes[group.name, case.id, mpm] = "fails"
    failed = None
    try:
        ours = servers.ours(mpm, group, case)
        theirs = None if case.defect or case.only_ours else servers.theirs(group, case)
    except NoServer as error:
        failed = str(error)
    if failed:
        pytest.fail(failed, pytrace=False)
    outcomes[group.name, case.id, mpm], wrong = verdict(case, ours, theirs)
    # mod_python does not always answer the same: it is asked until it agrees, a few times.
    for _ in range(TRIES - 1):
        if not wrong or theirs is None or theirs == ours:
            break
        theirs = servers.theirs(group, case, again=True)
        outcomes[group.name, case.id, mpm], wrong = verdict(case, ours, theirs)
    if case.id in OPEN:
        assert wrong, f"{case.id} works now: take it off the list ({OPEN[case.id]})"
        return
    if wrong:
        lines = [f"{group.name}/{case.id} under {mpm}: {wrong}", f"Vivarium\n    {shown(ours)}"]
        lines += servers.complaints("vivarium", case)
        if theirs is not None:
            lines += [f"mod_python\n    {shown(theirs)}", *servers.complaints("mod_python", case)]
        pytest.fail("\n".join(lines), pytrace=False)
