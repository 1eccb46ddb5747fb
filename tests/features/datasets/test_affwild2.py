import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.datasets import dataset
from features.datasets.affwild2 import AffWild2Config
from features.datasets.base import render_index, write_index
from features.errors import InputError, MediaError
from features.manifest.manifest import read_manifest, write_manifest
from features.media.decoder import Decoder


def annotate(root: Path, name: str, n_rows: int, folder: str = "Train_Set", last: str = "") -> None:
    annotations = root / "VA_Estimation_Challenge" / folder
    annotations.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{k / 1000:.3f},0.1\n" for k in range(n_rows))
    (annotations / f"{name}.txt").write_text("valence,arousal\n" + rows + last)


def write_crops(folder: Path, numbers: list[int]) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (8, 8)).save(folder / f"{number:05d}.jpg")


def copy_video(root: Path, name: str) -> None:
    """Copy the video of ten frames."""
    (root / "batch1" / name).write_bytes((root / "batch1" / "7.mp4").read_bytes())


@pytest.fixture
def root(tmp_path, make_video) -> Path:
    """A small data set with most oddities of the real one."""
    make_video("set/batch1/7.mp4", time_s=np.arange(10) / 25, sound=np.zeros(20_000, np.float32))
    make_video("set/batch2/10-60-64x64.mp4", time_s=np.cumsum([0, 4, 9, 2, 7, 5, 8, 3]) / 100)
    root = tmp_path / "set"
    annotate(root, "7", 11, last="-5,-5\n")
    annotate(root, "10-60-64x64_left", 8, "Validation_Set")
    annotate(root, "10-60-64x64_right", 7, "validation_set")
    write_crops(root / "cropped_aligned/cropped_aligned/7", [1, 2, 5, 9])
    write_crops(root / "cropped_aligned/10-60-64x64_left", list(range(1, 9)))
    write_crops(root / "cropped/10-60-64x64_left", [1])
    (root / "cropped_aligned" / ".DS_Store").write_bytes(b"x")
    return root


def test_every_clip_is_found_in_any_folder(root, tmp_path):
    indexed = AffWild2Config(root=root).index(tmp_path)
    write_manifest(tmp_path / "m.jsonl", indexed.clips)
    clips = {clip.id: clip for clip in read_manifest(tmp_path / "m.jsonl").clips}
    assert list(clips) == ["10-60-64x64_left", "10-60-64x64_right", "7"]
    left, right, seven = clips.values()
    assert seven.frames == "set/cropped_aligned/cropped_aligned/7"
    assert left.frames == "set/cropped_aligned/10-60-64x64_left"
    assert left.video == right.video == "set/batch2/10-60-64x64.mp4"
    assert left.subject == right.subject == "10-60-64x64"  # the same video, so one group
    assert (seven.split, left.split, right.split) == ("train", "val", "val")
    assert right.frames is None


def test_only_a_video_that_kills_the_decoder_is_left_out(root, tmp_path, monkeypatch):
    real = Decoder.probe

    def probe(self, video):
        if video.stem == "7":
            raise MediaError("the decoder was ended by SIGSEGV", "crashed")
        return real(self, video)

    monkeypatch.setattr(Decoder, "probe", probe)

    indexed = AffWild2Config(root=root).index(tmp_path)

    assert [clip.id for clip in indexed.clips] == ["10-60-64x64_left", "10-60-64x64_right"]
    assert "was ended by SIGSEGV" in indexed.left_out["7"]


def test_the_report_counts_rows_frames_and_crops(root, tmp_path):
    report = AffWild2Config(root=root).index(tmp_path).as_json()
    by_clip = {clip["clip"]: clip for clip in report["clips"]}
    seven = by_clip["7"]
    assert (seven["n_rows"], seven["n_frames"], seven["difference"]) == (12, 10, 2)
    assert seven["n_annotated"] == 11
    assert seven["n_annotated_without_crop"] == 7  # of 11 annotated rows, 4 have a crop
    assert seven["has_sound"]
    assert by_clip["10-60-64x64_left"]["variable_rate"]
    assert report["totals"]["clips_by_rows_minus_frames"] == {"+0": 1, "+2": 1, "-1": 1}
    assert report["splits"]["train"] == {"clips": 1, "clips_of_the_original": 356}
    assert report["totals"]["clips_without_sound"] == 2
    json.dumps(report)


def test_a_clip_that_is_left_out_has_its_reason(root, tmp_path):
    annotate(root, "ghost", 5)
    annotate(root, "video3_1", 20)
    copy_video(root, "video3_1.mp4")
    annotate(root, "broken", 5)
    (root / "batch1" / "broken.mp4").write_text("no video")
    annotate(root, "un safe", 10)
    copy_video(root, "un safe.mp4")
    annotate(root, "words", 5, last="happy,sad\n")
    copy_video(root, "words.mp4")
    indexed = AffWild2Config(root=root).index(tmp_path)
    assert [clip.id for clip in indexed.clips] == ["10-60-64x64_left", "10-60-64x64_right", "7"]
    assert set(indexed.left_out) == {"ghost", "video3_1", "broken", "words", "un safe"}
    assert "'un safe' is not safe as a name" in indexed.left_out["un safe"]
    assert "its video is missing" in indexed.left_out["ghost"]
    assert "20 rows, but 10 frames (+10); at most 3 apart" in indexed.left_out["video3_1"]
    assert "cannot be decoded" in indexed.left_out["broken"]
    assert "line 7: expected two numbers" in indexed.left_out["words"]
    lines = "\n".join(render_index(indexed))
    assert all(f"left out: {name}: " in lines for name in indexed.left_out)
    assert "note: 10-60-64x64_right: no crops; whole frames are encoded" in lines


def test_test_clips_come_from_the_sample_submission(root, tmp_path):
    rows = "".join(f"7/{k:05d}.jpg,\n" for k in range(1, 11))
    (root / "CVPR_VA_test_set_sample.txt").write_text("image_location,valence,arousal\n" + rows)
    (root / "VA_Estimation_Challenge" / "Train_Set" / "7.txt").unlink()
    indexed = AffWild2Config(root=root).index(tmp_path)
    seven = next(clip for clip in indexed.clips if clip.id == "7")
    assert (seven.split, seven.labels) == ("test", None)
    report = next(report for report in indexed.reports if report.clip == "7")
    assert (report.n_rows, report.difference) == (10, 0)


def test_labels_of_a_test_set_are_placeholders_and_not_used(root, tmp_path):
    folder = root / "VA_Estimation_Challenge" / "Test_Set"
    folder.mkdir()
    (folder / "8.txt").write_text("valence,arousal\n" + "0.5,-0.5\n" * 10)
    copy_video(root, "8.mp4")
    indexed = AffWild2Config(root=root).index(tmp_path)
    eight = next(clip for clip in indexed.clips if clip.id == "8")
    assert (eight.split, eight.labels) == ("test", None)
    assert any("placeholders" in note for note in indexed.notes)


def test_each_oddity_that_leaves_no_clip_out_has_a_note(root, tmp_path):
    (root / "batch2" / "7.mp4").write_bytes((root / "batch1" / "7.mp4").read_bytes())
    copy_video(root, "spare.mp4")
    write_crops(root / "cropped_aligned" / "stranger", [1])
    folder = root / "VA_Estimation_Challenge" / "Train_Set"
    (folder / "constant.txt").write_text("valence,arousal\n" + "0.5,-0.5\n" * 10)
    copy_video(root, "constant.mp4")
    indexed = AffWild2Config(root=root).index(tmp_path)
    notes = "\n".join(indexed.notes)
    assert "7 exists 2 times" in notes
    assert "video without annotation: spare" in notes
    assert "crop folder without annotation: stranger" in notes
    assert "constant: every row has the same label; is it a placeholder?" in notes
    assert "constant: no crops; whole frames are encoded" in notes
    assert indexed.left_out == {}


def test_files_of_operating_systems_are_passed_over(root, tmp_path):
    before = AffWild2Config(root=root).index(tmp_path)
    crops = root / "cropped_aligned/cropped_aligned/7"
    annotations = root / "VA_Estimation_Challenge/Train_Set"
    for folder in (root, root / "batch1", crops, crops.parent, annotations):
        for name in ("Thumbs.db", "desktop.ini", "._7.mp4", "._7.txt", "._00001.jpg", ".hidden"):
            (folder / name).write_bytes(b"\0\5\26\7")
    trash = root / ".Trash-1000"
    write_crops(trash / "7", [1, 2, 3])
    (trash / "7.mp4").write_bytes((root / "batch1/7.mp4").read_bytes())
    (trash / "7.txt").write_bytes((annotations / "7.txt").read_bytes())
    assert AffWild2Config(root=root).index(tmp_path) == before


def test_names_that_are_no_utf_8_are_indexed_or_left_out_with_the_reason(root, tmp_path):
    (root / "batch1").rename(root / "caf\udce9\u202f")
    annotate(root, "8\udce9", 10)
    (root / "batch2" / "spare\u202e\udce9.mp4").write_bytes(b"x")
    indexed = AffWild2Config(root=root).index(tmp_path)
    write_manifest(tmp_path / "m.jsonl", indexed.clips)
    videos = {clip.id: clip.video for clip in read_manifest(tmp_path / "m.jsonl").clips}
    assert videos["7"] == "set/caf\udce9\u202f/7.mp4"
    assert "its video is missing" in indexed.left_out["8\udce9"]
    (root / "batch2" / "8\udce9.mp4").write_bytes((root / "caf\udce9\u202f/7.mp4").read_bytes())
    indexed = AffWild2Config(root=root).index(tmp_path)
    assert "is not safe as a name" in indexed.left_out["8\udce9"]
    assert "video without annotation: spare\u202e\udce9" in indexed.notes


def test_a_folder_without_the_data_set_and_an_unknown_kind_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        AffWild2Config(root=tmp_path / "none").index(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no annotation: expected text files below"):
        AffWild2Config(root=tmp_path / "empty").index(tmp_path)
    with pytest.raises(InputError, match="the manifest must be in"):
        AffWild2Config(root=tmp_path / "empty").index(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no data set 'affwild'; .* the nearest is 'affwild2'"):
        dataset("affwild", tmp_path)


def test_a_manifest_elsewhere_names_the_files_of_an_allowed_folder(root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = AffWild2Config(root=root, allow_outside=(root,))
    indexed = config.index(elsewhere)
    write_index(elsewhere / "m.jsonl", indexed, config)
    manifest = read_manifest(elsewhere / "m.jsonl")
    assert manifest.allow_outside == (str(root),)
    for clip in manifest.clips:
        assert clip.video is not None
        assert clip.video.startswith(f"{root}/batch")
        assert manifest.path(clip.labels or "").is_file()
    other = AffWild2Config(root=root, allow_outside=(tmp_path / "set2",))
    with pytest.raises(InputError, match="or allow .* with --allow-outside ROOT"):
        other.index(elsewhere)


def test_linked_folders_are_named_as_they_are(root, tmp_path):
    (root / "batch1").rename(tmp_path / "disk")
    (root / "batch1").symlink_to(tmp_path / "disk")
    (root / "batch1" / "7.mp4").rename(root / "batch2" / "real.mp4")
    (root / "batch2" / "7.mp4").symlink_to(tmp_path / "disk" / "7.mp4")
    (root / "batch2" / "real.mp4").rename(tmp_path / "disk" / "7.mp4")
    indexed = AffWild2Config(root=root).index(root)
    seven = next(clip for clip in indexed.clips if clip.id == "7")
    assert seven.video == "batch2/7.mp4"
