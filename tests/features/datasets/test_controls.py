from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from features.clip import Clip
from features.datasets.controls import (
    _stretch_labels,
    deal_labels,
    deal_sound,
    derangement,
    paint_faces,
)
from features.errors import InputError
from features.manifest.labels import Labels, read_labels, write_labels
from features.manifest.manifest import read_manifest, write_manifest
from flows.command.main import main
from flows.demo import controls
from models.metrics.scores import SplitScore
from tests.helpers.small_media import draw_frames

ROWS = {"a": 40, "b": 50, "c": 60, "v": 30, "w": 45}
SPLITS = {"a": "train", "b": "train", "c": "train", "v": "val", "w": "val"}


@pytest.fixture
def manifest(tmp_path, make_crops):
    """Five clips whose valence tells whose it is; a and b are two people in one video."""
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
def test_a_deal_gives_each_name_another_one_and_each_once(n_names, seed):
    names = [f"n{k}" for k in range(n_names)]
    found = derangement(names, np.random.default_rng(seed))
    assert sorted(found) == sorted(found.values()) == sorted(names)
    assert all(name != giver for name, giver in found.items())


def test_nobody_can_be_dealt_to_himself():
    with pytest.raises(InputError, match="n0 is alone in its split"):
        derangement(["n0"], np.random.default_rng(0))


def test_stretching_keeps_the_whole_curve_and_its_marks():
    labels = Labels(np.array([[0.1, 0.2], [0.0, 0.0], [0.5, 0.6]]), np.array([True, False, True]))
    found = _stretch_labels(
        labels, 5
    )  # rows 0, .5, 1, 1.5, 2 of the three; halves go to the even one
    np.testing.assert_array_equal(found.va[:, 0], [0.1, 0.1, 0.0, 0.5, 0.5])
    np.testing.assert_array_equal(found.valid, [True, True, False, True, True])


def test_whole_labels_are_dealt_within_a_split(manifest, tmp_path):
    control = tmp_path / "control.jsonl"
    deal_labels(manifest, control, seed=1)
    found = {clip.id: clip for clip in read_manifest(control).clips}
    assert set(found) == set(ROWS)  # a clip without labels has none to deal
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
    assert all(SPLITS[name] == SPLITS[giver] and name != giver for name, giver in owner.items())
    assert sorted(owner.values()) == sorted(ROWS)


def test_another_seed_deals_otherwise_and_leaves_nothing_of_the_first(manifest, tmp_path):
    control = tmp_path / "control.jsonl"
    texts = set()
    for seed in range(8):
        deal_labels(manifest, control, seed)
        texts.add((tmp_path / "control" / "a.txt").read_text())
    assert len(texts) > 1
    (tmp_path / "control" / "stray.txt").write_text("old")
    deal_labels(manifest, control, 0)
    assert sorted(p.name for p in (tmp_path / "control").iterdir()) == [f"{n}.txt" for n in ROWS]


def test_paint_covers_the_face_and_leaves_the_corners(manifest, tmp_path):
    paint_faces(manifest, tmp_path / "control.jsonl")
    painted = {clip.id: clip for clip in read_manifest(tmp_path / "control.jsonl").clips}
    assert set(painted) == {clip.id for clip in manifest.clips}
    crops = sorted((tmp_path / painted["b"].frames).iterdir())
    assert [crop.name for crop in crops] == ["00001.jpg", "00002.jpg", "00004.jpg"]
    drawn = draw_frames(4, 1, 112)[3].astype(int)
    found = np.asarray(Image.open(crops[-1])).astype(int)
    assert found.shape == drawn.shape
    assert np.abs(found[28:84, 28:84] - 128).max() < 12  # what jpg leaves of one colour
    corner = np.abs(found[:8, :8] - drawn[:8, :8])
    assert corner.mean() < 12


def test_a_clip_without_crops_has_no_face_to_paint(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [Clip(id="a", video="a.mp4")])
    with pytest.raises(InputError, match="'a' has no crops"):
        paint_faces(read_manifest(tmp_path / "m.jsonl"), tmp_path / "control.jsonl")


def test_every_video_has_the_sound_of_another_of_its_split(manifest, tmp_path):
    deal_sound(manifest, tmp_path / "control.jsonl", seed=3)
    found = {clip.id: clip for clip in read_manifest(tmp_path / "control.jsonl").clips}
    assert found["a"].audio == found["b"].audio == "c.mp4"  # two people share a video
    assert found["c"].audio == "ab.mp4"
    assert (found["v"].audio, found["w"].audio) == ("w.mp4", "v.mp4")
    assert (found["t"].audio, found["u"].audio) == ("u.mp4", "t.mp4")
    assert all(found[clip.id].video == clip.video for clip in manifest.clips)


def test_a_clip_without_media_has_no_sound_to_deal(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [Clip(id="a", split="val"), Clip(id="b", split="val")])
    with pytest.raises(InputError, match="'a' has neither video nor audio"):
        deal_sound(read_manifest(tmp_path / "m.jsonl"), tmp_path / "control.jsonl", 0)


def test_each_control_trains_on_what_it_says(manifest, tmp_path, monkeypatch):
    asked: list[dict] = []

    def pipeline(**keys):
        asked.append(keys)
        result = SplitScore(0.1, 0.3, 0.2, 9, 2, 0, 1, *[None] * 6)
        return SimpleNamespace(score=SimpleNamespace(score=result))

    means = iter([0.0, 0.1, 0.2, 0.3, 0.9])
    monkeypatch.setattr(controls, "pipeline", pipeline)
    monkeypatch.setattr(controls, "describe", lambda _: [])
    monkeypatch.setattr(controls, "extract_features", lambda *_: None)
    monkeypatch.setattr(
        controls, "require_complete", lambda _: SimpleNamespace(summary=lambda: "done")
    )
    monkeypatch.setattr(
        controls,
        "in_processes",
        lambda _, deals: (
            asked.append(keys) or SplitScore(0.0, 0.0, next(means), 9, 2, 0, 1, *[None] * 6)
            for keys in deals
        ),
    )
    keys = {"manifest": tmp_path / "manifest.jsonl", "store": "s.zarr", "encoders": ()}
    console = Console(quiet=True)
    assert controls.CONTROLS["face"](console, tmp_path, keys)[1] == 0.2
    assert asked[-1]["head"].fusion == "visual"
    assert asked[-1]["manifest"] == tmp_path / "control-face.jsonl"
    assert controls.CONTROLS["voice"](console, tmp_path, keys)[1] == 0.2
    assert (asked[-1]["head"].fusion, asked[-1]["train"].loss.region_weight) == ("audio", 0)
    assert controls.CONTROLS["labels"](console, tmp_path, keys)[1] == pytest.approx(0.3)
    deals = [asked[k]["manifest"] for k in range(-5, 0)]
    assert len({path.read_text() for path in deals}) == 5
    dealt_texts = {(path.with_suffix("") / "a.txt").read_text() for path in deals}
    assert len(dealt_texts) > 1  # the seeds differ


@pytest.mark.parametrize(("score", "status"), [(0.0999, 0), (0.10, 1), (-0.3, 0)])
def test_a_control_says_its_score_last_and_fails_where_it_is_not_below(
    score, status, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(controls, "prepared", lambda *_: {})
    monkeypatch.setitem(controls.CONTROLS, "voice", lambda *_: ("another's sound", score))
    assert main(["demo", "--folder", str(tmp_path), "--control", "voice"]) == status
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert f"val mean CCC {score:.3f}, wanted below 0.10: " in last
    assert last.endswith("NOT reached") == bool(status)
