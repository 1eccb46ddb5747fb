from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from features.clip import Clip
from features.manifest.labels import Labels, write_labels
from features.manifest.manifest import write_manifest
from flows.command.main import main
from flows.demo import controls
from models.metrics.scores import SplitScore

pytestmark = pytest.mark.slow


@pytest.fixture
def manifest(tmp_path, make_crops):
    """Three clips of one split, with crops and labels."""
    clips = []
    for k, name in enumerate("abc"):
        make_crops([1, 2], f"crops-{name}", seed=k, side_px=112)
        write_labels(tmp_path / f"{name}.txt", Labels(np.full((9, 2), k / 10), np.ones(9, bool)))
        media = {"video": f"{name}.mp4", "frames": f"crops-{name}"}
        clips.append(Clip(id=name, **media, labels=f"{name}.txt", split="train"))
    write_manifest(tmp_path / "manifest.jsonl", clips)


def test_each_control_trains_on_its_own_manifest_and_modality(manifest, tmp_path, monkeypatch):
    calls: list[dict] = []

    def pipeline(**keys):
        calls.append(keys)
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
        "map_in_processes",
        lambda _, runs: (
            calls.append(keys) or SplitScore(0.0, 0.0, next(means), 9, 2, 0, 1, *[None] * 6)
            for keys in runs
        ),
    )
    keys = {"manifest": tmp_path / "manifest.jsonl", "store": "s.zarr", "encoders": ()}
    console = Console(quiet=True)
    assert controls.CONTROLS["face"](console, tmp_path, keys)[1] == 0.2
    assert calls[-1]["head"].fusion == "visual"
    assert calls[-1]["manifest"] == tmp_path / "control-face.jsonl"
    assert controls.CONTROLS["voice"](console, tmp_path, keys)[1] == 0.2
    assert calls[-1]["head"].fusion == "audio"
    assert calls[-1]["train"].loss.region_weight == 0
    assert controls.CONTROLS["labels"](console, tmp_path, keys)[1] == pytest.approx(0.3)
    manifests = [calls[k]["manifest"] for k in range(-5, 0)]
    assert len({path.read_text() for path in manifests}) == 5
    labels = {(path.with_suffix("") / "a.txt").read_text() for path in manifests}
    assert len(labels) > 1  # the seeds differ


@pytest.mark.parametrize(("score", "status"), [(0.0999, 0), (0.10, 1), (-0.3, 0)])
def test_a_control_prints_its_score_last_and_fails_unless_it_is_low(
    score, status, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(controls, "prepared", lambda *_: {})
    monkeypatch.setitem(controls.CONTROLS, "voice", lambda *_: ("another's sound", score))
    assert main(["demo", "--folder", str(tmp_path), "--control", "voice"]) == status
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert f"val mean CCC {score:.3f}, wanted below 0.10: " in last
    assert last.endswith("NOT reached") == bool(status)
