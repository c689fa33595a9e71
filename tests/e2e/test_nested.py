"""Python that httpd runs while a handler waits in a call: filters within `req.write`, internal redirects."""

import json

import pytest

# Not `compat`: two Python filters in a row, or one that writes temporary strings, send rubbish with mod_python 3.5.


def configure(server):
    server.allow_line("in the filter")
    server.write("static/page.txt", "a static page\n")
    filters = "\n".join(
        f"PythonOutputFilter nested::{name} {name.upper()}"
        for name in ("spy", "upper", "brackets", "broken", "swallow", "attributes", "lines", "flood", "hurry", "hands_on", "goes",
                     "goes_in_the_middle")
    )
    server.site("nested", filters)
    server.write("static/nested.py", (server.htdocs / "nested.py").read_bytes())
    server.add(f"""
        <Directory "{server.htdocs}/static">
            SetHandler none
            SetOutputFilter UPPER
        </Directory>
    """)


@pytest.mark.compat
def test_an_output_filter_runs_within_write_on_the_same_thread(web):
    response = web.get("/filtered")
    first, second, rest = response.text.split(" ", 2)
    assert (first, second) == ("FIRST", "SECOND")
    inside, more = json.loads(rest.lower())
    assert inside == [["first ", True]]
    assert more


@pytest.mark.compat
def test_a_filter_over_a_static_file(web):
    assert web.get("/static/page.txt").body == b"A STATIC PAGE\n"


def test_filters_in_a_row(web):
    text = web.get("/with_filters?UPPER,BRACKETS").text
    assert text.replace("[", "").replace("]", "") == "SOME TEXT(end)"
    assert text.startswith("[SOME ")


def test_a_filter_in_the_other_order(web):
    text = web.get("/with_filters?BRACKETS,UPPER").text
    assert text.replace("[", "").replace("]", "") == "SOME TEXT(END)"


@pytest.mark.parametrize("order", ["FLOOD,UPPER", "FLOOD,FLOOD,UPPER", "FLOOD,HURRY,FLOOD,UPPER"])
def test_much_output_before_another_filter(web, order):
    """What a filter writes is passed on while it runs: then its worker must be waiting for what comes after it."""
    floods = order.count("FLOOD")
    body = web.get(f"/flooded?{order}").body
    assert (len(body), set(body)) == (9000 * 40**floods, set(b"X"))
    assert web.get("/many").status == 200
    assert not web.log_lines("VIV0014")


@pytest.mark.compat
def test_a_filter_that_flushes_and_does_not_close(web):
    assert web.get("/with_filters?HURRY").body == b"some text"


@pytest.mark.parametrize("how", ["HANDS_ON", "GOES", "GOES_IN_THE_MIDDLE"])
def test_a_filter_that_leaves_ends_its_answer_once(web, how):
    """What comes after the answer's end would be read as the next answer."""
    with web.connect() as connection:
        for target in (f"/with_filters?{how}", f"/flushed_with_filters?{how}", "/plain"):
            assert connection.request("GET", target).body.lower() == b"some text"


def test_many_writes_through_a_filter(web):
    assert web.get("/with_filters?UPPER,UPPER").body == b"SOME TEXT"
    assert web.get("/many").body == b"abc" * 1000


@pytest.mark.compat
def test_filter_attributes(web):
    text = web.get("/with_filters?ATTRIBUTES").text
    seen = json.loads(text[: text.index("}") + 1])
    assert seen["name"].lower() == "attributes"
    assert (seen["input"], seen["closed"], seen["uri"]) == (False, False, "/with_filters")
    assert seen["handler"] == "nested::attributes"


def test_readline_in_a_filter(web):
    assert web.get("/text_lines").text.split() == ["4", "12"]


@pytest.mark.compat
def test_a_broken_filter_is_transparent(web):
    response = web.get("/with_filters?BROKEN")
    assert response.status == 200
    assert response.body in (b"some text", b"text")  # what the filter had in hand when it broke may be lost
    web.wait_log("RuntimeError.*in the filter")


@pytest.mark.compat
def test_a_filter_that_swallows_everything(web):
    response = web.get("/with_filters?SWALLOW")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.compat
def test_prev_is_the_very_object(web):
    response = web.get("/redirect")
    assert (response.status, response.text) == (200, "the target's answer")
    from_target, next_seen = json.loads(web.wait_log("AFTER ")[0].partition("AFTER ")[2])
    assert from_target == [True, [1, 2, 3, 4], "/redirect", True, True, True]
    assert next_seen is True


@pytest.mark.compat
def test_a_chain_of_redirects(web):
    assert json.loads(web.get("/chain?7").text) == [str(n) for n in range(8)]


@pytest.mark.compat
def test_writing_through_prev(web):
    assert web.get("/prev_write").text == "through prev and by itself"


@pytest.mark.compat
def test_redirect_to_a_filtered_file(web):
    assert web.get("/to_file").body == b"A STATIC PAGE\n"


@pytest.mark.compat
def test_redirect_to_nothing(web):
    assert web.get("/nowhere").status == 404
