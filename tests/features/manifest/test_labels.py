from dataclasses import replace

import numpy as np
import pytest

from features.errors import InputError
from features.manifest.label_clock import labels_at_rows
from features.manifest.labels import (
    Labels,
    is_constant,
    labels_digest,
    read_labels,
    write_labels,
)


def written(tmp_path, text: str):
    path = tmp_path / "a.txt"
    path.write_text(text)
    return path


def test_rows_are_read_in_order_and_marks_are_not_valid(tmp_path):
    labels = read_labels(written(tmp_path, "valence,arousal\n0.25,-0.5\n-5,-5\n-5.0,-5.0\n1,-1\n"))
    np.testing.assert_array_equal(labels.va, [[0.25, -0.5], [0, 0], [0, 0], [1, -1]])
    np.testing.assert_array_equal(labels.valid, [True, False, False, True])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line must be 'valence,arousal' or 'time_s,valence,arousal' or .*, it is ''"),
        ("arousal,valence\n0,0\n", "first line must be"),
        ("valence,arousal\n", "no row"),
        ("valence,arousal\n0.1,0.2\n0.1,happy\n", "line 3: expected two numbers .* 'happy'|happy"),
        ("valence,arousal\n0.1,0.2,0.3\n", "line 2: expected two numbers"),
        ("valence,arousal\n0.1,0.2\n\n0.1,0.3\n", "line 3: expected two numbers"),
        ("valence,arousal\n-5,0.2\n", "line 2: .* marks one value as unannotated"),
        ("valence,arousal\n0.1,1.2\n", r"line 2: .* outside \[-1, 1\]"),
        ("valence,arousal\n0.1,nan\n", r"line 2: .* outside \[-1, 1\]"),
        ("valence,arousal,valid\n0,0,1\n", "first line must be"),  # -5,-5 says it
        ("time_s,arousal,valence\n0,0,0\n", "first line must be"),
        ("time_s,valence,arousal\n0.1,0.2\n", "line 2: expected three numbers `time_s,valence"),
        ("start_s,end_s,valence,arousal\n0,1,0.1\n", "line 2: expected four numbers `start_s,end"),
        ("time_s,valence,arousal,valid\n0,0,0\n", "line 2: expected four numbers"),
        ("time_s,valence,arousal,valid\n0,0,0,2\n", "line 2: valid must be 1 or 0, it is 2"),
        ("time_s,valence,arousal\ninf,0,0\n", "line 2: the time inf is no finite number"),
        ("time_s,valence,arousal\n1,0,0\n0.5,0,0\n", "line 3: 0.5 s follows 1 s, .*sort the rows"),
        ("time_s,valence,arousal\n1,0,0\n1,0,0\n", "line 3: 1 s follows 1 s, .*without doubles"),
        (
            "time_s,valence,arousal\n-1.5,0,0\n0,0,0\n",
            "line 2: the time -1.5 s is negative; times count from .* remove the rows",
        ),
        ("start_s,end_s,valence,arousal\n-1,2,0,0\n", "line 2: the time -1 s is negative; .*add"),
        ("time_s,valence,arousal\n1,-5,0\n", "line 2: .* marks one value as unannotated"),
        ("start_s,end_s,valence,arousal\n2,2,0,0\n", "line 2: the span ends at 2 s, not after"),
        (
            "start_s,end_s,valence,arousal\n0,2,0,0\n1.5,3,0,0\n",
            "line 3: the span from 1.5 s overlaps the one before it, which ends at 2 s; .* cut or",
        ),
    ],
)
def test_what_is_no_annotation_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_labels(written(tmp_path, text))


def test_times_that_rounding_or_a_lag_makes_negative_are_accepted(tmp_path):
    path = written(tmp_path, "time_s,valence,arousal\n-5e-7,0.5,0\n1,0.5,0\n")
    labels = read_labels(path, lag_s=3.0)
    assert labels.time_s is not None
    assert labels.time_s.tolist() == [-5e-7, 1]
    assert labels_at_rows(labels, np.arange(2) - 3.0, 0.0).valid.all()  # 3 s earlier


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt cannot be read"):
        read_labels(tmp_path / "none.txt")


def test_a_placeholder_is_constant_and_a_real_one_is_not(tmp_path):
    assert is_constant(read_labels(written(tmp_path, "valence,arousal\n.5,-.5\n-5,-5\n.5,-.5\n")))
    assert not is_constant(read_labels(written(tmp_path, "valence,arousal\n.5,-.5\n.5,-.4\n")))


def test_the_digest_sees_numbers_and_marks_but_not_spelling(tmp_path):
    def digest(text: str) -> str:
        return labels_digest(read_labels(written(tmp_path, text)))

    plain = digest("valence,arousal\n0.5,0\n0,0\n")
    assert plain == digest("valence,arousal\r\n.50,0.0\r\n0,0\r\n\r\n")
    assert plain != digest("valence,arousal\n0.5,0\n-5,-5\n")
    assert plain != digest("valence,arousal\n0.5,0.001\n0,0\n")


def test_blank_lines_at_the_end_are_no_rows(tmp_path):
    assert len(read_labels(written(tmp_path, "valence,arousal\n0.1,0.2\n\n  \n")).va) == 1


def test_the_columns_say_whether_labels_have_times(tmp_path):
    text = "time_s, valence, arousal, valid\n0.5,0.1,0.2,1\n1.5,0.3,0.4,0\n2.5,-5,-5,1\n"
    ratings = read_labels(written(tmp_path, text), lag_s=2.0)
    np.testing.assert_array_equal(ratings.va, [[0.1, 0.2], [0, 0], [0, 0]])
    np.testing.assert_array_equal(ratings.valid, [True, False, False])
    np.testing.assert_array_equal(ratings.time_s, [0.5, 1.5, 2.5])
    assert ratings.end_s is None
    assert ratings.lag_s == 2.0
    assert not ratings.is_per_frame
    spans = read_labels(written(tmp_path, "start_s,end_s,valence,arousal\n0,1,0,0\n1,3,1,-1\n"))
    np.testing.assert_array_equal(spans.time_s, [0, 1])
    np.testing.assert_array_equal(spans.end_s, [1, 3])
    frames = read_labels(written(tmp_path, "valence,arousal\n0,0\n"))
    assert frames.is_per_frame
    assert not replace(frames, lag_s=1.0).is_per_frame


@pytest.mark.parametrize("clock", [(), ("time_s",), ("time_s", "end_s")])
def test_what_is_written_is_read_to_the_last_digit(tmp_path, clock):
    time_s = np.cumsum([0.1, 1 / 3, 40_000.7])
    columns = {"time_s": time_s, "end_s": time_s + 0.1}
    labels = Labels(
        np.array([[1 / 3, -1 / 7], [0, 0], [1, -1]]),
        np.array([True, False, True]),
        **{name: columns[name] for name in clock},
    )
    write_labels(tmp_path / "a.csv", labels, decimals=None)
    assert labels_digest(read_labels(tmp_path / "a.csv")) == labels_digest(labels)
    write_labels(tmp_path / "a.csv", labels)
    assert "0.333,-0.143" in (tmp_path / "a.csv").read_text()


def test_labels_whose_columns_do_not_match_are_refused():
    va, valid = np.zeros((2, 2)), np.ones(2, bool)
    with pytest.raises(ValueError, match="row 1: 0 s follows 0 s"):
        Labels(va, valid, np.zeros(2))
    with pytest.raises(ValueError, match="an end but no start"):
        Labels(va, valid, end_s=np.ones(2))


def test_the_digest_of_labels_per_frame_stays_and_sees_times_ends_and_lag():
    va, valid = np.array([[0.5, 0.0], [0.0, 0.0]]), np.array([True, False])
    plain = Labels(va, valid)
    # computed by version 0.2 before labels had times: the keys of older runs hold it
    assert (
        labels_digest(plain) == "27a7984cbeadc281b5cf7fdb3ac4522db68f88a746ae868b56f997e7db5c0946"
    )
    time_s = np.array([0.0, 1.0])
    others = [
        replace(plain, time_s=time_s),
        replace(plain, time_s=time_s, end_s=time_s + 1),
        replace(plain, time_s=time_s, end_s=time_s + 0.5),
        replace(plain, time_s=time_s * 2),
        replace(plain, time_s=time_s, lag_s=1.0),
        replace(plain, lag_s=1.0),
    ]
    assert len({labels_digest(each) for each in [plain, *others]}) == 7


def test_spans_may_touch_although_sums_of_times_are_rounded(tmp_path):
    end = 0.1 + 0.2  # 0.30000000000000004
    read_labels(written(tmp_path, f"start_s,end_s,valence,arousal\n0,{end!r},0,0\n0.3,1,0,0\n"))
