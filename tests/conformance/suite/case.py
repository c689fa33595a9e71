"""What a case is: a record of a configuration, a handler, a request, and what is compared."""

import re
import textwrap
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional, Sequence

# "Not given", where None is a value.
UNSAID = object()

# Put in front of every handler module.
PRELUDE = """\
import json, os, sys
from mod_python import apache

MARK = "{mark}"

def answer(req, value):
    "Answers with a value as JSON; what JSON cannot say is given as its repr."
    req.content_type = "application/json"
    req.write(json.dumps(value, default=repr))
    return apache.OK

def attempt(call, *args):
    "What a call gives, or the name of the exception it raises (of OSError's kinds: OSError)."
    try:
        return call(*args)
    except Exception as error:
        return "OSError" if isinstance(error, OSError) else type(error).__name__

def assigned(thing, name, value):
    "The attribute after the assignment, or the name of the exception that the assignment raises."
    try:
        setattr(thing, name, value)
    except Exception as error:
        return type(error).__name__
    return getattr(thing, name)

"""


@dataclass(frozen=True)
class Case:
    """One case. In `conf`, `server`, `vhost`, `path` and `files`, `@word@` stands for what `CaseServer.places` says; in
    what is compared, it stands where such a thing was.

    A case has a folder of its own below the document root, with the module `m_ID` in it, and a `<Directory>` section
    with `SetHandler mod_python` and `PythonHandler m_ID`, to which `conf` is added (with `bare`, there is only `conf`).
    """

    id: str
    # The rows of mod_python's API that it stands for, as in rows.py: "4.stat".
    row: "str | Sequence[str]"
    # The body of `def handler(req):`, or a whole module.
    code: str = ""
    conf: str = ""
    bare: bool = False
    # Configuration of the main server.
    server: str = ""
    # Configuration of a name-based virtual host of the case's own, to which its requests go.
    vhost: Optional[str] = None
    # More files in the case's folder: name -> text.
    files: Mapping[str, str] = field(default_factory=dict)

    method: str = "GET"
    # Below the case's own folder, or with a leading slash from the root.
    path: str = ""
    send: Sequence["tuple[str, str]"] = ()
    body: Optional[bytes] = None
    # The whole request as bytes instead; the answer is what comes until the connection is closed.
    raw: Optional[bytes] = None
    # A conversation instead: a function of the `runner.Talk` that returns what is to be compared.
    drive: Optional[Callable[[Any], Any]] = None
    # The exit status of `apache2 -t` with `server` as the configuration, instead of a request.
    configtest: bool = False

    # Headers of the answer that are compared.
    headers: Sequence[str] = ()
    # Log lines that are compared: those with the case's MARK, or those that match.
    log: "bool | str" = False
    # How many of them to wait for. (Those written in the request are there when the answer is.)
    log_wait: int = 0
    compare_body: bool = True

    # What Vivarium has to answer.
    status: Any = 200
    expect: Any = UNSAID
    expect_headers: Any = UNSAID
    expect_log: Any = UNSAID

    # Why Vivarium answers differently from mod_python.
    differs: str = ""
    # What mod_python gets wrong: the case is not sent there.
    defect: str = ""
    # It is sent to no mod_python for another reason.
    only_ours: str = ""
    mpms: Sequence[str] = ("event", "worker", "prefork")

    @property
    def rows(self):
        """The rows as a tuple."""
        return (self.row,) if isinstance(self.row, str) else tuple(self.row)

    @property
    def module(self):
        """The name of the handler's module."""
        return "m_" + self.id.replace("-", "_")

    @property
    def mark(self):
        """What the handler's own log lines begin with."""
        return f"case {self.id}: "

    @property
    def source(self):
        """The text of the handler's module."""
        code = textwrap.dedent(self.code).strip("\n").rstrip()
        if not re.search(r"^(def|class) ", code, re.M) or re.search(r"^(return|raise)\b", code, re.M):
            code = "def handler(req):\n" + textwrap.indent(code or "return answer(req, 'ran')", "    ")
        return PRELUDE.replace("{mark}", self.mark) + code + "\n"


@dataclass(frozen=True)
class Group:
    """Cases that share a server."""

    name: str
    cases: Sequence[Case]
    # httpd's modules beside the few that every server of the tests has.
    modules: Sequence[str] = ()
    # Configuration of the main server.
    conf: str = ""
    # Files below the document root.
    files: Mapping[str, str] = field(default_factory=dict)
    # `LoadModule python_module` before the one of mod_mime.
    python_first: bool = False
    # Codes of Vivarium's log that the cases bring about.
    allow: Sequence[str] = ()

    def __post_init__(self):
        names = [case.id for case in self.cases]
        assert len(set(names)) == len(names), f"{self.name}: two cases of one name"
