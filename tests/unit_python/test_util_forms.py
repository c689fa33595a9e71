"""mod_python.util: FieldStorage and its fields."""

from __future__ import annotations

import io
from typing import Any, Iterator, List

import pytest
from form_requests import MULTIPART, URLENCODED, FormRequest, file_part, multipart, real_extension, text_part

from mod_python import _apache, util


@pytest.fixture(params=["plain", "extension"], autouse=True)
def parsers(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The parsers in Python, and those of the built extension."""
    if request.param == "extension":
        built = real_extension()
        if built is None:
            pytest.fail("the extension is not built: cargo build --release -p vivarium-worker")
        monkeypatch.setattr(_apache, "_vivarium", built)
    yield request.param


def refused(req: FormRequest, **more: Any) -> int:
    """The status that a form is refused with; one line in the log says why."""
    with pytest.raises(_apache.SERVER_RETURN) as caught:
        util.FieldStorage(req, **more)
    assert [text for _, text in req.lines if "VIV0060" in text], req.lines
    return int(caught.value.args[0])


def post(body: bytes, kind: str = MULTIPART, **more: Any) -> FormRequest:
    return FormRequest("POST", body=body, kind=kind, **more)


# --- query strings and urlencoded bodies

def test_query_string_is_text() -> None:
    form = util.FieldStorage(FormRequest(args="a=1&b=%C3%A9&a=2;c=x+y&d=&e"))
    assert [(name, field, type(field)) for name, field in form.items()] == [
        ("a", "1", util.StringField), ("b", "é", util.StringField), ("a", "2", util.StringField),
        ("c", "x y", util.StringField),
    ]
    assert form.keys() == ["a", "b", "c"]
    assert form["a"] == ["1", "2"]
    assert form["c"] == "x y"


def test_blank_values_on_request() -> None:
    form = util.FieldStorage(FormRequest(args="a=&b&c=1"), keep_blank_values=1)
    assert form.items() == [("a", ""), ("b", ""), ("c", "1")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_the_body_is_for_post_only(method: str) -> None:
    req = FormRequest(method, args="a=1", body=b"b=2", kind=URLENCODED)
    assert util.FieldStorage(req).items() == [("a", "1")]
    assert req.input == b"b=2"


@pytest.mark.parametrize("kind", [None, URLENCODED, "Application/X-WWW-Form-URLencoded; charset=UTF-8"])
def test_urlencoded_body(kind: Any) -> None:
    form = util.FieldStorage(FormRequest("POST", args="q=0", body="a=b%20c&ü=%C3%BC".encode(), kind=kind, piece=3))
    assert form.items() == [("q", "0"), ("a", "b c"), ("ü", "ü")]


def test_bytes_that_are_no_text_are_replaced() -> None:
    form = util.FieldStorage(post(b"a=%FF%FEx", URLENCODED))
    assert form["a"] == "\ufffd\ufffdx"
    exact = util.FieldStorage(post(b"a=%FFx", URLENCODED), errors="surrogateescape")
    assert exact["a"].encode("utf-8", "surrogateescape") == b"\xffx"


def test_another_encoding() -> None:
    assert util.FieldStorage(post(b"a=%E9", URLENCODED + "; charset=iso-8859-1"))["a"] == "é"
    assert util.FieldStorage(post(b"a=%E9", URLENCODED), encoding="latin-1")["a"] == "é"
    assert util.FieldStorage(post(b"a=%E9", URLENCODED, mod_python__forms__encoding="latin-1"))["a"] == "é"
    # A client may not ask for expensive or strange ones.
    for name in ("idna", "utf-7", "unicode_escape", "rot13", "no such thing", "a\0b"):
        assert util.FieldStorage(post(b"a=b", f"{URLENCODED}; charset={name}"))["a"] == "b"


def test_no_body_at_all() -> None:
    assert util.FieldStorage(FormRequest("POST")).items() == []


# --- multipart bodies

@pytest.mark.parametrize("piece", [1, 7, 0])
def test_multipart(piece: int) -> None:
    content = bytes(range(256)) * 300 + b"\r\n--Xb"
    body = multipart(text_part("a", "é".encode()), file_part("f", "C:\\dir\\x.bin", content, "image/png; q=1"),
                     text_part("a", b""))
    form = util.FieldStorage(post(body, piece=piece, args="a=0"))
    assert [name for name, _ in form.items()] == ["a", "a", "f", "a"]
    assert form["a"] == ["0", "é", ""]
    upload = form["f"]
    assert type(upload) is util.Field
    assert (upload.name, upload.filename, upload.type, upload.type_options) == (
        "f", "C:\\dir\\x.bin", "image/png", {"q": "1"},
    )
    assert upload.disposition == "form-data"
    assert upload.disposition_options == {"name": "f", "filename": "C:\\dir\\x.bin"}
    assert upload.headers["Content-Type"] == "image/png; q=1"
    assert upload.value == content
    assert upload.file.read() == content
    assert upload.value == content


def test_multipart_headers_are_lenient_where_clients_differ() -> None:
    body = multipart(('CONTENT-disposition:form-data;NAME="a b;c"', b"1"), ("Content-Disposition: form-data; name=x", b"2"),
                     ('Content-Disposition: form-data; name="q\\"q"', b"3"))
    form = util.FieldStorage(post(body, 'Multipart/Form-Data; boundary="XbX"'))
    assert form.items() == [("a b;c", "1"), ("x", "2"), ('q"q', "3")]


def test_preamble_epilogue_and_padding() -> None:
    body = b"for people\r\n--XbX \t\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n--XbX--\r\nmore"
    assert util.FieldStorage(post(body)).items() == [("a", "v")]
    assert util.FieldStorage(post(b"--XbX--")).items() == []


def test_file_name_in_the_other_spelling() -> None:
    body = multipart(("Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''na%C3%AFve.txt", b"x"))
    assert util.FieldStorage(post(body))["f"].filename == "naïve.txt"


def test_a_file_without_a_name_is_a_file() -> None:
    field = util.FieldStorage(post(multipart(file_part("f", "", b""))))["f"]
    assert (type(field), field.filename, field.value) == (util.Field, "", b"")


def test_callbacks() -> None:
    made: List[Any] = []

    class Storage(io.BytesIO):
        ended = 0

        def close(self) -> None:
            Storage.ended += 1
            super().close()

    def file_callback(name: str) -> Storage:
        made.append(name)
        return Storage()

    def field_callback() -> Storage:
        made.append("field")
        return Storage()

    body = multipart(text_part("a", b"text"), file_part("f", "n.txt", b"content"))
    form = util.FieldStorage(post(body), file_callback=file_callback, field_callback=field_callback)
    assert made == ["field", "n.txt"]
    assert (form["a"], type(form["a"].file), form["a"].file.read()) == ("text", Storage, b"text")
    assert (type(form["f"].file), form["f"].file.read(), form["f"].value) == (Storage, b"content", b"content")
    upload = form["f"].file
    del form["f"]
    assert upload.closed, "an application's file is closed with its field"


def test_upload_directory(tmp_path: Any) -> None:
    form = util.FieldStorage(post(multipart(file_part("f", "x", b"y")), mod_python__forms__upload_directory=str(tmp_path)))
    assert form["f"].value == b"y"
    with pytest.raises(OSError):
        util.FieldStorage(
            post(multipart(file_part("f", "x", b"y")), mod_python__forms__upload_directory=str(tmp_path / "none"))
        )


# --- what is refused

@pytest.mark.parametrize(
    "body",
    [
        b"", b"no boundary", b"--XbX", b"--XbX\r\n", b"--XbX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nends",
        b"--XbX\r\nnot a header\r\n\r\nx\r\n--XbX--\r\n", b"--XbXContent-Disposition: form-data\r\n\r\n\r\n--XbX--",
        multipart(("Content-Disposition: form-data", b"no name")), multipart(("X-Y: z", b"no disposition")),
        multipart(text_part("a", b"1")).replace(b"\r\n", b"\n"),
    ],
)
def test_malformed_bodies_are_400(body: bytes) -> None:
    assert refused(post(body)) == 400


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\"",
                                  "multipart/form-data; boundary=" + "x" * 1000])
def test_a_boundary_that_cannot_be_is_400(kind: str) -> None:
    assert refused(post(multipart(text_part("a", b"1")), kind)) == 400


@pytest.mark.parametrize("kind", ["text/xml", "application/json", "x", ";", "multipart", "multipart-form-data"])
def test_another_type_is_501(kind: str) -> None:
    assert refused(post(b"{}", kind)) == 501


def test_limits_by_argument_and_option() -> None:
    many = "&".join(f"a{n}=1" for n in range(11))
    assert refused(FormRequest(args=many), max_fields=10) == 413
    assert refused(FormRequest(args=many, mod_python__forms__max_fields="10")) == 413
    assert len(util.FieldStorage(FormRequest(args=many, mod_python__forms__max_fields="10"), max_fields=0)) == 11
    assert len(util.FieldStorage(FormRequest(args=many), max_fields=11)) == 11
    assert refused(post(b"b=1", URLENCODED, args=many), max_fields=11) == 413
    parts = multipart(*(text_part("a", b"1") for _ in range(11)))
    assert refused(post(parts), max_fields=10) == 413

    assert refused(post(b"a=" + b"x" * 100, URLENCODED), max_field_size=99) == 413
    assert refused(post(multipart(text_part("a", b"x" * 100))), max_field_size=99) == 413
    assert util.FieldStorage(post(multipart(text_part("a", b"x" * 100))), max_field_size=100)["a"] == "x" * 100
    assert refused(post(b"a=" + b"x" * 98, URLENCODED, mod_python__forms__max_text_size="99")) == 413
    assert refused(post(multipart(text_part("a", b"x" * 50), text_part("b", b"x" * 50))), max_text_size=99) == 413
    assert refused(post(multipart(file_part("f", "n", b"x" * 100))), max_file_size=99) == 413
    assert util.FieldStorage(post(multipart(file_part("f", "n", b"x" * 100))), max_field_size=9, max_text_size=9)["f"].value
    header = 'Content-Disposition: form-data; name="a"\r\nX: ' + "x" * 500
    assert refused(post(multipart((header, b"1"))), max_header_size=400) == 413
    assert refused(post(multipart((header, b"1")), piece=50), max_header_size=400) == 413


def test_the_defaults_refuse_what_is_absurd() -> None:
    assert refused(FormRequest(args="a=1&" * 2000)) == 413
    assert refused(post(b"a=" + b"x" * (5 << 20), URLENCODED)) == 413
    assert refused(post(multipart(("X: " + "x" * 20000, b"1")))) == 413
    assert refused(post(multipart(*(text_part("a", b"x" * (3 << 20)) for _ in range(6))))) == 413


def test_sizes_in_options() -> None:
    assert util.FieldStorage(post(b"a=" + b"x" * 2048, URLENCODED, mod_python__forms__max_field_size="2 KB"))["a"]
    with pytest.raises(ValueError, match="mod_python.forms.max_fields.*many"):
        util.FieldStorage(FormRequest(mod_python__forms__max_fields="many"))
    with pytest.raises(ValueError, match="max_fields"):
        util.FieldStorage(FormRequest(), max_fields=-1)


# --- the mapping

def test_mapping() -> None:
    form = util.FieldStorage(FormRequest(args="a=1&b=2&a=3"))
    assert (len(form), list(form), "a" in form, "x" in form, form.has_key("b")) == (2, ["a", "b"], True, False, True)
    assert (form.get("x", 5), form.get("x"), form.get("b")) == (5, None, "2")
    assert (form.getfirst("a"), form.getfirst("x"), form.getfirst("x", 5)) == ("1", None, 5)
    assert (form.getlist("a"), form.getlist("x")) == (["1", "3"], [])
    with pytest.raises(KeyError):
        form["x"]
    with pytest.raises(KeyError):
        del form["x"]
    form.add_field("b", b"\xc3\xa9")
    assert form["b"] == ["2", "é"]
    form["a"] = "new"
    assert form.items() == [("b", "2"), ("b", "é"), ("a", "new")]
    del form["b"]
    assert form.keys() == ["a"]
    field = util.Field("other")
    form.add_field("f", field)
    assert form["f"] is field
    assert field.name == "f"
    with pytest.raises(TypeError):
        form.add_field("n", 5)
    form.clear()
    assert (len(form), form.keys(), bool(form)) == (0, [], False)


def test_the_list_can_be_changed_by_hand() -> None:
    form = util.FieldStorage(FormRequest(args="a=1&b=2"))
    assert form["a"] == "1"
    form.list.append(util.StringField("3", "c"))
    form.list.pop(0)
    assert (form.keys(), form.get("a"), form["c"]) == (["b", "c"], None, "3")
    form.list[:] = []
    assert form.keys() == []


def test_string_field() -> None:
    field = util.StringField(b"caf\xc3\xa9", "n")
    assert (field, field.value, type(field.value), field.name) == ("café", "café", str, "n")
    assert (field.filename, field.type, field.type_options, field.disposition) == (None, "text/plain", {}, None)
    assert (field.disposition_options, field.headers) == ({}, {})
    assert field.file.read() == "café"
    assert repr(field) == "Field('n', 'café')"
    assert type(str(field)) is str
    assert {field: 1}["café"] == 1
    with pytest.raises(AttributeError):
        field.nothing


# --- the rest of the module

@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("text/html; charset=x", ("text/html", {"charset": "x"})),
        ('form-data; name="a"; filename="C:\\d\\x"', ("form-data", {"name": "a", "filename": "C:\\d\\x"})),
        ('a; b="q\\"r;s"; c=d;e', ("a", {"b": 'q"r;s', "c": "d"})),
        ('a; b="never closed; c=d', ("a", {"b": "never closed; c=d"})),
        ("A ; B = c ; B=d", ("a", {"b": "c"})),
        ("", ("", {})),
        (b"text/html; Charset=x", (b"text/html", {b"charset": "x"})),
    ],
)
def test_parse_header(line: Any, expected: Any) -> None:
    assert util.parse_header(line) == expected


def test_parse_qs() -> None:
    assert util.parse_qs("a=1&b=2&a=%33;c") == {"a": ["1", "3"], "b": ["2"]}
    assert util.parse_qs(b"a=&b", 1) == {b"a": [b""], b"b": [b""]}
    assert util.parse_qsl("a=%C3%A9+%zz%4&=x&&") == [("a", "é %zz%4"), ("", "x")]
    assert util.parse_qsl("n=a%00b") == [("n", "a")]
    assert util.parse_qsl("a=\udcff") == [("a", "\ufffd")]
    with pytest.raises(TypeError):
        util.parse_qsl(5)  # type: ignore[arg-type]


def test_redirect() -> None:
    req = FormRequest()
    with pytest.raises(_apache.SERVER_RETURN) as caught:
        util.redirect(req, "/x?a=b&c=<é> d%20")
    assert caught.value.args == (-2,)
    assert req.status == 302
    assert req.err_headers_out["Location"] == "/x?a=b&c=<%C3%A9>%20d%20"
    assert b'href="/x?a=b&amp;c=&lt;%C3%A9&gt;%20d%20"' in req.body
    with pytest.raises(_apache.SERVER_RETURN):
        util.redirect(req, "/y", permanent=1, text="gone")
    assert req.status == 301
    assert req.body.endswith(b"gone")
    for bad in ("/x\r\nSet-Cookie: a=b", "/\n", "/\0"):
        with pytest.raises(ValueError):
            util.redirect(req, bad)
    req.sent_bodyct = 1
    with pytest.raises(OSError, match="already been sent"):
        util.redirect(req, "/x")


def test_apply_fs_data() -> None:
    form = util.FieldStorage(post(multipart(file_part("f", "n", b"c"), text_part("a", b"1"), text_part("b", b"2"),
                                            text_part("b", b"3"), text_part("req", b"evil"))))

    def some(req: Any, a: Any, b: Any = None) -> Any:
        return req, a, b

    assert util.apply_fs_data(some, form, req="real") == ("real", "1", ["2", "3"])
    assert type(util.apply_fs_data(lambda a: a, form)) is str
    everything = util.apply_fs_data(lambda **kw: kw, form, req="real")
    assert set(everything) == {"f", "a", "b", "req"}
    assert everything["req"] == "real"
    assert type(everything["f"]) is util.Field

    class Thing:
        def __init__(self, a: Any) -> None:
            self.a = a

        def __call__(self, b: Any) -> Any:
            return b

        def method(self, a: Any) -> Any:
            return a

    assert util.apply_fs_data(Thing, form).a == "1"
    assert util.apply_fs_data(Thing(0), form) == ["2", "3"]
    assert util.apply_fs_data(Thing(0).method, form) == "1"
    with pytest.raises(TypeError):
        util.apply_fs_data(lambda missing: missing, form)
