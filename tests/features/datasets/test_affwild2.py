import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.datasets import affwild2, dataset
from features.datasets.affwild2 import AffWild2Config
from features.datasets.base import render_index
from features.errors import InputError
from features.manifest.manifest import read_manifest, write_manifest
from features.media.decoder import Decoder
from tests.helpers.hostile_server import HOSTILE_SERVER


def annotate(root: Path, name: str, n_rows: int, folder: str = "Train_Set", last: str = "") -> None:
    where = root / "VA_Estimation_Challenge" / folder
    where.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{k / 1000:.3f},0.1\n" for k in range(n_rows))
    (where / f"{name}.txt").write_text("valence,arousal\n" + rows + last)


def crop(root: Path, where: str, numbers: list[int]) -> None:
    folder = root / where
    folder.mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (8, 8)).save(folder / f"{number:05d}.jpg")


@pytest.fixture
def root(tmp_path, make_video) -> Path:
    """A small set with most of what is odd about the real one."""
    make_video("set/batch1/7.mp4", time_s=np.arange(10) / 25, sound=np.zeros(20_000, np.float32))
    make_video("set/batch2/10-60-64x64.mp4", time_s=np.cumsum([0, 4, 9, 2, 7, 5, 8, 3]) / 100)
    root = tmp_path / "set"
    annotate(root, "7", 11, last="-5,-5\n")
    annotate(root, "10-60-64x64_left", 8, "Validation_Set")
    annotate(root, "10-60-64x64_right", 7, "validation_set")
    crop(root, "cropped_aligned/cropped_aligned/7", [1, 2, 5, 9])
    crop(root, "cropped_aligned/10-60-64x64_left", list(range(1, 9)))
    crop(root, "cropped/10-60-64x64_left", [1])
    (root / "cropped_aligned" / ".DS_Store").write_bytes(b"x")
    return root


def test_every_clip_is_found_wherever_it_lies(root, tmp_path):
    indexed = AffWild2Config(root=root).index(tmp_path)
    write_manifest(tmp_path / "m.jsonl", indexed.clips)
    clips = {clip.id: clip for clip in read_manifest(tmp_path / "m.jsonl").clips}
    assert list(clips) == ["10-60-64x64_left", "10-60-64x64_right", "7"]
    left, right, seven = clips.values()
    assert seven.frames == "set/cropped_aligned/cropped_aligned/7"
    assert left.frames == "set/cropped_aligned/10-60-64x64_left"
    assert left.video == right.video == "set/batch2/10-60-64x64.mp4"
    assert left.subject == right.subject == "10-60-64x64"  # the same video: one group
    assert (seven.split, left.split, right.split) == ("train", "val", "val")
    assert right.frames is None


class HostileDecoder(Decoder):
    """A decoder that crashes on one video."""

    def __init__(self, limits):
        super().__init__(limits, server=HOSTILE_SERVER)

    def probe(self, video):
        if video.stem != "7":
            return super().probe(video)
        [found] = self.client.request("crash", str(video))
        return found


def test_a_video_that_kills_the_decoder_is_left_out_alone(root, tmp_path, monkeypatch):
    monkeypatch.setattr(affwild2, "Decoder", HostileDecoder)
    indexed = AffWild2Config(root=root).index(tmp_path)
    assert [clip.id for clip in indexed.clips] == ["10-60-64x64_left", "10-60-64x64_right"]
    assert "was ended by SIGSEGV" in indexed.left_out["7"]


def test_the_report_counts_found_against_expected(root, tmp_path):
    report = AffWild2Config(root=root).index(tmp_path).as_json()
    by_clip = {clip["clip"]: clip for clip in report["clips"]}
    seven = by_clip["7"]
    assert (seven["n_rows"], seven["n_frames"], seven["difference"]) == (12, 10, 2)
    assert seven["n_annotated"] == 11
    assert seven["n_annotated_without_crop"] == 7  # 11 annotated rows, 4 of them with a crop
    assert seven["has_sound"]
    assert by_clip["10-60-64x64_left"]["variable_rate"]
    assert report["totals"]["clips_by_rows_minus_frames"] == {"+0": 1, "+2": 1, "-1": 1}
    assert report["splits"]["train"] == {"clips": 1, "clips_of_the_original": 356}
    assert report["totals"]["clips_without_sound"] == 2
    json.dumps(report)


def test_nothing_is_left_out_without_its_reason(root, tmp_path):
    annotate(root, "ghost", 5)
    annotate(root, "video3_1", 20)
    (root / "batch1" / "video3_1.mp4").write_bytes((root / "batch1" / "7.mp4").read_bytes())
    annotate(root, "broken", 5)
    (root / "batch1" / "broken.mp4").write_text("no video")
    annotate(root, "un safe", 10)
    (root / "batch1" / "un safe.mp4").write_bytes((root / "batch1" / "7.mp4").read_bytes())
    annotate(root, "words", 5, last="happy,sad\n")
    (root / "batch1" / "words.mp4").write_bytes((root / "batch1" / "7.mp4").read_bytes())
    indexed = AffWild2Config(root=root).index(tmp_path)
    assert [clip.id for clip in indexed.clips] == ["10-60-64x64_left", "10-60-64x64_right", "7"]
    assert set(indexed.left_out) == {"ghost", "video3_1", "broken", "words", "un safe"}
    assert "'un safe' is not safe as a name" in indexed.left_out["un safe"]
    assert "its video is not there" in indexed.left_out["ghost"]
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


def test_placeholder_labels_of_a_test_set_are_left_aside_and_flagged(root, tmp_path):
    folder = root / "VA_Estimation_Challenge" / "Test_Set"
    folder.mkdir()
    (folder / "8.txt").write_text("valence,arousal\n" + "0.5,-0.5\n" * 10)
    (root / "batch1" / "8.mp4").write_bytes((root / "batch1" / "7.mp4").read_bytes())
    indexed = AffWild2Config(root=root).index(tmp_path)
    eight = next(clip for clip in indexed.clips if clip.id == "8")
    assert (eight.split, eight.labels) == ("test", None)
    assert any("placeholders" in note for note in indexed.notes)


def test_what_is_there_twice_or_not_annotated_is_noted(root, tmp_path):
    (root / "batch2" / "7.mp4").write_bytes((root / "batch1" / "7.mp4").read_bytes())
    (root / "batch2" / "spare.mp4").write_bytes((root / "batch1" / "7.mp4").read_bytes())
    notes = "\n".join(AffWild2Config(root=root).index(tmp_path).notes)
    assert "7 is there 2 times" in notes
    assert "video without annotation: spare" in notes


def test_a_folder_that_holds_no_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        AffWild2Config(root=tmp_path / "none").index(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no annotation: expected text files below"):
        AffWild2Config(root=tmp_path / "empty").index(tmp_path)
    with pytest.raises(InputError, match="the manifest must lie in"):
        AffWild2Config(root=tmp_path / "empty").index(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="data set 'affwild': .* expected tags: 'affwild2'"):
        dataset("affwild", tmp_path)
