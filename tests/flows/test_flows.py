"""Each flow once through a temporary Prefect server, and the schemas that it shares."""

import dataclasses
import inspect
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from features.clip import Clip
from features.encoders.ast import AstConfig
from features.errors import Incomplete
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult
from features.manifest.manifest import write_manifest
from features.media.limits import DecodeLimits
from flows.extract import extract_features
from flows.keys.help import known_keys, with_help
from flows.keys.signature import HOOK, keys_of
from flows.pipeline import pipeline
from flows.stage_flow import train_ensemble
from flows.stage_functions import STAGES, stage_function
from flows.stages import feature_sets_of
from models.baselines.mean import MeanConfig
from models.heads.dspl import DsplConfig
from models.metrics.scores import SplitScore
from models.regions.prompts import FixedPrompts
from models.stages.score_head import ScoreResult
from models.stages.train_head import TrainResult
from models.training.config import EpochResult, TrainConfig
from tests.helpers.small_media import tone

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCORE = SplitScore(0.2, 0.4, 0.3, 10, 2, 0, 2, *[None] * 6)
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def flow_of(entrypoint: str):
    module, name = entrypoint.rsplit(".", 1)
    return getattr(import_module(module), name)


FLOWS = {flow.name: flow for flow in (flow_of(d["entrypoint"]) for d in DEPLOYMENTS)}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"])
def test_the_parameters_of_a_deployment_are_valid(deployment):
    flow_of(deployment["entrypoint"]).validate_parameters(deployment["parameters"])


@pytest.mark.parametrize("name", STAGES)
def test_a_flow_has_the_keys_types_and_defaults_of_its_stage(name):
    keys = keys_of(stage_function(name))
    parameters = inspect.signature(FLOWS[name].fn).parameters
    assert list(parameters) == list(keys)
    for key, parameter in parameters.items():
        assert parameter.default == keys[key].default, key
        if key != "encoders":  # without its least number in the flow extract-features
            assert parameter.annotation == keys[key].annotation, key


OTHER_VALUES = {  # none is the default of its key
    "manifest": Path("m.jsonl"),
    "store": "s.zarr",
    "run": Path("r"),
    "head": DsplConfig(width=16),
    "train": TrainConfig(epochs=2),
    "streams": {"face": "clip-other", "voice": "ast-other"},
    "max_length_mismatch": 7,
    "force": True,
    "frames": "whole",
    "crops": Path("crops"),
    "folds": 3,
    "over": "train",
    "split": "test",
    "sample": Path("sample.txt"),
    "baselines": (MeanConfig(),),
    "output": Path("b.json"),
    "prompts": FixedPrompts(control="permuted"),
    "scale": 20.0,
    "width_s": 1.0,
    "match": "published",
    "variants": "modality",
    "seeds": 2,
    "people": (3,),
    "noise": (0.5,),
    "draws": 2,
    "space": "mine.yaml",
    "trials": 3,
    "generation": 2,
    "prune_after": 5,
    "workers": 4,
    "device": "cpu",
    "batch_size": 3,
    "readers": 5,
    "limits": DecodeLimits(streams=3),
    "only": ("c0",),
    "failed": True,
    "videos": ("a.mp4",),
    "zero_shot": True,
    "affine": Path("zero_shot.json"),
    "predict.people": 2,
    "format": "json",
    "overlay": True,
    "encoders": (AstConfig(hop_s=0.64),),
    "dry_run": False,  # a dry run is another function, see below
    "runner": "dask",
    "scheduler": "tcp://127.0.0.1:1",
}


class Reached(Exception):
    """Raised by what stands for a stage, so that nothing after it runs."""


def recorder(function, received: dict):
    """A function with the signature of a stage that records the keys it is called with."""

    def record(*args, **kwargs):
        received.update(inspect.signature(function).bind(*args, **kwargs).arguments)
        raise Reached

    record.__signature__ = inspect.signature(function)
    return record


def hooks_left_out(received: dict) -> dict:
    return {key: value for key, value in received.items() if not key.startswith(HOOK)}


ONE_TASK = {
    "train-head": "models.stages.train_head.train_head",
    "train-ensemble": "models.stages.train_ensemble.train_ensemble",
    "score-head": "models.stages.score_head.score_head",
    "baselines": "models.stages.baselines.score_baselines",
    "predict": "models.stages.predict.predict",
    "zero-shot": "models.stages.zero_shot.zero_shot",
    "ablate": "models.stages.ablate.ablate",
    "learning-curve": "models.stages.learning_curve.learning_curve",
    "sweep": "models.stages.sweep.sweep",
}


@pytest.mark.parametrize("name", ONE_TASK)
def test_every_key_of_a_flow_reaches_the_stage(server, name, monkeypatch):
    names = keys_of(stage_function(name))
    keys = {key: OTHER_VALUES.get(f"{name}.{key}") or OTHER_VALUES[key] for key in names}
    received = {}
    monkeypatch.setattr(ONE_TASK[name], recorder(stage_function(name), received))
    with pytest.raises(Reached):
        FLOWS[name](**keys)
    assert hooks_left_out(received) == keys


OPTIONS = [field.name for field in dataclasses.fields(ExtractionOptions)]


@pytest.fixture
def extraction_keys(tiny_ast) -> dict:
    """A value other than the default for each key of extract-features."""
    encoders = (AstConfig(model=tiny_ast, hop_s=0.64),)
    names = keys_of(stage_function("extract-features"))
    return {key: OTHER_VALUES[key] for key in names if key != "encoders"} | {"encoders": encoders}


@pytest.mark.parametrize(
    ("is_flow", "changes", "function"),
    [
        (True, {"dry_run": True}, "flows.extract.plan_dry_run"),
        (True, {"runner": "local"}, "flows.extract.plan_extraction"),
        (False, {"dry_run": True}, "flows.stages.plan_dry_run"),
        (False, {"runner": "local"}, "features.extraction.extract.extract_features"),
        (False, {"runner": "dask"}, "flows.dask.shards.extract_on_dask"),
    ],
)
def test_every_key_of_extract_features_reaches_the_extraction(
    server, extraction_keys, monkeypatch, is_flow, changes, function
):
    received = {}

    def record(manifest, options, **others):
        received.update({"manifest": manifest, **others})
        received.update({name: getattr(options, name) for name in OPTIONS})
        raise Reached

    monkeypatch.setattr("flows.extract.read_manifest", lambda path: path)
    monkeypatch.setattr(function, record)
    keys = extraction_keys | changes
    stage = "extract-features"
    with pytest.raises(Reached):
        (FLOWS[stage] if is_flow else stage_function(stage))(**keys)
    wanted = ["manifest", *OPTIONS]
    if changes == {"runner": "dask"}:
        wanted += ["scheduler", "workers"]
    assert {name: received[name] for name in wanted} == {name: keys[name] for name in wanted}


@pytest.mark.parametrize("last", ["n_workers_of", "cluster"])
def test_the_flow_asks_the_scheduler_and_for_the_workers_of_its_keys(
    server, extraction_keys, monkeypatch, last
):
    received = []

    def record(*keys):
        received.extend(keys)
        raise Reached

    monkeypatch.setattr("flows.extract.read_manifest", lambda path: path)
    monkeypatch.setattr("flows.extract.plan_extraction", lambda *_: None)
    monkeypatch.setattr("flows.dask.cluster.n_workers_of", lambda *_: 1)
    monkeypatch.setattr("flows.extract.plan_shards", lambda *_: ("a shard",))
    monkeypatch.setattr(f"flows.dask.cluster.{last}", record)
    with pytest.raises(Reached):
        extract_features(**extraction_keys)
    assert received == [extraction_keys["scheduler"], extraction_keys["workers"]]


class FakeStage:
    """Stands for a stage in the pipeline and keeps the keys that it is called with."""

    def __init__(self, name: str, result: object) -> None:
        self.fn, self.result = stage_function(name), result
        self.__signature__ = inspect.signature(self.fn)
        self.received: dict = {}

    def __call__(self, *args, **kwargs):
        keys = inspect.signature(self.fn).bind(*args, **kwargs).arguments
        self.received = {key: value for key, value in keys.items() if not key.startswith(HOOK)}
        return self.result


@pytest.mark.parametrize("module", ["flows.pipeline", "flows.stages"])
def test_every_key_of_the_pipeline_reaches_its_stages(server, extraction_keys, monkeypatch, module):
    keys = {
        key: extraction_keys.get(key, OTHER_VALUES.get(key))
        for key in keys_of(stage_function("pipeline"))
    }
    extraction = ExtractionResult((), 0.0)
    stages = {
        "extract_features": FakeStage("extract-features", extraction),
        "train_head": FakeStage("train-head", None),
        "score_head": FakeStage("score-head", None),
    }
    for name, stage in stages.items():
        monkeypatch.setattr(f"{module}.{name}", stage)
    monkeypatch.setattr("flows.pipeline.publish_training", lambda *_, **__: None)
    run = FLOWS["pipeline"] if module == "flows.pipeline" else stage_function("pipeline")
    run(**keys)
    streams = feature_sets_of(keys["manifest"], keys["encoders"], keys["frames"])
    for name, stage in stages.items():
        wanted = {key: keys[key] for key in keys_of(stage.fn) if key in keys}
        assert stage.received == wanted | ({"streams": streams} if name == "train_head" else {}), (
            name
        )
    assert {key for stage in stages.values() for key in stage.received} >= keys.keys()


def test_every_key_has_help_and_no_other_has():
    assert known_keys() == {key for name in STAGES for key in keys_of(stage_function(name))}


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
    keys = {
        "manifest": two_clips,
        "store": str(tmp_path / "s.zarr"),
        "encoders": encoders,
        "frames": "whole",
    }
    with pytest.raises(Incomplete, match="1 extracted, .* 1 quarantined"):
        extract_features(**keys)
    assert (tmp_path / "s.zarr").exists()
    write_manifest(two_clips, [Clip(id="good", video="good.mp4", split="train")])
    assert extract_features(**keys) == {"present": 1}


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
        "frames": "whole",  # they show colours
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
    for where in (
        "flows.stage_flow.publish_training",
        "flows.stage_flow.publish_score",
        "flows.pipeline.publish_training",
    ):
        name = where.rpartition(".")[2]

        def leave(*given, name=name, **more):
            left.append((name, *given, *more.items()))

        monkeypatch.setattr(where, leave)
    trained = TrainResult("present", tmp_path, (), EpochResult(0, 1.0, 0.2, 0.4, 0.3))
    scored = ScoreResult("present", tmp_path, "val", SCORE, ())
    monkeypatch.setattr("flows.pipeline.extract_features", FakeStage("extract-features", {}))
    monkeypatch.setattr(ONE_TASK["train-head"], lambda **_: trained)
    monkeypatch.setattr(ONE_TASK["score-head"], lambda **_: scored)

    encoders = [{"kind": "ast", "model": tiny_ast, "hop_s": 0.64}]
    pipeline(manifest=tmp_path / "m", store="s", run=tmp_path, encoders=encoders)

    assert left == [
        ("publish_training", tmp_path),
        ("publish_score", scored, tmp_path / "m", "s"),
        ("publish_training", tmp_path, tmp_path / "m", "s", ("split", "val"), ("ccc_mean", 0.3)),
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
    assert said["streams"]["description"].endswith("null: every set of the store.")


def test_a_key_without_help_is_refused():
    def flow_function(mnaifest: int) -> None: ...

    with pytest.raises(KeyError, match="mnaifest"):
        with_help(flow_function)
