"""AFEW-VA, on a small sample in its layout."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.datasets import dataset
from features.datasets.base import render_index, write_index
from features.errors import InputError
from features.manifest.labels import read_labels
from features.manifest.manifest import read_manifest
from features.media.crops import crop_files, read_image
from tests.helpers.dataset_samples import N_FRAMES, write_afew_va


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return write_afew_va(tmp_path_factory.mktemp("afew") / "set")


@pytest.fixture
def root(sample, tmp_path) -> Path:
    return shutil.copytree(sample, tmp_path / "set")


def edit(path: Path, **frames) -> None:
    clip = json.loads(path.read_text())
    clip["frames"] |= frames
    path.write_text(json.dumps(clip))


def test_a_clip_has_images_labels_and_an_actor(root, tmp_path):
    config = dataset("afew-va", root, fps=24)
    indexed = config.index(tmp_path)
    write_index(tmp_path / "m.jsonl", indexed, config)
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert [clip.id for clip in manifest.clips] == ["001", "002", "051"]
    clip = manifest.clips[1]
    assert (clip.video, clip.audio, clip.fps, clip.split) == (None, None, 24, None)
    assert clip.subject == "Actor 1"
    crops = crop_files(manifest.path(clip.frames or ""))
    assert [*crops] == list(range(1, N_FRAMES + 1))  # 00000.png shows frame 1
    assert read_image(crops[1]).shape == (112, 112, 3)
    labels = read_labels(manifest.path(clip.labels or ""))
    np.testing.assert_allclose(labels.va[:3], [[-0.9, 0], [-0.8, 0.1], [-0.7, 0.2]])  # a tenth
    assert labels.valid.all()
    lines = "\n".join(render_index(indexed))
    assert "crops: 90" in lines
    assert "note: 3 of the 600 clips of the whole data set have labels" in lines
    assert "note: frames have no times and are taken at 24 a second" in lines
    assert "note: the data set has no split, which training needs; give val_share=0.2" in lines


def index(root: Path, manifest: Path, **keys) -> dict[str, Path]:
    """Write the index, and return the folder of images of each clip."""
    config = dataset("afew-va", root, **keys)
    write_index(manifest, config.index(manifest.parent), config)
    read = read_manifest(manifest)
    return {clip.id: read.path(clip.frames or "") for clip in read.clips}


def test_faces_are_cut_out_where_the_landmarks_say(root, tmp_path):
    folder = index(root, tmp_path / "m.jsonl", alignment={"side_px": 64, "margin": 0.2})["002"]
    eyes = 64 * (np.array([[38.29, 51.7], [73.53, 51.5]]) / 112 + 0.2) / 1.4  # of the template
    for k in (0, 3):
        image = read_image(root / f"01/002/{k:05d}.png").astype(float)
        crop = read_image(folder / f"{k + 1:05d}.jpg").astype(float)
        for x, y, (crop_x, crop_y) in ((24 + k, 28, eyes[0]), (40 + k, 28, eyes[1])):
            around = image[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
            row, column = round(crop_y), round(crop_x)
            found = crop[row - 1 : row + 2, column - 1 : column + 2].mean(axis=(0, 1))
            np.testing.assert_allclose(found, around, atol=25)


def test_crops_are_kept_replaced_and_exchanged_for_links(root, tmp_path):
    manifest = tmp_path / "m.jsonl"
    first = index(root, manifest)["001"] / "00001.jpg"
    written = first.stat().st_mtime_ns
    index(root, manifest)
    assert first.stat().st_mtime_ns == written
    index(root, manifest, alignment={"side_px": 80})
    assert read_image(first).shape == (80, 80, 3)
    index(root, manifest, alignment=None)
    assert first.is_symlink()
    np.testing.assert_array_equal(read_image(first), read_image(root / "01/001/00000.png"))
    index(root, manifest)
    assert not first.is_symlink()
    assert {path.name for path in (tmp_path / "m.frames").iterdir()} == {"001", "002", "051"}
    (first.parent / ".vaflow").unlink()
    with pytest.raises(InputError, match="m.frames/001 holds files that are not from vaflow"):
        index(root, manifest)


def test_frames_without_landmarks_have_no_crop(root, tmp_path):
    path = root / "01" / "001" / "001.json"
    clip = json.loads(path.read_text())
    del clip["frames"]["00003"]["landmarks"]
    clip["frames"]["00004"]["landmarks"] = [[20.0, 20.0]] * 68  # the eyes coincide
    for k in range(20, N_FRAMES):
        clip["frames"][f"{k:05d}"]["landmarks"] = []
    path.write_text(json.dumps(clip))
    config = dataset("afew-va", root)
    indexed = config.index(tmp_path)
    report = indexed.reports[0]
    assert (report.n_rows, report.n_frames, report.n_crops) == (20, 20, 18)
    assert report.n_annotated_without_crop == 2
    write_index(tmp_path / "m.jsonl", indexed, config)
    assert [*crop_files(tmp_path / "m.frames" / "001")] == [1, 2, 3, *range(6, 21)]
    for frame in clip["frames"].values():
        frame.pop("landmarks", None)
    path.write_text(json.dumps(clip))
    assert "give alignment=null" in dataset("afew-va", root).index(tmp_path).left_out["001"]
    assert not dataset("afew-va", root, alignment=None).index(tmp_path).left_out
    clip["frames"]["00000"]["landmarks"] = [[1, 2]]
    path.write_text(json.dumps(clip))
    (why,) = dataset("afew-va", root).index(tmp_path).left_out.values()
    assert "001.json, frame 00000: landmarks are not 68 points (x, y)" in why


def test_a_damaged_image_is_named(root, tmp_path):
    (root / "01" / "001" / "00002.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"001/00002.png is not a complete image .*; replace or"):
        index(root, tmp_path / "m.jsonl")


def test_links_move_with_the_data_and_old_ones_go(root, tmp_path):
    config = dataset("afew-va", root, alignment=None)
    write_index(tmp_path / "m.jsonl", config.index(tmp_path), config)
    (root / "01" / "001" / "00029.png").unlink()
    write_index(tmp_path / "m.jsonl", config.index(tmp_path), config)
    assert len(crop_files(tmp_path / "m.frames" / "001")) == N_FRAMES - 1
    (tmp_path / "moved").mkdir()
    for name in ("set", "m.frames"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    read_image(tmp_path / "moved" / "m.frames" / "001" / "00001.jpg")


def test_a_folder_of_images_in_the_way_is_named(root, tmp_path):
    config = dataset("afew-va", root, alignment=None)
    (tmp_path / "m.frames" / "001").mkdir(parents=True)
    (tmp_path / "m.frames" / "001" / "00001.jpg").write_text("mine")
    with pytest.raises(InputError, match="cannot be linked into .*m.frames/001 .*remove what is"):
        write_index(tmp_path / "m.jsonl", config.index(tmp_path), config)


def test_actors_are_drawn_and_stay_in_one_split(root, tmp_path):
    for name in ("001", "051"):
        path = next(root.rglob(f"{name}.json"))
        path.write_text(path.read_text().replace('"Actor 2"', '"Actor 0"'))
    for seed in range(4):
        indexed = dataset("afew-va", root, val_share=0.4, seed=seed).index(tmp_path)
        splits = {clip.id: clip.split for clip in indexed.clips}
        assert splits["001"] == splits["051"] != splits["002"]


def test_frames_without_image_or_label_are_counted(root, tmp_path):
    (root / "01" / "001" / "00003.png").unlink()
    path = root / "01" / "001" / "001.json"
    clip = json.loads(path.read_text())
    del clip["frames"]["00005"]
    path.write_text(json.dumps(clip))
    indexed = dataset("afew-va", root, alignment=None).index(tmp_path)
    report = indexed.reports[0]
    assert (report.n_rows, report.n_annotated, report.n_crops) == (30, 29, 29)
    assert report.n_annotated_without_crop == 1
    assert not indexed.labels["001"].valid[5]


def test_a_clip_that_cannot_be_used_is_left_out_with_its_reason(root, tmp_path):
    one, two = root / "01" / "001" / "001.json", root / "01" / "002" / "002.json"
    third = root / "02" / "051" / "051.json"

    def left_out() -> dict[str, str]:
        return dataset("afew-va", root).index(tmp_path).left_out

    edit(one, **{"00002": {"valence": 0.3, "arousal": 1}})
    edit(two, **{"00002": {"valence": 3, "arousal": 11}})
    edit(third, **{"00002": {"valence": 3}})
    found = left_out()
    assert "001.json, frame 00002: valence = 0.3, but values are integers from -10" in found["001"]
    assert "frame 00002: arousal = 11, but values are integers" in found["002"]
    assert "frame 00002: arousal = None is no number; a frame has both" in found["051"]
    edit(one, **{"00002": {"valence": float("nan"), "arousal": 1}})
    edit(two, **{"00002": {"valence": 3, "arousal": 1}, "2": {}})
    third.write_text("{")
    found = left_out()
    assert "valence = nan, but values are integers" in found["001"]
    assert "the frame '2' is no number of five digits" in found["002"]
    assert "051.json cannot be read" in found["051"]
    third.write_text("[]")
    assert "051.json has no labels; expected" in left_out()["051"]
    for path in third.parent.glob("*.png"):
        path.unlink()
    edit(one, **{"00002": {"valence": 1, "arousal": 1}, "00050": {"valence": 1, "arousal": 1}})
    third.write_text(json.dumps({"frames": {"00000": {"valence": 0, "arousal": 0}}}))
    found = left_out()
    assert "02/051 holds no image such as 00000.png" in found["051"]
    assert "51 rows, but 30 frames (+21)" in found["001"]


def test_images_outside_the_manifests_folder_need_leave(root, tmp_path):
    base = tmp_path / "elsewhere"
    base.mkdir()
    left_out = dataset("afew-va", root).index(base).left_out
    assert "allow the manifest to name absolute paths below a folder" in left_out["001"]
    assert dataset("afew-va", root, allow_outside=[root]).index(base).left_out == {}


def test_labels_of_one_clip_twice_are_refused(root, tmp_path):
    shutil.copytree(root / "01" / "001", root / "copy")
    with pytest.raises(InputError, match=r"001.json and .*001.json are labels of one clip"):
        dataset("afew-va", root).index(tmp_path)
