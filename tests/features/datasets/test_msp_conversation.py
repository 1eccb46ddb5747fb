"""MSP-Conversation, on a small sample in its layout."""

import json
from pathlib import Path

import numpy as np
import pytest

from features.datasets import dataset
from features.datasets.base import write_index
from features.datasets.msp_conversation import mean_trace
from features.errors import InputError
from features.manifest.labels import read_labels
from features.manifest.manifest import read_manifest
from tests.helpers.dataset_samples import write_msp_conversation

KIND = "msp-conversation"
ONE, TWO = "MSP-Conversation_0001_1", "MSP-Conversation_0047"


@pytest.fixture
def root(tmp_path) -> Path:
    return write_msp_conversation(tmp_path / "msp", lambda path: path.write_bytes(b"sound"))


def trace(root: Path, name: str, dimension: str = "Valence") -> Path:
    return root / "Annotations" / dimension / f"{name}.csv"


def test_a_clip_is_a_part_or_a_conversation_as_its_sound_is(root, tmp_path):
    config = dataset(KIND, root, step_s=0.05, label_lag_s=2.8)
    indexed = config.index(tmp_path)
    assert indexed.left_out == {}
    write_index(tmp_path / "m.jsonl", indexed, config)
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert [clip.id for clip in manifest.clips] == [ONE, TWO]
    first, second = manifest.clips
    assert (first.video, first.audio) == (None, f"msp/Audio/{ONE}.wav")
    assert first.subject == "MSP-Conversation_0001"
    assert second.label_lag_s == 2.8
    labels = read_labels(manifest.path(second.labels or ""))
    # part 1 lasts from 0 to .4 s, part 2 from .5 to .9 s
    np.testing.assert_allclose(labels.time_s, 0.05 * np.array([*range(9), *range(10, 19)]))
    assert indexed.reports[1].labels_are == "ratings"
    # raters are at 5, 10 and 60 times the cosine; a mean of 25, of 100; arousal is its negative
    np.testing.assert_allclose(labels.va[:9, 0], 0.25 * np.cos(labels.time_s[:9] * 9), atol=2e-3)
    np.testing.assert_allclose(labels.va[:, 1], -labels.va[:, 0], atol=1e-9)


def test_the_mean_is_over_raters_that_are_rating_and_needs_more_than_half():
    nan = np.nan
    long = np.array([0.0, 4.0]), np.array([0.0, 4.0])  # 0, 1, 2, 3, 4
    short = np.array([0.0, 2.0]), np.array([3.0, 3.0])
    late = np.array([1.0, 3.0]), np.array([6.0, 6.0])
    times = np.arange(5.0)
    np.testing.assert_allclose(
        # 0: long, short; 1 and 2: all three; 3: long, late; 4: long alone, a third of the raters
        mean_trace([long, short, late], times),
        [1.5, (1 + 3 + 6) / 3, (2 + 3 + 6) / 3, 4.5, nan],
    )
    np.testing.assert_allclose(mean_trace([long, short], times), [1.5, 2, 2.5, nan, nan])
    np.testing.assert_allclose(mean_trace([long], times), times)


def test_conversations_are_drawn(root, tmp_path):
    (note, *_) = dataset(KIND, root).index(tmp_path).notes
    assert note.startswith("there is no partitions.txt")
    assert note.endswith("give val_share=0.2")
    drawn = dataset(KIND, root, val_share=0.5).index(tmp_path)
    assert sorted(str(clip.split) for clip in drawn.clips) == ["train", "val"]


def test_recordings_elsewhere_and_columns_too_many(root, tmp_path):
    (root / "Audio").rename(tmp_path / "sound")
    (tmp_path / "sound" / "other.wav").write_bytes(b"sound")
    path = trace(root, f"{ONE}_001")
    before = dataset(KIND, root, media=tmp_path / "sound").index(tmp_path)
    assert "recording without ratings: other" in before.notes
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:9] + [f"{row},99" for row in rows[9:]]))
    after = dataset(KIND, root, media=tmp_path / "sound").index(tmp_path)
    np.testing.assert_array_equal(after.labels[ONE].va, before.labels[ONE].va)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Time,Value\n0,1\n0.1,x\n", "001.csv, line 3: '0.1,x' does not begin with a time and a"),
        ("Time,Value\n0,1\n0.1,nan\n", "001.csv, line 3: '0.1,nan' is not finite"),
        ("Time,Value\n-0.2,1\n0.1,1\n", "line 2: the time -0.2 s is negative; times count from"),
        ("Time,Value\n0.2,1\n0.1,1\n", "line 3: 0.1 s follows 0.2 s, but times must increase"),
        ("Time,Value\n0,1\n1,101\n", "line 3: the value = 101 is outside its scale from -100"),
        ("Time,Value\n", "001.csv has no line with a time and a value"),
    ],
)
def test_a_recording_with_a_wrong_trace_is_left_out(root, tmp_path, text, message):
    trace(root, f"{ONE}_001").write_text(text)
    left_out = dataset(KIND, root).index(tmp_path).left_out
    assert left_out.keys() == {ONE}
    assert message in left_out[ONE]


def test_what_cannot_be_brought_to_one_clock_is_left_out(root, tmp_path):
    for path in (root / "Annotations").rglob(f"{TWO}_2_*.csv"):
        path.write_text(trace(root, f"{TWO}_1_001").read_text())
    (root / "Audio" / f"{ONE}.wav").unlink()
    left_out = dataset(KIND, root).index(tmp_path).left_out
    assert "part 2 is rated from 0 s on, before the end of the part 1 at 0.4 s" in left_out[TWO]
    assert "name the sound of each part MSP-Conversation_0047_1.wav" in left_out[TWO]
    # the sound of a conversation is sought if there is none of a part
    assert "MSP-Conversation_0001.wav does not exist" in left_out["MSP-Conversation_0001"]
    for path in (root / "Annotations" / "Arousal").glob(f"{TWO}_1_*"):
        path.unlink()
    left_out = dataset(KIND, root).index(tmp_path).left_out
    assert f"{TWO}_1 has no file of arousal in" in left_out[TWO]


def write_times(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / "Time Labels" / f"{name}.txt").write_text(text)


def test_the_split_is_that_of_the_partition_unless_one_is_drawn(root, tmp_path):
    (root / "partitions.txt").write_text("MSP-Conversation_0001;Train\n\nother;Test\n")
    indexed = dataset(KIND, root).index(tmp_path)
    assert [clip.split for clip in indexed.clips] == ["train", None]
    assert f"{TWO} is not in partitions.txt" in indexed.notes
    (root / "partitions.txt").write_text(f"MSP-Conversation_0001;Train\n{TWO};Validation\n")
    indexed = dataset(KIND, root).index(tmp_path)
    assert [clip.split for clip in indexed.clips] == ["train", "val"]
    drawn = dataset(KIND, root, test_share=0.5).index(tmp_path)
    assert "test" in [clip.split for clip in drawn.clips]
    (root / "partitions.txt").write_text("MSP-Conversation_0001;Maybe\n")
    with pytest.raises(InputError, match="partitions.txt, line 1: 'Maybe' is no split; expected T"):
        dataset(KIND, root).index(tmp_path)


def test_ratings_of_parts_are_moved_to_where_the_part_begins(root, tmp_path):
    for path in (root / "Annotations").rglob(f"{TWO}_2_*.csv"):  # from 0, as part 1
        path.write_text((path.parent / path.name.replace("_2_", "_1_")).read_text())
    parts = f"{TWO}_1;100.5;101\n{TWO}_2;101.5;102\n{ONE};7;7.5\n"
    write_times(root, conversation_parts=parts, conversations=f"{TWO};100;103\n")
    indexed = dataset(KIND, root, step_s=0.05).index(tmp_path)
    assert indexed.left_out == {}
    found = indexed.labels[TWO]
    assert found.time_s is not None
    expected = 0.05 * np.array([*range(10, 19), *range(30, 39)])
    np.testing.assert_allclose(found.time_s, expected, atol=1e-9)
    np.testing.assert_allclose(found.va[9:], found.va[:9], atol=1e-9)
    assert indexed.labels[ONE].time_s[0] == 0  # its sound is that of the part
    (root / "Time Labels" / "conversations.txt").unlink()  # it begins with its first part
    moved = dataset(KIND, root, step_s=0.05).index(tmp_path).labels[TWO]
    np.testing.assert_allclose(moved.time_s, expected - 0.5, atol=1e-9)


def test_ratings_that_count_from_the_conversation_are_moved_for_the_sound_of_a_part(root, tmp_path):
    write_times(root, conversation_parts=f"{ONE};0;0.4\n{TWO}_1;0;0.4\n{TWO}_2;0.5;0.9\n")
    keys = {"step_s": 0.05, "times": "conversation"}
    both = dataset(KIND, root, **keys).index(tmp_path).labels[TWO]
    for part in (1, 2):
        (root / "Audio" / f"{TWO}_{part}.wav").write_bytes(b"sound")
    second = dataset(KIND, root, **keys).index(tmp_path).labels[f"{TWO}_2"]
    np.testing.assert_allclose(second.time_s, 0.05 * np.arange(9), atol=1e-9)
    np.testing.assert_allclose(second.va, both.va[9:], atol=1e-9)
    write_times(root, conversation_parts=f"{ONE};0;0.4\n{TWO}_1;0;0.4\n")
    left_out = dataset(KIND, root, **keys).index(tmp_path).left_out
    assert "_2 is not in conversation_parts.txt, which says when it beg" in left_out[f"{TWO}_2"]


def test_each_dimension_has_its_lag(root, tmp_path):
    plain = dataset(KIND, root, step_s=0.05).index(tmp_path).labels[ONE]
    keys = {"label_lag_s": 0.1, "valence_lag_s": 0.1, "arousal_lag_s": 0.2}
    lagged = dataset(KIND, root, step_s=0.05, **keys).index(tmp_path).labels[ONE]
    assert np.flatnonzero(lagged.valid).tolist() == [*range(7)]  # the last .1 s has no arousal
    np.testing.assert_allclose(lagged.va[:7, 0], plain.va[:7, 0], atol=1e-9)
    np.testing.assert_allclose(lagged.va[:7, 1], plain.va[2:, 1], atol=1e-3)


def test_times_between_the_turns_of_the_speakers_may_be_left_out(root, tmp_path):
    turns = {
        "1": {"Conversation_Part": ONE, "Start_Time": 0.04, "End_Time": 0.16},
        "2": {"Conversation_Part": ONE, "Start_Time": 0.12, "End_Time": 0.22},
    }
    path = root / "Time Labels" / "segments.json"
    path.write_text(json.dumps(turns))
    keys = {"step_s": 0.05, "turns_only": True}
    labels = dataset(KIND, root, **keys).index(tmp_path).labels
    assert np.flatnonzero(labels[ONE].valid).tolist() == [1, 2, 3, 4]
    assert not labels[TWO].valid.any()
    late = dataset(KIND, root, label_lag_s=0.1, **keys).index(tmp_path).labels
    assert np.flatnonzero(late[ONE].valid).tolist() == [3, 4, 5, 6]  # what was rated is in a turn
    path.write_text(json.dumps({"1": {"Conversation_Part": ONE}}))
    with pytest.raises(InputError, match="segments.json: the segment '1' has no Conversation_Part"):
        dataset(KIND, root).index(tmp_path)
    path.write_text("[]")
    with pytest.raises(InputError, match="segments.json cannot be read"):
        dataset(KIND, root).index(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="turns_only: .* has no segments.json; leave turns_only"):
        dataset(KIND, root, turns_only=True).index(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a;0", "conversation_parts.txt, line 1: 'a;0' is not NAME;START;END; correct it"),
        ("a;0;x", "line 1: from '0' to 'x' is no span of seconds"),
        ("a;3;2", "line 1: from '3' to '2' is no span of seconds"),
    ],
)
def test_wrong_times_of_parts_are_named(root, tmp_path, line, message):
    write_times(root, conversation_parts=line)
    with pytest.raises(InputError, match=message):
        dataset(KIND, root).index(tmp_path)


def test_ratings_longer_than_their_part_are_of_another_clock(root, tmp_path):
    write_times(root, conversation_parts=f"{ONE};0;0.4\n{TWO}_1;0;0.4\n{TWO}_2;0.5;0.9\n")
    for path in (root / "Annotations").rglob(f"{ONE}_*.csv"):
        path.write_text("0.1,1\n5,1\n")
    left_out = dataset(KIND, root).index(tmp_path).left_out
    assert "_1 lasts 0.4 s by conversation_parts.txt and is rated until 5 s" in left_out[ONE]
    assert left_out[ONE].endswith("then give times=conversation")


def test_a_part_shorter_than_a_step_is_left_out(root, tmp_path):
    for path in (root / "Annotations").rglob(f"{ONE}_*.csv"):
        path.write_text("0.21,1\n0.24,1\n")
    assert (
        "is rated for less than step_s = 0.1" in dataset(KIND, root).index(tmp_path).left_out[ONE]
    )


def test_another_edition_is_refused(root, tmp_path):
    path = trace(root, f"{ONE}_001")
    path.rename(path.with_name("0001.csv"))
    with pytest.raises(InputError, match="0001.csv has no name such as MSP-Conversation_0047_2_"):
        dataset(KIND, root).index(tmp_path)
    for each in (root / "Annotations").rglob("*.csv"):
        each.unlink()
    with pytest.raises(InputError, match="Annotations holds no file of ratings"):
        dataset(KIND, root).index(tmp_path)
    (root / "Annotations" / "Arousal").rename(root / "Arousal")
    with pytest.raises(InputError, match="has no folder Annotations/Arousal"):
        dataset(KIND, root).index(tmp_path)
