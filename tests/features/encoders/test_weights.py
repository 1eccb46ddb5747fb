import hashlib
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from transformers import ASTModel

from features.clip import Clip
from features.encoders import weights
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig, load_clip
from features.encoders.weights import WeightsFile
from features.errors import WeightsError
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.manifest.manifest import write_manifest
from tests.helpers.small_media import tone

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture
def clip_config(tiny_clip, tmp_path) -> ClipConfig:
    """A CLIP whose file of weights no other test has hashed."""
    path = shutil.copyfile(tiny_clip["pretrained"], tmp_path / "own.safetensors")
    return ClipConfig(model=tiny_clip["model"], pretrained=str(path))


@pytest.fixture
def ast_config(tiny_ast, tmp_path) -> AstConfig:
    return AstConfig(model=str(shutil.copytree(tiny_ast, tmp_path / "own-ast")), hop_s=0.64)


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the files of weights that are hashed."""
    names: list[str] = []

    def sha256_of(path: Path) -> str:
        names.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(weights, "sha256_of", sha256_of)
    return names


def test_a_run_hashes_each_file_of_weights_once(
    clip_config, ast_config, make_video, tmp_path, hashed
):
    make_video(sound=tone(2))
    write_manifest(
        tmp_path / "m.jsonl", [Clip(id="a", subject="s", split="train", video="clip.mp4")]
    )
    result = extract_features(
        tmp_path / "m.jsonl",
        ExtractionOptions(str(tmp_path / "s.zarr"), (clip_config, ast_config), device="cpu"),
    )
    assert [outcome.state for outcome in result.outcomes] == ["extracted", "extracted"]
    assert sorted(hashed) == ["model.safetensors", "own.safetensors"]


def test_spec_encoder_and_text_tower_share_one_hash(clip_config, hashed):
    spec = clip_config.spec()
    assert clip_config.build(CPU).spec == spec
    assert load_clip(clip_config).weights_sha256 == spec.weights_sha256
    assert hashed == ["own.safetensors"]


def test_a_file_that_changed_is_hashed_again(tmp_path, hashed):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"one")
    first = WeightsFile.of(path)
    path.write_bytes(b"another")
    second = WeightsFile.of(path)
    assert second.sha256 == hashlib.sha256(b"another").hexdigest() != first.sha256
    assert len(hashed) == 2
    second.check_unchanged()
    with pytest.raises(WeightsError, match="changed while it was loaded; run the same again"):
        first.check_unchanged()


def test_weights_that_change_while_they_are_loaded_are_refused(
    clip_config, ast_config, monkeypatch
):
    create_model, from_pretrained = open_clip.create_model, ASTModel.from_pretrained

    def touch(path: str) -> None:
        Path(path).write_bytes(Path(path).read_bytes())

    def create_and_touch(name, *, pretrained, **settings):
        model = create_model(name, pretrained=pretrained, **settings)
        touch(pretrained)
        return model

    def load_and_touch(folder, **settings):
        loaded = from_pretrained(folder, **settings)
        touch(f"{folder}/model.safetensors")
        return loaded

    monkeypatch.setattr(open_clip, "create_model", create_and_touch)
    monkeypatch.setattr(ASTModel, "from_pretrained", load_and_touch)
    for config in (clip_config, ast_config):
        with pytest.raises(WeightsError, match="changed while it was loaded"):
            config.build(CPU)
