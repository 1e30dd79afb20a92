from __future__ import annotations

from xml.etree import ElementTree
from xml.sax.saxutils import escape

from hypothesis import given
from hypothesis import strategies as st

from core.text import UNKNOWN, line, markdown


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_a_line_of_any_text_is_one_line_that_xml_can_hold(text: str):
    found = line(text)
    assert ElementTree.fromstring(f"<a>{escape(found)}</a>".encode()).text in (found, None)
    assert len(found.splitlines()) <= 1
    assert found == found.strip()


def test_what_no_document_can_hold_is_seen_to_be_missing():
    assert line("a\x00b\udcffc") == f"a{UNKNOWN}b{UNKNOWN}c"


def test_letters_and_pictures_of_every_language_stay():
    for name in ("été", "蟻", "نمل", "👩‍🔬", "a\u00adb"):
        assert line(name) == name


def test_nothing_turns_the_direction_of_what_follows():
    assert line("photo\u202egpj.exe") == "photogpj.exe"


def test_a_long_line_is_cut_and_says_so():
    assert line("x" * 300, 10) == "x" * 9 + "…"
    assert line("x" * 10, 10) == "x" * 10


def test_markdown_sees_nothing_in_a_name():
    assert markdown("*a*\n| b") == r"\*a\* \| b"
