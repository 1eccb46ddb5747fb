"""Small samples of data sets, from their own layout to a scored head."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows.command.main import main
from tests.helpers.dataset_samples import (
    N_FRAMES,
    write_afew_va,
    write_msp_conversation,
    write_sewa,
    write_veatic,
)
from tests.helpers.hostile_media import audio_file
from tests.helpers.small_media import tone, write_video

pytestmark = pytest.mark.slow


@pytest.fixture
def video(tmp_path) -> bytes:
    sound = tone(N_FRAMES / 25)
    return write_video(
        tmp_path / "v.mp4", time_s=np.arange(N_FRAMES) / 25, sound=sound
    ).read_bytes()


@pytest.fixture
def trained(tmp_path, tiny_clip, tiny_ast):
    """A function that extracts a manifest, trains and scores, and gives the scores of val."""

    def run(manifest: Path, *, sound_alone: bool = False, images_alone: bool = False) -> dict:
        encoders = [
            {"kind": "clip", **tiny_clip},
            {"kind": "ast", "model": tiny_ast, "hop_s": 0.64},
        ]
        prompts = {"kind": "coop"}
        if sound_alone:
            encoders, prompts = encoders[1:], None
        if images_alone:
            encoders = encoders[:1]
        keys = {
            "manifest": str(manifest),
            "store": str(tmp_path / "s.zarr"),
            "run": str(tmp_path / "r"),
            "encoders": encoders,
            "frames": "whole",
            "head": {"kind": "dspl", "width": 16, "prompts": prompts},
            "train": {"epochs": 1, "window": 20, "stride": 10, "threads": 1, "device": "cpu"},
        }
        (tmp_path / "e.yaml").write_text(yaml.safe_dump(keys))
        assert main(["run", "pipeline", "-c", str(tmp_path / "e.yaml")]) == 0
        return json.loads((tmp_path / "r" / "scores.json").read_text())["val"]

    return run


def test_veatic_is_indexed_extracted_trained_and_scored(tmp_path, video, trained, capsys):
    root = write_veatic(tmp_path / "disk" / "set", video, ids=(0, 1))
    (tmp_path / "work").mkdir()
    manifest = tmp_path / "work" / "m.jsonl"
    words = ["index", "veatic", str(root), "-o", str(manifest)]
    assert main([*words, "--allow-outside", str(root.parent)]) == 0
    assert "index: 4 clips in" in capsys.readouterr().out
    assert trained(manifest)["n_frames"] == 2 * 9  # the last 30 % of 30 frames, twice


# ten ratings at 0 to .9 s, .2 s late, are of -.2 to .7 s: two are of before the video, and as rows
# of a sound begin at .0875 s and reach .05 s further, the one of 0 s is out of their reach
@pytest.mark.parametrize(("suffix", "n_scored"), [("mp4", 8), ("wav", 7)])
def test_sewa_is_indexed_extracted_trained_and_scored_on_its_ratings(
    tmp_path, video, trained, capsys, suffix, n_scored
):
    root = write_sewa(tmp_path / "sewa", video)
    if suffix == "wav":
        for path in root.glob("*.mp4"):
            audio_file(path.with_suffix(".wav"), codec="pcm_s16le")
            path.unlink()
    manifest = tmp_path / "m.jsonl"
    words = ["index", "series", str(root), "-o", str(manifest), "label_lag_s=0.2"]
    assert main(words) == 0
    assert "clips by labels: ratings: 2" in capsys.readouterr().out
    score = trained(manifest, sound_alone=suffix == "wav")
    assert (score["n_clips"], score["n_frames"]) == (1, n_scored)


def test_afew_va_is_indexed_extracted_trained_and_scored_on_images(tmp_path, trained, capsys):
    root = write_afew_va(tmp_path / "disk" / "afew")
    (tmp_path / "work").mkdir()
    manifest = tmp_path / "work" / "m.jsonl"
    words = ["index", "afew-va", str(root), "-o", str(manifest), "val_share=0.4"]
    assert main([*words, "--allow-outside", str(root.parent)]) == 0
    assert "index: 3 clips in" in capsys.readouterr().out
    score = trained(manifest, images_alone=True)
    assert (score["n_clips"], score["n_frames"]) == (1, N_FRAMES)


def test_msp_conversation_is_indexed_extracted_trained_and_scored_on_sound(
    tmp_path, trained, capsys
):
    root = tmp_path / "msp"
    write_msp_conversation(root, lambda path: audio_file(path, codec="pcm_s16le"))
    manifest = tmp_path / "m.jsonl"
    keys = ["val_share=0.5", "step_s=0.05", "seed=1"]
    assert main(["index", "msp-conversation", str(root), "-o", str(manifest), *keys]) == 0
    assert "clips by labels: ratings: 2" in capsys.readouterr().out
    score = trained(manifest, sound_alone=True)
    assert score["n_clips"] == 1
    assert score["n_frames"] >= 5


def test_a_table_by_frame_is_indexed_extracted_trained_and_scored(tmp_path, video, trained):
    rows = ["file,frame,v,a,person"]
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(video)
        rng = np.random.default_rng(number)
        va = rng.uniform(1, 7, (N_FRAMES - 5, 2))  # the first 5 frames have no row
        rows += [f"{number}.mp4,{k + 5},{v},{a},p{number}" for k, (v, a) in enumerate(va)]
    (tmp_path / "l.csv").write_text("\n".join(rows))
    manifest = tmp_path / "m.jsonl"
    keys = ["scale=[1,7]", "val_share=0.5", "first_frame=0"]
    assert main(["index", "table", str(tmp_path / "l.csv"), "-o", str(manifest), *keys]) == 0
    assert trained(manifest)["n_frames"] == 2 * (N_FRAMES - 5)
