"""VEATIC, on a small sample in its layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from features.datasets import dataset
from features.datasets.base import render_index, write_index
from features.errors import InputError
from features.manifest.labels import read_labels
from features.manifest.manifest import read_manifest
from tests.helpers.dataset_samples import N_FRAMES, write_veatic
from tests.helpers.small_media import write_video


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("veatic")
    video = write_video(folder / "v.mp4", time_s=np.arange(N_FRAMES) / 25).read_bytes()
    return write_veatic(folder / "set", video)


@pytest.fixture(autouse=True)
def one_decoder(monkeypatch, kept_decoder) -> None:
    monkeypatch.setattr("features.datasets.entries.Decoder", kept_decoder)


@pytest.fixture
def root(sample, tmp_path) -> Path:
    return shutil.copytree(sample, tmp_path / "set")


def ratings(root: Path, number: int, dimension: str) -> np.ndarray:
    path = root / "rating_averaged" / f"{number}_{dimension}.csv"
    return np.loadtxt(path, delimiter=",")[:, -1]


def test_the_official_split_trains_on_the_first_seven_tenths_of_each_video(root, tmp_path):
    config = dataset("veatic", root, label_lag_s=1.5)
    indexed = config.index(tmp_path)
    write_index(tmp_path / "m.jsonl", indexed, config)
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert [(clip.id, clip.split) for clip in manifest.clips[:4]] == [
        ("0-train", "train"),
        ("0-val", "val"),
        ("1-train", "train"),
        ("1-val", "val"),
    ]
    assert {clip.video for clip in manifest.clips[:2]} == {"set/videos/0.mp4"}
    assert {clip.label_lag_s for clip in manifest.clips} == {1.5}
    train, val = (read_labels(manifest.path(clip.labels or "")) for clip in manifest.clips[:2])
    np.testing.assert_array_equal(train.valid, np.arange(N_FRAMES) < 21)  # 0.7 of 30
    np.testing.assert_array_equal(val.valid, ~train.valid)
    np.testing.assert_array_equal(train.va[:21, 0], ratings(root, 0, "valence")[:21])
    np.testing.assert_array_equal(val.va[21:, 1], ratings(root, 0, "arousal")[21:])
    lines = "\n".join(render_index(indexed))
    assert "note: 4 of the 124 videos of the whole data set have ratings" in lines
    assert "note: the official split has every video in both splits" in lines


@pytest.mark.parametrize("seed", range(6))
def test_a_split_by_video_keeps_pairs_together(root, tmp_path, seed):
    config = dataset("veatic", root, split="video", held_out="test", seed=seed)
    indexed = config.index(tmp_path)
    splits = {clip.id: clip.split for clip in indexed.clips}
    assert splits.keys() == {"0", "1", "98", "99"}
    assert splits["98"] == splits["99"]
    assert sorted(splits[name] for name in ("0", "1", "98")) == ["test", "train", "train"]
    assert {clip.subject for clip in indexed.clips} == {"video-0", "video-1", "videos-98-99"}
    assert "2 clips from 98 on are pairs of the same frames" in "\n".join(indexed.notes)
    assert "official" not in "\n".join(indexed.notes)


def test_a_pair_of_unequal_length_has_a_note(root, tmp_path):
    path = write_video(root / "videos" / "99.mp4", time_s=np.arange(20) / 25)
    assert path.is_file()
    for dimension in ("valence", "arousal"):
        rating = root / "rating_averaged" / f"99_{dimension}.csv"
        rating.write_text("\n".join(rating.read_text().splitlines()[:20]))
    notes = dataset("veatic", root, split="video").index(tmp_path).notes
    assert "videos-98-99 are taken for a pair, but have 30 and 20 frames: check" in notes[-1]


def test_files_of_one_column_and_the_folder_of_the_code_are_read(root, tmp_path):
    (root / "videos").rename(root / "video")
    values = np.loadtxt(root / "rating_averaged" / "0_valence.csv", delimiter=",")[:, 1]
    (root / "rating_averaged" / "0_valence.csv").write_text("\n".join(map(str, values)))
    indexed = dataset("veatic", root, split="video").index(tmp_path)
    assert indexed.left_out == {}
    np.testing.assert_array_equal(indexed.labels["0"].va[:, 0], values)


def test_a_clip_that_cannot_be_used_is_left_out_with_its_reason(root, tmp_path):
    folder = root / "rating_averaged"
    (folder / "0_arousal.csv").unlink()
    (folder / "1_valence.csv").write_text("0,0.5\n1,happy\n")
    (root / "videos" / "98.mp4").unlink()
    (folder / "99_valence.csv").write_text("0.5\n" * 29)
    shutil.copyfile(root / "videos" / "0.mp4", root / "videos" / "7.mp4")
    indexed = dataset("veatic", root, split="video").index(tmp_path)
    assert "0_arousal.csv cannot be read" in indexed.left_out["0"]
    assert "1_valence.csv, line 2: '1,happy' does not end with a number" in indexed.left_out["1"]
    assert "98.mp4 does not exist" in indexed.left_out["98"]
    assert "99_valence.csv has 29 rows and 99_arousal.csv 30" in indexed.left_out["99"]
    assert "video without ratings: 7" in indexed.notes
    (folder / "1_valence.csv").write_text("5\n")
    (folder / "99_valence.csv").write_text("\n")
    left_out = dataset("veatic", root, split="video").index(tmp_path).left_out
    assert "line 1: 5 is outside [-1, 1], the range of VEATIC" in left_out["1"]
    assert "99_valence.csv has no row" in left_out["99"]


def test_a_folder_of_another_edition_is_an_input_error(root, tmp_path):
    def message(**keys) -> str:
        with pytest.raises(InputError) as raised:
            dataset("veatic", root, **keys).index(tmp_path)
        return str(raised.value)

    assert "cannot be drawn" in message(split="video", held_out_share=0.9)
    (root / "videos").rename(root / "frames")
    assert "has no folder videos or video beside rating_averaged" in message()
    for path in (root / "rating_averaged").iterdir():
        path.rename(path.with_name(path.name.replace("_", "-")))
    assert "holds no file such as 0_valence.csv and 0_arousal.csv: is it another" in message()
    shutil.rmtree(root / "rating_averaged")
    assert "has no folder rating_averaged; give the one that holds it" in message()
