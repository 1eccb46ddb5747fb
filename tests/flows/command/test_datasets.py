"""Small samples of data sets, from their own layout to a scored head."""

import json

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
    """A function that extracts, trains and scores `m.jsonl`, and gives the scores of val."""

    def run() -> dict:
        encoders = [
            {"kind": "clip", **tiny_clip},
            {"kind": "ast", "model": tiny_ast, "hop_s": 0.64},
        ]
        keys = {
            "manifest": str(tmp_path / "m.jsonl"),
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
    root = write_veatic(tmp_path / "set", video, ids=(0, 1))
    assert main(["index", "veatic", str(root), "-o", str(tmp_path / "m.jsonl")]) == 0
    assert "index: 4 clips in" in capsys.readouterr().out
    assert trained()["n_frames"] == 2 * 9  # the last 30 % of 30 frames, twice
