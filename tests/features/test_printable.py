import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import Incomplete, InputError, MediaError, VaflowError
from features.printable import printable

ANY_TEXT = st.text(st.characters(codec=None, categories=None))  # lone surrogates, too


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b-\u00e9.mp4", "a b-\u00e9.mp4"),
        ("e\u0301 \U0001f600", "e\u0301 \U0001f600"),  # combining marks and emoji are printable
        ("4.05\u202fPM", r"4.05\u202fPM"),
        ("a\u202egnp", r"a\u202egnp"),
        ("\u2066\u2069\u200f", r"\u2066\u2069\u200f"),  # other bidirectional controls
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("caf\udce9", r"caf\udce9"),
        ("\x1b[31m\r\x00\x85\xa0", r"\x1b[31m\r\x00\x85\xa0"),
        ("\U000e0001", r"\U000e0001"),
        ("one\ntwo\tthree", "one\ntwo\tthree"),  # our own layout
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_is_not_printable_is_an_escape(text, shown):
    assert printable(text) == shown


def test_a_text_of_one_line_has_no_newline():
    assert printable("one\ntwo\tthree", layout="") == r"one\ntwo\tthree"


@given(ANY_TEXT)
def test_the_result_can_be_shown_and_is_not_escaped_twice(text):
    shown, line = printable(text), printable(text, layout="")
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    assert line.isprintable()
    assert (printable(shown), printable(line, layout="")) == (shown, line)
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl"}
    shown.encode()


FORGED = "a.mp4\nvaflow: all is done\u202e\udce9"


@pytest.mark.parametrize(
    "error", [VaflowError(FORGED), InputError(FORGED), MediaError(FORGED, "damaged")]
)
def test_a_name_cannot_add_a_line_to_an_error(error):
    assert str(error) == r"a.mp4\nvaflow: all is done\u202e\udce9"


def test_an_error_has_a_line_for_each_further_argument():
    error = Incomplete("these failed:", "  a: good", f"  b: {FORGED}")
    lines = ["these failed:", "  a: good", r"  b: a.mp4\nvaflow: all is done\u202e\udce9"]
    assert str(error).split("\n") == lines
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301, from a worker
