"""Rows of `timm` equal those of timm's own transform and model, one picture at a time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from features.clip import Source
from features.encoders.timm import TimmConfig
from features.errors import InputError, WeightsError

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ALIKE = 0.9999  # least cosine to the reference; a grey level of resizing is 4e-3
VIT, NET = "test_vit.r160_in1k", "test_efficientnet.r160_in1k"


def seeded(folder: Path, model: str, **more) -> Path:
    """The weights of a small model of timm, with its classifier."""
    import timm  # takes seconds, in every process that collects tests

    torch.manual_seed(1)
    path = folder / f"{model}.safetensors"
    save_file(timm.create_model(model, **more).state_dict(), path)
    return path


@pytest.fixture(params=[VIT, NET, "test_resnet.r160_in1k"])
def config(request, tmp_path) -> TimmConfig:
    return TimmConfig(model=request.param, weights=seeded(tmp_path, request.param))


def reference(config: TimmConfig, paths: list[Path], **changes) -> np.ndarray:
    import timm

    model = timm.create_model(config.model, num_classes=0).eval()
    own = model.state_dict()
    model.load_state_dict({k: v for k, v in load_file(config.weights).items() if k in own})
    settings = {**timm.data.resolve_model_data_config(model), **changes}
    transform = timm.data.create_transform(**settings)
    with torch.inference_mode():
        return np.stack([model(transform(Image.open(path))[None])[0].numpy() for path in paths])


def least_cosine(found: np.ndarray, wanted: np.ndarray) -> float:
    pair = (torch.from_numpy(np.asarray(each, np.float64)) for each in (found, wanted))
    return float(torch.cosine_similarity(*pair).min())


def test_rows_equal_those_of_timm(config, make_crops, decoder):
    folder = make_crops(list(range(1, 6)), side_px=200)
    encoder = config.build(CPU)
    *items, layout = encoder.read(Source("a", None, folder, None, 10.0), decoder)
    track, _ = encoder.assemble([encoder.encode(item) for item in items], layout)

    paths = sorted(folder.glob("*.jpg"))
    wanted = reference(config, paths)
    assert track.values.shape == wanted.shape
    # around the mean of the rows: those of a network that was not trained are all alike
    centre = wanted.mean(0)
    assert least_cosine(track.values, wanted) > ALIKE
    assert least_cosine(track.values - centre, wanted - centre) > 0.99
    for changes in ({"crop_pct": 0.5}, {"mean": (0.1, 0.1, 0.1)}):
        wrong = reference(config, paths, **changes)
        assert least_cosine(track.values - centre, wrong - centre) < 0.99


def test_preprocessing_and_weights_are_in_the_spec(config, tmp_path):
    import timm

    spec = config.spec()
    settings = timm.data.resolve_model_data_config(timm.create_model(config.model))
    assert spec.preprocessing["size"] == list(settings["input_size"][1:])
    assert spec.preprocessing["crop_pct"] == settings["crop_pct"]
    assert spec.weights_sha256 == hashlib.sha256(config.weights.read_bytes()).hexdigest()
    assert spec.model["name"] == config.model


def test_a_checkpoint_of_training_is_loaded_if_its_digest_is_given(tmp_path):
    weights = load_file(seeded(tmp_path, VIT))
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
    config = TimmConfig(model=VIT, weights=path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"encoders.timm.weights_sha256={digest}"):
        config.spec()
    own = config.model_copy(update={"weights_sha256": digest}).build(CPU).model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in own.items())


def test_weights_by_the_names_that_they_were_published_under_are_renamed(tmp_path):
    weights = load_file(seeded(tmp_path, VIT))
    flat = weights["patch_embed.proj.weight"].flatten(1)  # as the first ViTs had it
    path = tmp_path / "published.safetensors"
    save_file({**weights, "patch_embed.proj.weight": flat}, path)
    own = TimmConfig(model=VIT, weights=path).build(CPU).model.state_dict()
    assert torch.equal(own["patch_embed.proj.weight"], weights["patch_embed.proj.weight"])


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("test_vitt", InputError, "knows no such model; the nearest are test_vit"),
        ("test_vit.nope", InputError, "Invalid pretrained tag .* with a tag are test_vit.r160"),
        (NET, WeightsError, "lacks .* of the .* weights of .*; give the weights of this model"),
    ],
)
def test_a_wrong_model_is_refused(tmp_path, model, error, message):
    config = TimmConfig(model=model, weights=seeded(tmp_path, VIT))
    with pytest.raises(error, match=message):
        config.build(CPU)


def test_weights_that_are_missing_damaged_or_too_many_are_refused(tmp_path):
    path = seeded(tmp_path, VIT)
    with pytest.raises(WeightsError, match="is no file; give a state dict of 'test_vit"):
        TimmConfig(model=VIT, weights=tmp_path / "none.safetensors").spec()
    weights = load_file(path)
    save_file({**weights, "decoder.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="has 1 weights that .* does not have: decoder.weight"):
        TimmConfig(model=VIT, weights=path).build(CPU)
    del weights["norm.bias"]
    save_file(weights, path)
    with pytest.raises(WeightsError, match="lacks 1 of .*: norm.bias"):
        TimmConfig(model=VIT, weights=path).build(CPU)
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="holds no weights of 'test_vit"):
        TimmConfig(model=VIT, weights=path).build(CPU)


def test_a_preprocessing_that_is_not_supported_is_refused(tmp_path):
    import timm

    name = next(n for n in timm.list_models() if timm.get_pretrained_cfg(n).crop_mode == "border")
    with pytest.raises(InputError, match="supported are three channels, the crop modes center"):
        TimmConfig(model=name, weights=seeded(tmp_path, VIT)).spec()
