"""Every YAML of the project is accepted by what reads it, and every document tells the truth."""

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from features.datasets import dataset
from features.encoders import AnyEncoderConfig
from flows.keys.settings import settings
from flows.stage_functions import STAGES, stage_function
from models.heads import AnyHeadConfig

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def files(folder: str) -> list[Path]:
    return sorted((CONFIGS / folder).glob("*.yaml"))


def test_every_folder_of_configs_is_loaded_by_a_test():
    tested = {"ablations", "datasets", "encoders", "experiments", "heads", "prompts", "sweeps"}
    assert {path.parent.name for path in CONFIGS.rglob("*.yaml")} == tested


@pytest.mark.parametrize("path", files("encoders"), ids=lambda path: path.stem)
def test_encoder_configs_are_valid(path):
    written = yaml.safe_load(path.read_text())["encoders"]
    read = TypeAdapter(tuple[AnyEncoderConfig, ...]).validate_python(written)
    for config, keys in zip(read, written, strict=True):
        assert keys.items() <= config.model_dump(mode="json").items()
    assert {config.modality for config in read} == {"visual", "audio"}


@pytest.mark.parametrize("path", files("datasets"), ids=lambda path: path.stem)
def test_data_set_configs_have_every_key(path):
    keys = yaml.safe_load(path.read_text())
    config = dataset(path.stem, Path("root"), **keys)
    assert keys.keys() == type(config).model_fields.keys() - {"kind", "root", "allow_outside"}


@pytest.mark.parametrize("path", files("heads"), ids=lambda path: path.stem)
def test_head_configs_are_valid(path):
    written = yaml.safe_load(path.read_text())
    read = TypeAdapter(AnyHeadConfig).validate_python(written).model_dump(mode="json")
    assert {key: read[key] for key in written} == written


@pytest.mark.parametrize("path", files("experiments"), ids=lambda path: path.stem)
@pytest.mark.parametrize("stage", STAGES)
def test_experiments_are_taken_by_every_stage(path, stage):
    required = ["output=o"] if stage in ("zero-shot", "predict") else []  # of `baselines`: a file
    required += ["videos=[v.mp4]"] if stage == "predict" else []
    assert settings(stage_function(stage), path, required)


def test_the_demo_and_the_deployments_are_one_experiment():
    demo = yaml.safe_load((CONFIGS / "experiments" / "demo.yaml").read_text())
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        parameters = deployment["parameters"]
        extra = {"runner": "dask", "workers": 2} if deployment["name"] == "dask" else {}
        if deployment["entrypoint"] == "flows.stage_flow.zero_shot":
            extra = {"output": "data/demo/zero-shot"}
        if deployment["entrypoint"] == "flows.stage_flow.predict":
            extra = {"videos": ["data/demo/dataset/videos"], "output": "data/demo/predictions"}
        expected = {key: demo[key] for key in parameters.keys() - extra.keys()} | extra
        own = {
            "flows.stage_flow.train_ensemble": "ensemble",
            "flows.stage_flow.ablate": "ablation",
            "flows.stage_flow.learning_curve": "learning-curve",
            "flows.stage_flow.sweep": "sweep",
        }
        if folder := own.get(deployment["entrypoint"]):
            expected["run"] = f"data/demo/{folder}"  # a head's own takes no other heads
        assert parameters == expected
