"""Each flow once through a temporary Prefect server, and the schemas that it shares."""

import inspect
import json
import logging
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from features.clip import Clip
from features.errors import Incomplete
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore
from flows.dask.cluster import cluster
from flows.ensemble import train_ensemble
from flows.extract import extract_features
from flows.key_help import with_help
from flows.pipeline import pipeline
from flows.score import score_head
from flows.stage_keys import HOOK, parameters
from flows.stages import STAGES
from models.metrics.scores import SplitScore
from models.stages.score_head import ScoreResult
from models.stages.train_head import TrainResult
from models.training.config import EpochResult
from tests.helpers.small_media import tone

ROOT = Path(__file__).parents[2]
SCORE = SplitScore(0.2, 0.4, 0.3, 10, 2, 0, 2, *[None] * 6)
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def flow_of(entrypoint: str):
    module, name = entrypoint.rsplit(".", 1)
    return getattr(import_module(module), name)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"])
def test_deployments_are_valid_and_flows_take_the_keys_of_the_command(deployment):
    flow = flow_of(deployment["entrypoint"])
    flow.validate_parameters(deployment["parameters"])
    plain = STAGES[flow.name]
    wanted = {
        name: parameter.default
        for name, parameter in inspect.signature(plain).parameters.items()
        if not name.startswith(HOOK)
    }
    found = {name: p.default for name, p in inspect.signature(flow.fn).parameters.items()}
    assert found == wanted
    own, shared = inspect.get_annotations(flow.fn), inspect.get_annotations(plain)
    for name in found.keys() - {"encoders"}:  # a sequence in code, a tuple in a flow's schema
        assert own[name] == shared[name], name
    assert ("encoders" in own) == ("encoders" in parameters(plain).model_fields)


def test_the_flow_of_scoring_hands_every_key_on(monkeypatch):
    given = {}
    result = ScoreResult("present", Path("r"), "test", None, ())
    monkeypatch.setattr("flows.score.score_task", lambda **keys: given.update(keys) or result)
    monkeypatch.setattr("flows.score.get_run_logger", logging.getLogger)
    keys = {name: object() for name in inspect.signature(score_head.fn).parameters}
    score_head.fn(**keys)
    assert given == keys


def test_every_stage_is_deployed_by_a_module_path():
    assert {flow_of(d["entrypoint"]).name for d in DEPLOYMENTS} == set(STAGES)
    named = {(flow_of(d["entrypoint"]).name, d["name"]) for d in DEPLOYMENTS}
    assert named == {
        *((name, "local") for name in STAGES),
        ("pipeline", "nightly"),
        ("extract-features", "dask"),
    }
    assert not any(":" in d["entrypoint"] or "/" in d["entrypoint"] for d in DEPLOYMENTS)


@pytest.fixture
def two_clips(tmp_path, make_video):
    """One good clip and one whose video is a text."""
    make_video("good.mp4", time_s=np.arange(20) / 25, sound=tone(0.8))
    (tmp_path / "bad.mp4").write_text("no video")
    clips = [Clip(id=name, video=f"{name}.mp4", split="train") for name in ("bad", "good")]
    write_manifest(tmp_path / "m.jsonl", clips)
    return tmp_path / "m.jsonl"


def test_a_failed_clip_fails_the_flow_after_the_others_are_done(
    server, two_clips, tiny_clip, tmp_path
):
    encoders = [{"kind": "clip", **tiny_clip}]
    with pytest.raises(Incomplete, match="1 extracted, .* 1 quarantined"):
        extract_features(two_clips, str(tmp_path / "s.zarr"), encoders)
    assert (tmp_path / "s.zarr").exists()
    write_manifest(two_clips, [Clip(id="good", video="good.mp4", split="train")])
    assert extract_features(two_clips, str(tmp_path / "s.zarr"), encoders) == {"present": 1}


def test_on_dask_workers_the_flow_gives_the_same_store(server, two_clips, tiny_clip, tmp_path):
    encoders = [{"kind": "clip", **tiny_clip}]
    ends = []
    with cluster(None, 1) as address:
        for runner, name in (("local", "a"), ("dask", "b")):
            store = str(tmp_path / f"{name}.zarr")
            with pytest.raises(Incomplete, match="1 extracted, .* 1 quarantined") as found:
                extract_features(two_clips, store, encoders, runner=runner, scheduler=address)
            ends.append(str(found.value).partition("; these failed")[2])
    assert ends[0] == ends[1]
    (set_name,) = FeatureStore.open(str(tmp_path / "a.zarr")).feature_sets()
    a, b = (FeatureStore.open(str(tmp_path / f"{n}.zarr")).read(set_name, "good") for n in "ab")
    assert a.values.tobytes() == b.values.tobytes()


def test_the_pipeline_leaves_a_run_and_a_second_one_does_nothing(
    server, tmp_path, make_video, tiny_clip, tiny_ast
):
    rng = np.random.default_rng(0)
    clips = []
    for k in range(4):
        make_video(f"c{k}.mp4", time_s=np.arange(30) / 25, sound=tone(1.2, seed=k))
        rows = "".join(f"{v:.3f},{a:.3f}\n" for v, a in rng.uniform(-1, 1, (30, 2)))
        (tmp_path / f"c{k}.txt").write_text("valence,arousal\n" + rows)
        split = "train" if k < 2 else "val"
        clips.append(Clip(id=f"c{k}", video=f"c{k}.mp4", labels=f"c{k}.txt", split=split))
    write_manifest(tmp_path / "m.jsonl", clips)
    keys = {
        "manifest": tmp_path / "m.jsonl",
        "store": str(tmp_path / "s.zarr"),
        "run": tmp_path / "r",
        "encoders": [
            {"kind": "clip", **tiny_clip},
            {"kind": "ast", "model": tiny_ast, "hop_s": 0.64},
        ],
        "head": {"kind": "dspl", "width": 16},
        "train": {"epochs": 2},
    }
    scores = pipeline(**keys)
    assert scores is not None
    assert json.loads((tmp_path / "r" / "scores.json").read_text())["val"] == scores
    before = {
        p: p.stat().st_mtime_ns for p in (tmp_path / "r").iterdir() if p.name != "config.yaml"
    }
    assert {"predictions.csv", "metrics.jsonl", "head.safetensors"} <= {p.name for p in before}
    assert pipeline(**keys) == scores
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_each_flow_of_the_pipeline_leaves_its_artifacts(server, tmp_path, tiny_ast, monkeypatch):
    left = []
    for module in ("train", "score", "pipeline"):
        for name in ("publish_training", "publish_score", "publish_scored"):
            if hasattr(import_module(f"flows.{module}"), name):
                where = f"flows.{module}.{name}"
                monkeypatch.setattr(where, lambda *given, name=name: left.append((name, *given)))
    trained = TrainResult("present", tmp_path, (), EpochResult(0, 1.0, 0.2, 0.4, 0.3))
    scored = ScoreResult("present", tmp_path, "val", SCORE, ())
    monkeypatch.setattr("flows.pipeline.extract_features", lambda *_, **__: {})
    monkeypatch.setattr("flows.train.train_task", lambda *_: trained)
    monkeypatch.setattr("flows.score.score_task", lambda **_: scored)
    pipeline(tmp_path / "m", "s", tmp_path, [{"kind": "ast", "model": tiny_ast, "hop_s": 0.64}])
    assert left == [
        ("publish_training", tmp_path),
        ("publish_score", scored, tmp_path / "m", "s"),
        ("publish_scored", tmp_path, "val", 0.3, tmp_path / "m", "s"),
    ]


def test_no_file_of_flows_is_named_after_a_library():
    names = {path.stem for path in (ROOT / "flows").glob("*.py")}
    assert not names & {"evaluate", "datasets", "features", "models", "prefect", "torch"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"])
def test_the_form_of_a_flow_says_what_each_key_means(deployment):
    schema = parameter_schema(flow_of(deployment["entrypoint"]))
    models = (each["properties"] for each in schema.definitions.values() if "properties" in each)
    for fields in (schema.properties, *models):
        for name, field in fields.items():
            assert field.get("description") or name == "kind", (name, field)
    for name, field in schema.definitions.get("TrainConfig", {}).get("properties", {}).items():
        assert field["title"] == name  # as one types it


def test_a_range_is_told_with_the_help():
    said = parameter_schema(train_ensemble).properties
    assert said["folds"]["description"].endswith("At least 2, at most 20.")
    assert said["max_length_mismatch"]["description"].endswith("At least 0.")
    assert said["visual"]["description"].endswith("only where there are several.")


def test_a_key_without_help_is_refused():
    def flow_function(mnaifest: int) -> None: ...

    with pytest.raises(KeyError, match="mnaifest"):
        with_help(flow_function)
