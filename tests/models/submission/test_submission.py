import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.datasets.affwild2 import SAMPLE_HEADER
from features.errors import InputError, VaflowError
from models.submission.check import EXAMPLES, SAYS, Problem, check
from models.submission.format import (
    HEADER,
    NOT_COMPARED,
    Sample,
    read_sample,
    rows_of_frames,
    rows_of_sample,
)

LISTED = ("b/00001.jpg", "b/00002.jpg", "a/00001.jpg", "a/00003.jpg")
SPANS = {"a": slice(0, 3), "b": slice(3, 5)}
VA = np.array([[0.1, -0.1], [0.2, -0.2], [0.3, -0.3], [0.4, -0.4], [0.5, -0.5]])
GOOD = f"""{HEADER}
b/00001.jpg,0.400000,-0.400000
b/00002.jpg,0.500000,-0.500000
a/00001.jpg,0.100000,-0.100000
a/00003.jpg,0.300000,-0.300000
"""


@pytest.fixture
def sample_of(tmp_path) -> Callable[..., Sample]:
    """Read a sample of these rows."""

    def make(*rows: str) -> Sample:
        (tmp_path / "sample.txt").write_text("\n".join([HEADER, *rows]) + "\n")
        return read_sample(tmp_path / "sample.txt")

    return make


@pytest.fixture
def checked(tmp_path, sample_of) -> Callable[[str | bytes], dict[str, Problem]]:
    """What is wrong with a file of this content, by rule."""

    def look(content: str | bytes) -> dict[str, Problem]:
        file = tmp_path / "submission.txt"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return {problem.rule: problem for problem in check(file, sample_of(*LISTED))}

    return look


# The sample ---------------------------------------------------------------------------------------


def test_a_sample_is_its_rows_in_order_whatever_stands_behind_them(sample_of, tmp_path):
    for tail in ("", ",", ",,", ",0.5,-0.5"):
        sample = sample_of(*(row + tail for row in LISTED))
        assert sample.locations == LISTED
        assert sample.clips == ("b", "a")
        assert sample.clip_of.tolist() == [0, 0, 1, 1]
        assert sample.frame.tolist() == [1, 2, 1, 3]
    windows = "\ufeff" + "\r\n".join([HEADER, *LISTED]) + "\r\n\r\n"
    (tmp_path / "w.txt").write_bytes(windows.encode())
    assert read_sample(tmp_path / "w.txt").digest() == sample.digest()
    assert sample_of(*reversed(LISTED)).digest() != sample.digest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"s\.txt, line 1: a sample begins with .*, this one with ''; give the challenge's"),
        (b"valence,arousal\n0.1,0.1\n", "line 1: .* this one with 'valence,arousal'"),
        (b"\xff\xfe", "s.txt is no text in UTF-8; give"),
        (f"{HEADER}\n\n".encode(), "s.txt has a header but no row; give"),
        (f"{HEADER}\na/00001.jpg,\na.jpg,\n".encode(), "line 3: 'a.jpg' is no `<clip>/00001.jpg`"),
        (f"{HEADER}\na/00000.jpg,\n".encode(), "line 2: 'a/00000.jpg' is no .* counted from 1"),
        (f"{HEADER}\n,0.1,0.1\n".encode(), "line 2: '' is no"),
        (
            f"{HEADER}\n\na/00001.jpg\nb/00001.jpg\na/00001.jpg,\n".encode(),
            "line 5: 'a/00001.jpg' stands already in line 3",
        ),
    ],
    ids=str,
)
def test_what_is_no_sample_is_named_with_its_line(content, message, tmp_path):
    (tmp_path / "s.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_sample(tmp_path / "s.txt")


def test_files_that_cannot_be_read_are_named(tmp_path, sample_of):
    with pytest.raises(InputError, match="none cannot be read .No such file.*; give the challenge"):
        read_sample(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read .Is a dir.*; give the file to be sent"):
        check(tmp_path, sample_of(*LISTED))


def test_a_record_that_does_not_hang_together_is_refused():
    one, two = np.array([0]), np.array([0, 0])
    with pytest.raises(ValueError, match="one clip and one frame per location"):
        Sample(("a/00001.jpg",), ("a",), two, two)
    with pytest.raises(ValueError, match="at least one"):
        Sample((), (), one[:0], one[:0])
    with pytest.raises(ValueError, match="stands twice"):
        Sample(("a/00001.jpg",) * 2, ("a",), two, two)
    with pytest.raises(ValueError, match="0 examples of 1 places"):
        Problem("order", (), 1)


def test_the_header_is_the_one_that_the_index_knows_samples_by():
    assert HEADER == SAMPLE_HEADER


# Writing ------------------------------------------------------------------------------------------


def test_a_submission_has_the_samples_rows_in_its_order(sample_of):
    found = rows_of_sample(sample_of(*LISTED), SPANS, VA)
    assert found.text == GOOD
    assert found.notes == (
        "submission.txt: 1 predicted frames have no row in the sample and are left out (a: 1)",
    )


def test_locations_are_written_as_the_sample_spells_them(sample_of):
    found = rows_of_sample(sample_of("a/2.JPG,", "a/000003.jpg,"), SPANS, VA)
    assert found.text.splitlines()[1:] == [
        "a/2.JPG,0.200000,-0.200000",
        "a/000003.jpg,0.300000,-0.300000",
    ]


def test_up_to_three_rows_beyond_the_last_frame_hold_its_prediction_and_are_counted(sample_of):
    rows = [f"{clip}/{k:05d}.jpg" for clip, n in (("a", 6), ("b", 3)) for k in range(1, n + 1)]
    found = rows_of_sample(sample_of(*rows), SPANS, VA)
    values = [float(line.split(",")[1]) for line in found.text.splitlines()[1:]]
    assert values == [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.4, 0.5, 0.5]
    assert found.notes == (
        "submission.txt: 4 rows of the sample lie beyond the last frame and hold its prediction "
        "(a: 3, b: 1)",
    )
    one_more = sample_of(*rows, "a/00007.jpg")
    message = (
        r"apart in 1 clip \(a: at row 7 and frame 3\); at most 3 .*extract again"
        r".*max_length_mismatch=N"
    )
    with pytest.raises(InputError, match=message):
        rows_of_sample(one_more, SPANS, VA)
    assert rows_of_sample(one_more, SPANS, VA, 4).text.endswith("a/00007.jpg,0.300000,-0.300000\n")


def test_frames_beyond_the_last_row_go_up_to_as_many(sample_of):
    va = np.linspace(0, 0.9, 20).reshape(10, 2)
    found = rows_of_sample(sample_of("a/00007.jpg"), {"a": slice(0, 10)}, va)
    assert found.text.endswith(f"a/00007.jpg,{va[6, 0]:.6f},{va[6, 1]:.6f}\n")
    with pytest.raises(InputError, match="a: at row 6 and frame 10"):
        rows_of_sample(sample_of("a/00006.jpg"), {"a": slice(0, 10)}, va)


def test_clips_without_a_prediction_are_named_and_others_are_noted(sample_of):
    spans = {"a": slice(0, 3), "c": slice(3, 4), "b": slice(4, 5)}
    found = rows_of_sample(sample_of("a/00003.jpg"), spans, VA)
    others = "2 clips of the split have no row in the sample and are left out (b, c)"
    assert found.notes == (
        "submission.txt: 2 predicted frames have no row in the sample and are left out (a: 2)",
        f"submission.txt: {others}",
    )
    lacking = sample_of(*(f"v{k}/00001.jpg" for k in range(6)), *LISTED)
    message = (
        r"rows of 6 clips without a prediction \(v0, v1, v2, v3, v4 and 1 more\); index and "
        "extract them with the split 'test'"
    )
    with pytest.raises(InputError, match=message):
        rows_of_sample(lacking, SPANS, VA)


def test_without_a_sample_there_is_a_row_per_frame_and_a_note():
    found = rows_of_frames({"b": slice(3, 5), "a": slice(0, 1)}, VA)
    assert (
        found.text
        == f"""{HEADER}
b/00001.jpg,0.400000,-0.400000
b/00002.jpg,0.500000,-0.500000
a/00001.jpg,0.100000,-0.100000
"""
    )
    assert found.notes == (NOT_COMPARED,)


def test_predictions_that_are_no_numbers_are_refused(sample_of):
    va = VA.copy()
    va[4, 1] = np.nan
    message = r"predictions of 1 clip are not finite \(b\);.*; train the head anew"
    with pytest.raises(VaflowError, match=message):
        rows_of_sample(sample_of(*LISTED), SPANS, va)
    with pytest.raises(VaflowError, match=message):
        rows_of_frames(SPANS, va)


# Checking -----------------------------------------------------------------------------------------


def test_what_was_written_is_in_order(checked):
    assert checked(GOOD) == {}
    assert checked(GOOD.removesuffix("\n")) == {}
    assert checked(GOOD.replace("0.400000,-0.400000", " 1., -1e0")) == {}
    assert checked(GOOD.replace("0.400000,-0.400000", "+.5,1")) == {}


def test_one_row_is_not_constant_and_columns_without_a_number_are_not_either(tmp_path, sample_of):
    (tmp_path / "one.txt").write_text("\n".join(GOOD.splitlines()[:2]))
    assert check(tmp_path / "one.txt", sample_of(LISTED[0])) == ()
    (tmp_path / "none.txt").write_text("\n".join([HEADER, *(f"{row},," for row in LISTED)]))
    (problem,) = check(tmp_path / "none.txt", sample_of(*LISTED))
    assert (problem.rule, problem.n) == ("number", 8)


LINES = GOOD.splitlines()
FIRST, SECOND = LINES[1], LINES[2]
SAID = (
    (GOOD.encode() + b"\xe9\n", {"encoding"}, "line 6: byte 0xe9; .* UTF-8: save"),
    ("", {"empty"}, "0 bytes; .* must hold a header and rows: write"),
    ("\n \n", {"empty"}, "3 bytes"),
    ("\ufeff" + GOOD, {"byte order mark"}, r"line 1: U\+FEFF; .*: save it as UTF-8 without one"),
    (GOOD.replace("\n", "\r\n"), {"line ends"}, r"line 1 ends with \\r and 4 more; .*Unix line"),
    (GOOD.replace("\n", "\r"), {"line ends"}, r"line 1 ends with \\r and 4 more"),
    (GOOD.replace("jpg,0.5", "jpg\r,0.5"), {"line ends", "columns", "count", "unexpected"}, ""),
    (GOOD.replace(FIRST, f"{FIRST}\r"), {"line ends"}, r"line 2 ends with \\r; "),
    (GOOD.partition("\n")[2], {"header"}, f"line 1: '{FIRST}' is a row; line 1 must be '{HEADER}"),
    (GOOD.replace("image", "Image"), {"header"}, "line 1: 'Image_loca.*ousal'; .*put this line"),
    (
        GOOD.replace(SECOND, "b/00002.jpg,0.1"),
        {"columns"},
        "line 3: 2 columns in 'b/00002",
    ),
    (GOOD.replace(SECOND, f"{SECOND},0"), {"columns"}, "line 3: 4 columns in .*three columns, loc"),
    (GOOD.replace(SECOND, f"{SECOND}\n"), {"columns"}, "line 4: 1 columns in ''; .*no blank lines"),
    (f"{GOOD}\n", {"columns"}, "line 6: 1 columns in ''"),
    (GOOD.replace("0.5", "half"), {"number"}, "line 3: valence = 'half00000', line 3: arousal"),
    (GOOD.replace("0.500000,", ","), {"number"}, "line 3: valence = ''; .*every placeholder"),
    (GOOD.replace("0.500000,", "0_1,"), {"number"}, "line 3: valence = '0_1'"),
    (GOOD.replace("-0.500000", "-"), {"number"}, "line 3: arousal = '-'"),
    (GOOD.replace("-0.500000", "NaN"), {"finite"}, "line 3: arousal = 'NaN'; .*finite: find"),
    (GOOD.replace("0.500000,", "-inf,"), {"finite"}, "line 3: valence = '-inf'"),
    (GOOD.replace("0.500000,", "1e999,"), {"finite"}, "line 3: valence = '1e999'"),
    (
        GOOD.replace("-0.500000", "-5"),
        {"range"},
        r"line 3: arousal = '-5'; .* \[-1, 1\]: .*-5 ma",
    ),
    (GOOD.replace("0.500000,", "1.000001,"), {"range"}, "line 3: valence = '1.000001'"),
    (
        GOOD.replace(f"{SECOND}\n", ""),
        {"count", "missing"},
        r"count: 3 rows, where the sample has 4; .*: add .*\nmissing: 'b/00002.jpg', row 2 of the "
        r"sample \(b: 1\); .*: predict and add them",
    ),
    (
        f"{GOOD}a/00004.jpg,0,0\n",
        {"count", "unexpected"},
        "count: 5 rows, .*\nunexpected: line 6: 'a/00004.jpg'; .*: take them out",
    ),
    (
        f"{GOOD}{FIRST}\n",
        {"count", "duplicate"},
        "duplicate: line 6: 'b/00001.jpg', as in line 2; no row may come twice: keep one of each",
    ),
    (
        GOOD.replace(f"{FIRST}\n{SECOND}", f"{SECOND}\n{FIRST}"),
        {"order"},
        "line 2: 'b/00002.jpg', not 'b/00001.jpg', line 3: 'b/00001.jpg', not .*: sort them",
    ),
    (
        re.sub("-0.[0-9]+", "-0.5", GOOD),
        {"constant"},
        "lines 2 to 5: arousal = -0.5; a column must vary: its CCC is 0",
    ),
    (re.sub("jpg,0.[0-9]+", "jpg,0", GOOD), {"constant"}, "lines 2 to 5: valence = 0;"),
)


@pytest.mark.parametrize(("content", "rules", "says"), SAID, ids=range(len(SAID)))
def test_each_rule_names_line_value_and_what_to_do(content, rules, says, checked):
    found = checked(content)
    assert set(found) == rules
    assert re.search(says, "\n".join(map(str, found.values())))


def test_every_rule_is_in_the_table_and_says_what_to_do():
    assert set(SAYS) == set().union(*(rules for _, rules, _ in SAID))


def test_everything_is_found_at_once_some_examples_of_each_and_then_a_count(checked):
    found = checked("\n".join([FIRST, *[f"x/{k:05d}.jpg,-5,nan" for k in range(9)], *LINES[:3]]))
    assert list(found) == [
        *("header", "number", "finite", "range", "count"),
        *("missing", "unexpected", "duplicate"),
    ]
    assert found["range"].n == 9
    assert len(found["range"].examples) == EXAMPLES
    assert "line 4: valence = '-5' and 6 more; values must" in str(found["range"])
    assert found["missing"].n == 2
    assert "'a/00001.jpg', row 3 of the sample (a: 2) and 1 more; every" in str(found["missing"])


def test_rows_out_of_order_are_told_apart_from_rows_that_lack(checked):
    found = checked("\n".join([LINES[0], LINES[3], LINES[1], LINES[4]]))
    assert set(found) == {"count", "missing", "order"}
    assert found["order"].n == 2  # a/00001 and b/00001; a/00003 stands where it should


# Laws ---------------------------------------------------------------------------------------------


@st.composite
def cases(draw) -> tuple[list[tuple[str, int]], dict[str, int]]:
    """Clip and frame of each row of a sample, with gaps and in any order; frames per clip."""
    n_frames = draw(st.dictionaries(st.sampled_from("abcde"), st.integers(6, 8), min_size=1))
    rows = []
    for clip, n in n_frames.items():
        last = n + draw(st.integers(-3, 3))
        kept = draw(st.sets(st.integers(1, last))) | {1, 2, 3, last}  # enough to vary
        rows += [(clip, frame) for frame in sorted(kept)]
    return draw(st.permutations(rows)), n_frames


def made_of(case: tuple[list[tuple[str, int]], dict[str, int]]) -> tuple[Sample, dict[str, slice]]:
    """The sample, and where the prediction of each clip lies."""
    rows, n_frames = case
    clips = tuple(dict.fromkeys(clip for clip, _ in rows))
    sample = Sample(
        tuple(f"{clip}/{frame:05d}.jpg" for clip, frame in rows),
        clips,
        np.array([clips.index(clip) for clip, _ in rows]),
        np.array([frame for _, frame in rows]),
    )
    offsets = np.cumsum([0, *n_frames.values()]).tolist()
    return sample, {clip: slice(*offsets[k : k + 2]) for k, clip in enumerate(n_frames)}


def prediction_of(spans: dict[str, slice]) -> np.ndarray:
    """Values of which no two are equal, the ends of the range among them."""
    ramp = np.linspace(-1, 1, max(span.stop for span in spans.values()))
    return np.stack([ramp, -ramp], axis=1)


@given(cases())
def test_what_is_written_passes_and_has_the_value_of_each_frame(tmp_path_factory, drawn):
    sample, spans = made_of(drawn)
    va = prediction_of(spans)
    file = tmp_path_factory.getbasetemp() / "law.txt"
    file.write_text(rows_of_sample(sample, spans, va).text)
    assert check(file, sample) == ()
    header, *rows = file.read_text().splitlines()
    assert header == HEADER
    for row, location in zip(rows, sample.locations, strict=True):
        place, valence, arousal = row.split(",")
        assert place == location
        frame = min(int(location[2:7]), spans[location[0]].stop - spans[location[0]].start)
        expected = va[spans[location[0]].start + frame - 1]
        np.testing.assert_allclose([float(valence), float(arousal)], expected, atol=1e-6)


def with_cell(column: int, cell: str) -> Callable[[list[str], int, int], list[str]]:
    """Another content of one cell."""

    def corrupt(lines: list[str], at: int, _: int) -> list[str]:
        cells = lines[at].split(",")
        cells[column] = cell
        return [*lines[:at], ",".join(cells), *lines[at + 1 :]]

    return corrupt


def swapped(lines: list[str], at: int, other: int) -> list[str]:
    """Two rows in each other's place."""
    lines = [*lines]
    lines[at], lines[other] = lines[other], lines[at]
    return lines


CORRUPTIONS: dict[str, tuple[Callable[[list[str], int, int], list[str]], set[str]]] = {
    "no header": (lambda lines, at, other: lines[1:], {"header"}),
    "header twice": (
        lambda lines, at, other: [lines[0], *lines],
        {"number", "count", "unexpected"},
    ),
    "row lost": (
        lambda lines, at, other: lines[:at] + lines[at + 1 :],
        {"count", "missing"},
    ),
    "row twice": (
        lambda lines, at, other: [*lines, lines[at]],
        {"count", "duplicate"},
    ),
    "row over another": (
        lambda lines, at, other: [*lines[:at], lines[other], *lines[at + 1 :]],
        {"missing", "duplicate"},
    ),
    "blank line": (lambda lines, at, other: [*lines[:at], "", *lines[at:]], {"columns"}),
    "rows swapped": (swapped, {"order"}),
    "another clip": (with_cell(0, "z/00001.jpg"), {"missing", "unexpected"}),
    "column more": (with_cell(2, "0.1,0.2"), {"columns"}),
    "placeholder": (with_cell(1, ""), {"number"}),
    "word": (with_cell(2, "none"), {"number"}),
    "nan": (with_cell(1, "nan"), {"finite"}),
    "infinite": (with_cell(2, "Infinity"), {"finite"}),
    "mark": (with_cell(1, "-5"), {"range"}),
    "just too high": (with_cell(2, "1.000001"), {"range"}),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
@given(drawn=cases(), data=st.data())
@settings(max_examples=25)
def test_one_corruption_is_caught_by_the_rule_meant_for_it(name, tmp_path_factory, drawn, data):
    sample, spans = made_of(drawn)
    lines = rows_of_sample(sample, spans, prediction_of(spans)).text.splitlines()
    places = st.lists(st.integers(1, len(lines) - 1), min_size=2, max_size=2, unique=True)
    at, other = data.draw(places)
    corrupt, rules = CORRUPTIONS[name]
    file = tmp_path_factory.getbasetemp() / "spoiled.txt"
    file.write_text("\n".join(corrupt(lines, at, other)) + "\n")
    found = {problem.rule: problem for problem in check(file, sample)}
    if "duplicate" in found and "order" in found:  # the row over another stood before its own place
        assert name == "row over another"
        assert at < other
        del found["order"]
    assert set(found) == rules
    if rules <= {"columns", "number", "finite", "range"}:
        assert f"line {at + 1}:" in str(found[next(iter(rules))])
