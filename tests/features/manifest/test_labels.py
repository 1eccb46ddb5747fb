import numpy as np
import pytest

from features.errors import InputError
from features.manifest.labels import is_constant, labels_digest, read_labels


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
        ("", "first line must be 'valence,arousal', it is ''"),
        ("arousal,valence\n0,0\n", "first line must be"),
        ("valence,arousal\n", "no row"),
        ("valence,arousal\n0.1,0.2\n0.1,happy\n", "line 3: expected two numbers .* 'happy'|happy"),
        ("valence,arousal\n0.1,0.2,0.3\n", "line 2: expected two numbers"),
        ("valence,arousal\n0.1,0.2\n\n0.1,0.3\n", "line 3: expected two numbers"),
        ("valence,arousal\n-5,0.2\n", "line 2: .* marks one value as unannotated"),
        ("valence,arousal\n0.1,1.2\n", r"line 2: .* outside \[-1, 1\]"),
        ("valence,arousal\n0.1,nan\n", r"line 2: .* outside \[-1, 1\]"),
    ],
)
def test_what_is_no_annotation_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_labels(written(tmp_path, text))


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
