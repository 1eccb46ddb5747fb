import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from features.clip import Clip
from features.datasets.controls import (
    derangement,
    paint_faces,
    permute_audio,
    permute_labels,
)
from features.errors import InputError
from features.manifest.labels import Labels, read_labels, write_labels
from features.manifest.manifest import read_manifest, write_manifest
from tests.helpers.small_media import draw_frames

pytestmark = pytest.mark.slow

ROWS = {"a": 40, "b": 50, "c": 60, "v": 30, "w": 45}
SPLITS = {"a": "train", "b": "train", "c": "train", "v": "val", "w": "val"}


@pytest.fixture
def manifest(tmp_path, make_crops):
    """Five clips, each with its own constant valence; a and b are two people in one video."""
    clips = []
    for k, (name, n_rows) in enumerate(ROWS.items()):
        valid = np.arange(n_rows) % 10 != 3
        va = np.stack([np.full(n_rows, k / 10), np.linspace(-1, 1, n_rows)], axis=1)
        write_labels(tmp_path / f"{name}.txt", Labels(va, valid))
        make_crops([1, 2, 4], f"crops-{name}", seed=k, side_px=112)
        clips.append(
            Clip(
                id=name,
                video=f"{'ab' if name in 'ab' else name}.mp4",
                frames=f"crops-{name}",
                labels=f"{name}.txt",
                split=SPLITS[name],
            )
        )
    clips.append(Clip(id="t", video="t.mp4", frames="crops-a", split="test"))
    clips.append(Clip(id="u", video="u.mp4", frames="crops-a", split="test"))
    write_manifest(tmp_path / "manifest.jsonl", clips)
    return read_manifest(tmp_path / "manifest.jsonl")


@given(st.integers(2, 40), st.integers(0, 2**32))
def test_a_derangement_is_a_permutation_without_fixed_point(n_names, seed):
    names = [f"n{k}" for k in range(n_names)]
    found = derangement(names, np.random.default_rng(seed))
    assert sorted(found) == sorted(found.values()) == sorted(names)
    assert all(name != other for name, other in found.items())


def test_a_single_name_has_no_derangement():
    with pytest.raises(InputError, match="n0 is alone in its split"):
        derangement(["n0"], np.random.default_rng(0))


def test_labels_are_stretched_by_the_nearest_row_and_invalid_rows_stay_invalid(tmp_path):
    valid = np.array([True, False, True])
    short = Labels(np.array([[0.1, 0.2], [0.0, 0.0], [0.5, 0.6]]), valid)
    write_labels(tmp_path / "short.txt", short)
    write_labels(tmp_path / "long.txt", Labels(np.zeros((5, 2)), np.ones(5, bool)))
    clips = [Clip(id=name, labels=f"{name}.txt", split="val") for name in ("short", "long")]
    write_manifest(tmp_path / "m.jsonl", clips)
    permute_labels(read_manifest(tmp_path / "m.jsonl"), tmp_path / "control.jsonl", seed=0)
    found = read_labels(tmp_path / "control" / "long.txt")
    # five rows lie at 0, .5, 1, 1.5 and 2 of the three; halves are rounded to the even row
    np.testing.assert_array_equal(found.va[:, 0], [0.1, 0.1, 0.0, 0.5, 0.5])
    np.testing.assert_array_equal(found.valid, [True, True, False, True, True])


def test_each_clip_has_the_whole_labels_of_another_clip_of_its_split(manifest, tmp_path):
    control = tmp_path / "control.jsonl"
    permute_labels(manifest, control, seed=1)
    found = {clip.id: clip for clip in read_manifest(control).clips}
    assert set(found) == set(ROWS)  # clips without labels are left out
    owner = {}
    for name, clip in found.items():
        labels = read_labels(tmp_path / clip.labels)
        assert len(labels.va) == ROWS[name]
        values = np.unique(labels.va[labels.valid, 0])
        assert len(values) == 1
        owner[name] = list(ROWS)[round(float(values[0]) * 10)]
        assert labels.va[labels.valid, 1].min() < -0.9
        assert labels.va[labels.valid, 1].max() > 0.9
        before = next(c for c in manifest.clips if c.id == name)
        assert clip.model_copy(update={"labels": before.labels}) == before
    assert all(SPLITS[name] == SPLITS[other] and name != other for name, other in owner.items())
    assert sorted(owner.values()) == sorted(ROWS)


def test_another_seed_gives_another_permutation_and_removes_files_of_the_first(manifest, tmp_path):
    control = tmp_path / "control.jsonl"
    texts = set()
    for seed in range(8):
        permute_labels(manifest, control, seed)
        texts.add((tmp_path / "control" / "a.txt").read_text())
    assert len(texts) > 1
    (tmp_path / "control" / "stray.txt").write_text("old")
    permute_labels(manifest, control, 0)
    assert sorted(p.name for p in (tmp_path / "control").iterdir()) == [f"{n}.txt" for n in ROWS]


def test_the_paint_covers_the_face_and_not_the_corners(manifest, tmp_path):
    paint_faces(manifest, tmp_path / "control.jsonl")
    painted = {clip.id: clip for clip in read_manifest(tmp_path / "control.jsonl").clips}
    assert set(painted) == {clip.id for clip in manifest.clips}
    crops = sorted((tmp_path / painted["b"].frames).iterdir())
    assert [crop.name for crop in crops] == ["00001.jpg", "00002.jpg", "00004.jpg"]
    drawn = draw_frames(4, 1, 112)[3].astype(int)
    found = np.asarray(Image.open(crops[-1])).astype(int)
    assert found.shape == drawn.shape
    assert np.abs(found[28:84, 28:84] - 128).max() < 12  # JPEG changes a colour a little
    corner = np.abs(found[:8, :8] - drawn[:8, :8])
    assert corner.mean() < 12


def test_painting_a_clip_without_crops_is_an_input_error(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [Clip(id="a", video="a.mp4")])
    with pytest.raises(InputError, match="'a' has no crops"):
        paint_faces(read_manifest(tmp_path / "m.jsonl"), tmp_path / "control.jsonl")


def test_every_video_has_the_sound_of_another_video_of_its_split(manifest, tmp_path):
    permute_audio(manifest, tmp_path / "control.jsonl", seed=3)
    found = {clip.id: clip for clip in read_manifest(tmp_path / "control.jsonl").clips}
    assert found["a"].audio == found["b"].audio == "c.mp4"  # two people share a video
    assert found["c"].audio == "ab.mp4"
    assert (found["v"].audio, found["w"].audio) == ("w.mp4", "v.mp4")
    assert (found["t"].audio, found["u"].audio) == ("u.mp4", "t.mp4")
    assert all(found[clip.id].video == clip.video for clip in manifest.clips)


def test_permuting_the_audio_of_a_clip_without_media_is_an_input_error(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [Clip(id="a", split="val"), Clip(id="b", split="val")])
    with pytest.raises(InputError, match="'a' has neither video nor audio"):
        permute_audio(read_manifest(tmp_path / "m.jsonl"), tmp_path / "control.jsonl", 0)


def test_exchanged_labels_keep_the_times_of_their_clip(tmp_path):
    time_s = {"a": np.array([0.5, 1.5, 2.5]), "b": np.array([1.0, 2.0])}
    for k, (name, own_s) in enumerate(time_s.items()):
        labels = Labels(np.full((len(own_s), 2), k / 10), np.ones(len(own_s), bool), own_s)
        write_labels(tmp_path / f"{name}.csv", labels)
    write_manifest(
        tmp_path / "m.jsonl", [Clip(id=n, labels=f"{n}.csv", split="val") for n in time_s]
    )
    permute_labels(read_manifest(tmp_path / "m.jsonl"), tmp_path / "control.jsonl", seed=0)
    for k, (name, own_s) in enumerate(time_s.items()):
        found = read_labels(tmp_path / "control" / f"{name}.txt")
        np.testing.assert_array_equal(found.time_s, own_s)
        np.testing.assert_array_equal(found.va, (1 - k) / 10)
