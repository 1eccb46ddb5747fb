"""MuSe, SEWA and RECOLA, on small samples in their layouts."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from features.datasets import dataset
from features.datasets.base import render_index, write_index
from features.errors import InputError
from features.manifest.labels import read_labels
from features.manifest.manifest import read_manifest
from tests.helpers.dataset_samples import N_FRAMES, write_muse, write_recola, write_sewa
from tests.helpers.small_media import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("series") / "v.mp4"
    return write_video(path, time_s=np.arange(N_FRAMES) / 25).read_bytes()


@pytest.fixture(autouse=True)
def one_decoder(monkeypatch, kept_decoder) -> None:
    monkeypatch.setattr("features.datasets.entries.Decoder", kept_decoder)


@pytest.fixture
def muse(tmp_path, video) -> Path:
    return write_muse(tmp_path / "muse", video)


def test_muse_has_folders_of_dimensions_times_in_ms_and_a_partition(muse, tmp_path):
    config = dataset("series", muse)
    indexed = config.index(tmp_path)
    write_index(tmp_path / "m.jsonl", indexed, config)
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert [(clip.id, clip.split) for clip in manifest.clips] == [
        ("1", "train"),
        ("10", "test"),
        ("2", "val"),
    ]
    one, ten, two = manifest.clips
    assert one.video == "muse/video/1.mp4"
    assert ten.labels is None  # hidden
    labels = read_labels(manifest.path(two.labels or ""))
    np.testing.assert_array_equal(labels.time_s, [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(labels.va[:, 0], [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(labels.va[:, 1], [-0.2, -0.4, -0.6, -0.8])
    assert indexed.reports[0].labels_are == "ratings"
    assert "splits are those of partition.csv" in indexed.notes
    lines = "\n".join(render_index(indexed))
    assert "clips by labels: ratings: 2, none: 1" in lines
    assert "rows minus frames" not in lines


def test_sewa_has_arousal_before_valence_and_splits_in_its_names(tmp_path, video):
    indexed = dataset("series", write_sewa(tmp_path / "sewa", video)).index(tmp_path)
    assert {clip.id: clip.split for clip in indexed.clips} == {
        "Devel_DE_02": "val",
        "Train_DE_01": "train",
    }
    labels = indexed.labels["Train_DE_01"]
    np.testing.assert_allclose(labels.time_s, np.arange(10) / 10)
    np.testing.assert_allclose(labels.va[:, 0], -np.arange(10) / 20)
    np.testing.assert_allclose(labels.va[:, 1], np.arange(10) / 10)


def test_recola_has_a_column_per_rater_and_no_split(tmp_path, video):
    root = write_recola(tmp_path / "recola", video)
    indexed = dataset("series", root).index(tmp_path)
    labels = indexed.labels["P16"]
    np.testing.assert_allclose(labels.time_s, np.arange(30) * 0.04)
    np.testing.assert_allclose(labels.va, np.tile([-0.3, 0.3], (30, 1)))  # (.1 + .2 + .6) / 3
    assert {clip.split for clip in indexed.clips} == {None}
    assert "the data set has no split" in indexed.notes[0]
    drawn = dataset("series", root, val_share=0.3).index(tmp_path)
    assert sorted(str(clip.split) for clip in drawn.clips) == ["train", "train", "val"]


def test_media_elsewhere_other_units_and_scales(muse, tmp_path):
    (muse / "video").rename(tmp_path / "clips")
    for path in muse.rglob("label_segments/*/*.csv"):
        text = path.read_text().replace("750,", "0.75,").replace("250,", "0.25,")
        path.write_text(text.replace("1000,", "1,"))
    config = dataset("series", muse, media=tmp_path / "clips", scale=[-2, 2])
    labels = config.index(tmp_path).labels["1"]
    np.testing.assert_array_equal(labels.time_s, [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(labels.va[:, 0], np.arange(4) * 0.05)
    in_ms = dataset("series", muse, media=tmp_path / "clips", time_unit="ms").index(tmp_path)
    np.testing.assert_allclose(in_ms.labels["1"].time_s, [0, 0.00025, 0.00075, 0.001])


@pytest.mark.parametrize(
    ("dimension", "text", "message"),
    [
        ("arousal", "timestamp,value,segment_id\n0,0,1\n", "have 4 and 1 rows, or rows of other"),
        ("arousal", "timestamp,value,segment_id\n", "arousal/1.csv has no row below its header"),
        ("valence", "timestamp,value\n0,0\n0,1\n", "line 3: 0 follows 0, but times must increase"),
        (
            "valence",
            "timestamp,value,segment_id\n0,0,1\n500,0,1\n250,0,2\n",
            "line 4: 250 follows 500, but the segment 2 overlaps the segment 1; a moment has one",
        ),
        ("valence", "timestamp,value\n0,x\n", "line 2: value = 'x' is no number"),
        ("valence", "timestamp,value\nx,0\n", "line 2: timestamp = 'x' is no number"),
        (
            "valence",
            "timestamp,value\n-250,0\n0,0\n250,0\n",
            "valence/1.csv, line 2: the time -250 ms is negative; times count from the",
        ),
        ("valence", "value\n0\n", "has the columns value: expected timestamp or time, and values"),
        (
            "valence",
            "timestamp,value\n0,0\n250,0\n750,40\n1000,0\n",
            "line 4: valence = 40 is outside its scale from -1 to 1; .*give scale=.*two scales",
        ),
    ],
)
def test_a_recording_with_a_wrong_file_is_left_out(muse, tmp_path, dimension, text, message):
    (muse / "label_segments" / dimension / "1.csv").write_text(text)
    indexed = dataset("series", muse).index(tmp_path)
    assert indexed.left_out.keys() == {"1"}
    with pytest.raises(InputError, match=message):
        raise InputError(indexed.left_out["1"])


def test_what_a_data_set_lacks_or_has_twice_is_named(muse, tmp_path):
    def index(**keys):
        return dataset("series", muse, **keys).index(tmp_path)

    (muse / "video" / "2.mp4").rename(muse / "video" / "3.mp4")
    indexed = index()
    assert f"{muse}/2 does not exist" in indexed.left_out["2"]
    assert "recording without ratings: 3" in indexed.notes
    with pytest.raises(InputError, match="has a split, in .*partition.csv, and shares are given"):
        index(val_share=0.2)
    partition = muse / "metadata" / "partition.csv"
    partition.write_text("id,partition\n1,train\n2,fold4\n")
    with pytest.raises(InputError, match="line 3: partition = 'fold4' is no split"):
        index()
    partition.write_text("id,partition\n1,train\n2,devel\n")
    assert "10 is not in partition.csv" in index().notes
    shutil.copytree(muse / "label_segments", muse / "label_raw")
    with pytest.raises(InputError, match="valence both hold ratings of|arousal both hold ratings"):
        index()
    shutil.rmtree(muse / "label_raw")
    shutil.rmtree(muse / "label_segments" / "valence")
    with pytest.raises(InputError, match="has a folder arousal but none of valence"):
        index()
    shutil.rmtree(muse / "label_segments")
    with pytest.raises(InputError, match="holds no series of ratings: .*use the data set `table`"):
        index()
    shutil.rmtree(muse)
    with pytest.raises(InputError, match="there is no folder"):
        index()
