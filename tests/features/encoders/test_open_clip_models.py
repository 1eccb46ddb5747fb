"""Models of open_clip of other classes, such as a SigLIP, go through the kind `clip`, too."""

import shutil

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP
from PIL import Image
from safetensors.torch import save_file

from features.clip import Source
from features.encoders import clip_model
from features.encoders.clip import ClipConfig, load_clip
from features.errors import WeightsError
from tests.helpers.small_siglip import SIGLIP, small_siglip

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> ClipConfig:
    return small_siglip(tmp_path_factory.mktemp("siglip"))


def test_rows_of_a_siglip_equal_those_of_open_clip(siglip, make_crops, decoder):
    folder = make_crops([1, 2, 3, 4])
    wide = Image.open(folder / "00002.jpg").resize((180, 90))
    wide.save(folder / "00002.jpg", quality=95)
    encoder = siglip.build(CPU)
    *items, layout = encoder.read(Source("a", None, folder, None, 10.0), decoder)
    track, _ = encoder.assemble([encoder.encode(item) for item in items], layout)

    model = load_clip(siglip).model
    assert isinstance(model, CustomTextCLIP)
    cfg = open_clip.transform.PreprocessCfg(size=160, **SIGLIP)
    transform = open_clip.transform.image_transform_v2(cfg, is_train=False)
    paths = sorted(folder.glob("*.jpg"))
    with torch.inference_mode():
        wanted = torch.cat([model.encode_image(transform(Image.open(p))[None]) for p in paths])
    found = torch.from_numpy(track.values.astype(np.float32))
    assert float(torch.cosine_similarity(found, wanted).min()) > 0.9999
    centred = found - wanted.mean(0), wanted - wanted.mean(0)
    assert float(torch.cosine_similarity(*centred).min()) > 0.99


def test_the_text_tower_of_a_siglip_has_its_own_tokenizer(siglip):
    loaded = load_clip(siglip)
    tokens = loaded.tokenizer(["a happy face"])
    assert tokens.shape == (1, 64)
    assert tokens[0, :3].tolist() == [3, 4, 6]
    with torch.inference_mode():
        features = loaded.model.encode_text(loaded.tokenizer(["a happy face", "a sad face"]))
    assert features.shape == (2, 64)


def test_a_tokenizer_that_is_not_there_is_named_with_what_to_do(tmp_path):
    config = small_siglip(tmp_path)
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(WeightsError, match=r"the tokenizer of 'siglip-.*which region prompts need"):
        load_clip(config)


def test_the_preprocessing_is_in_the_spec(siglip):
    plain = siglip.model_copy(update={"preprocessing": None})
    assert siglip.spec().preprocessing["resize_mode"] == "squash"
    assert plain.spec().preprocessing["resize_mode"] == "shortest"
    assert plain.spec().name != siglip.spec().name


@pytest.mark.parametrize(
    ("model", "mean"),
    [("ViT-B-16-SigLIP", 0.5), ("MobileCLIP-S1", 0.0), ("ViT-B-16-quickgelu", 0.48145466)],
)
def test_a_file_of_weights_has_the_preprocessing_of_the_published_ones(tmp_path, model, mean):
    weights = tmp_path / "copy.safetensors"
    save_file({"a": torch.zeros(1)}, weights)
    resolved = clip_model.resolve_clip(model, str(weights), None)
    assert resolved.preprocessing.mean[0] == mean
    assert (resolved.preprocessing.resize_mode == "squash") == ("SigLIP" in model)
