"""Forms from attackers: 10,000 generated bodies, each of which is read or refused with a status, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
from random import Random
from typing import Any, Iterator, List, Tuple

import pytest
from form_requests import MULTIPART, URLENCODED, FormRequest, real_extension
from generated import common
from hypothesis import given, settings, strategies as st

from mod_python import _apache, _headers, util

PIECES = [
    b"--XbX", b"--XbX\r\n", b"\r\n--XbX\r\n", b"\r\n--XbX--", b"\r\n--XbX--\r\n", b"--XbX--", b"\r\n", b"\r\n\r\n", b"\r", b"\n",
    b"\r\n--Xb", b"--", b" ", b"\t", b"\0", b":", b";", b"=", b'"', b"\\", b"%", b"+", b"&", b"x" * 300, b"y" * 20000,
    b'Content-Disposition: form-data; name="a"\r\n\r\n', b'Content-Disposition: form-data; name="f"; filename="../../x"\r\n\r\n',
    b'Content-Disposition: form-data; name="', b"Content-Disposition: attachment", b"Content-Type: text/plain; charset=utf-7\r\n",
    b"content-disposition:form-data;name=a;filename*=utf-8''%ff%00\r\n\r\n", b"Content-Type: multipart/mixed; boundary=XbX\r\n\r\n",
    b"\xc3\xa9", b"\xff\xfe", b"%00", b"%c3%a9", b"%", b"%f", b"a=1&", b"a=1;b;&&=&", b"a" * 5000 + b"=", b"&a" * 600,
]
HEADS = [
    b'Content-Disposition: form-data; name="a"', b'content-disposition:form-data;name="a;b"; filename="x\\"y"',
    b'Content-Disposition: form-data; name="f"; filename="../../x"\r\nContent-Type: image/png', b"X: " + b"h" * 900,
    b"Content-Disposition: form-data; name*=utf-8''x; name=y\r\nX-A: \xff\xc3\xa9",
]
KINDS = [MULTIPART, URLENCODED, None, "multipart/form-data", "text/plain", 'multipart/x; boundary="X;bX"', "\x00", "multipart/;boundary=é"]
SIZES = [1, 2, 17, 1000, 0]
#: hypothesis chooses the seed of a batch: drawing every piece by itself would take minutes.
BATCH = 20
seeds = st.integers(0, 2**64)


def soup(chance: Random, most: int = 14) -> bytes:
    """Pieces of forms in any order."""
    pieces = range(chance.randrange(most))
    return b"".join(chance.choice(PIECES) if chance.random() < 0.7 else chance.randbytes(chance.randrange(12)) for _ in pieces)


def form(chance: Random) -> bytes:
    """A multipart body, which may be torn somewhere."""
    body = b"".join(b"--XbX\r\n%s\r\n\r\n%s\r\n" % (chance.choice(HEADS), soup(chance, 4)) for _ in range(chance.randrange(5)))
    body += b"--XbX--\r\n"
    if chance.random() < 0.4:
        at = chance.randrange(len(body))
        body = body[:at] + body[at + chance.randrange(9) :]
    return soup(chance) if chance.random() < 0.3 else body


OPTIONS = {"mod_python__forms__max_field_size": "4000", "mod_python__forms__max_header_size": "1000"}


def outcome(req: FormRequest) -> Any:
    """The fields, or the status that the form is refused with. Anything else is an error of ours."""
    try:
        form = util.FieldStorage(req, keep_blank_values=1)
    except _apache.SERVER_RETURN as refusal:
        assert "VIV0060" in req.log()
        assert refusal.args[0] in (400, 413, 501)
        return refusal.args[0]
    for name, field in form.items():
        assert isinstance(name, str)
        name.encode("utf-8")
        if isinstance(field, util.Field):
            assert isinstance(field.filename, str)
            assert isinstance(field.value, bytes)
        else:
            field.encode("utf-8")
        repr(field)
    return [(name, field.value, field.filename) for name, field in form.items()]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No file stays open, and no field stays in memory."""
    before = open_files(), fields_in_memory()
    yield
    assert open_files() <= before[0]
    assert fields_in_memory() <= before[1]


def open_files() -> int:
    """How many descriptors this process has."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def fields_in_memory() -> int:
    """How many forms and uploads there are; other tests may have left some."""
    gc.collect()
    return sum(isinstance(thing, (util.FieldStorage, util.Field)) for thing in gc.get_objects())


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    built = real_extension()
    if built is None:
        pytest.fail("the extension is not built: cargo build --release -p vivarium-worker")
    return built


def with_parsers_of(module: Any, make: Any) -> Any:
    """The outcome with the parsers of a module (``None``: those in Python)."""
    saved, _apache._vivarium = _apache._vivarium, module
    try:
        return outcome(make())
    finally:
        _apache._vivarium = saved


@settings(common, max_examples=4000 // BATCH)
@given(seed=seeds)
def check_multipart(extension: Any, seen: List[Any], seed: int) -> None:
    chance = Random(seed)
    for _ in range(BATCH):
        body, size = form(chance), chance.choice(SIZES)

        def make(body: bytes = body, size: int = size) -> FormRequest:
            return FormRequest("POST", body=body, kind=MULTIPART, piece=size, **OPTIONS)

        ours = with_parsers_of(extension, make)
        seen.append(ours)
        theirs = with_parsers_of(None, make)
        # The two may differ on what is wrong with a body; on the fields of one that both take they may not.
        if isinstance(ours, list) and isinstance(theirs, list):
            assert ours == theirs, body


def test_multipart_bodies(extension: Any) -> None:
    seen: List[Any] = []
    check_multipart(extension, seen)
    assert len(seen) >= 4000
    assert {400, 413} <= {s for s in seen if isinstance(s, int)}
    assert any(isinstance(s, list) and s for s in seen), "no body was ever good: this is no test"


@settings(common, max_examples=4000 // BATCH)
@given(seed=seeds)
def check_urlencoded(extension: Any, seen: List[Any], seed: int) -> None:
    chance = Random(seed)
    for _ in range(BATCH):
        body, args = soup(chance), soup(chance).decode("latin-1")

        def make(body: bytes = body, args: str = args) -> FormRequest:
            return FormRequest("POST", args=args, body=body, kind=URLENCODED, **OPTIONS)

        ours = with_parsers_of(extension, make)
        seen.append(ours)
        assert ours == with_parsers_of(None, make), (args, body)


def test_urlencoded_bodies(extension: Any) -> None:
    seen: List[Any] = []
    check_urlencoded(extension, seen)
    assert len(seen) >= 4000
    assert 413 in seen
    assert any(isinstance(s, list) and s for s in seen)


@settings(common, max_examples=2000 // BATCH)
@given(seed=seeds)
def check_types(extension: Any, seen: List[Any], seed: int) -> None:
    chance = Random(seed)
    for _ in range(BATCH):
        body, kind = form(chance), chance.choice([*KINDS, soup(chance, 3).decode("latin-1")])
        seen.append(with_parsers_of(extension, lambda: FormRequest("POST", body=body, kind=kind, **OPTIONS)))  # noqa: B023


def test_bodies_of_any_type(extension: Any) -> None:
    seen: List[Any] = []
    check_types(extension, seen)
    assert len(seen) >= 2000
    assert {400, 413, 501} <= {s for s in seen if isinstance(s, int)}


@settings(common, max_examples=300)
@given(line=st.one_of(st.text(max_size=60), st.lists(st.sampled_from(list(';="\\ ax\t')), max_size=30).map("".join)))
def test_any_header_can_be_parsed(line: str) -> None:
    main, options = _headers.parse_header(line)
    assert isinstance(main, str)
    assert all(isinstance(word, str) for pair in options.items() for word in pair)


@pytest.mark.parametrize(
    "line", [";" * 200_000, 'a;b="' + '\\"' * 100_000, 'a;b="\\";' * 20_000, "a;" + " " * 200_000 + "=", "a;" + "x=" * 50_000]
)
def test_long_headers_take_steps_in_proportion(line: str) -> None:
    """Quadratic ones would take minutes: the watchdog of the suite would say so."""
    main, options = _headers.parse_header(line)
    assert len(main) + sum(len(v) for v in options.values()) <= len(line)


def pairs_of(size: int) -> Tuple[str, int]:
    return "&".join(f"k{n}=v" for n in range(size)), size


def test_the_parser_stops_at_the_limit(extension: Any) -> None:
    query, size = pairs_of(1000)
    assert len(extension.parse_qsl(query, False, size)) == size
    for parse in (extension.parse_qsl, lambda *a: _apache._pairs(*a)):
        with pytest.raises(OverflowError):
            parse(query + "&one=more", False, size)
