"""Small samples of data sets, from their own layout to a scored head."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows.command.main import main
from tests.helpers.dataset_samples import N_FRAMES, write_veatic
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

    def run(manifest: Path) -> dict:
        encoders = [
            {"kind": "clip", **tiny_clip},
            {"kind": "ast", "model": tiny_ast, "hop_s": 0.64},
        ]
        keys = {
            "manifest": str(manifest),
            "store": str(tmp_path / "s.zarr"),
            "run": str(tmp_path / "r"),
            "encoders": encoders,
            "frames": "whole",
            "head": {"kind": "dspl", "width": 16},
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
