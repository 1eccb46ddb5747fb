import hashlib
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from transformers import ASTModel

from features.clip import Clip
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig, load_clip
from features.errors import WeightsError
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.manifest.manifest import write_manifest
from features.system import weights_file
from features.system.weights_file import WeightsFile
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

    monkeypatch.setattr(weights_file, "sha256_of", sha256_of)
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


class Net(torch.nn.Module):
    """A network of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows)


def refused(tiny_clip: dict[str, str], path: Path) -> str:
    """The reason why a file is refused whose digest is given, without torch's advice."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    config = ClipConfig(model=tiny_clip["model"], pretrained=str(path), weights_sha256=digest)
    with pytest.raises(WeightsError) as raised:
        config.build(CPU)
    reason = str(raised.value)
    assert not [advice for advice in ("weights_only", "safe_globals", "2.6") if advice in reason]
    return reason


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_torchscript_archive_is_refused_and_the_remedy_works(tiny_clip, tmp_path, name):
    path = tmp_path / name
    torch.jit.save(torch.jit.trace(Net().eval(), torch.zeros(1, 2)), path)
    reason = refused(tiny_clip, path)
    assert f"{path} is a TorchScript archive (torch.jit.save): a program, which is not" in reason
    assert "give a state dict, as a .safetensors or .pt file" in reason
    with pytest.raises(WeightsError, match="is a TorchScript archive"):
        ClipConfig(model=tiny_clip["model"], pretrained=str(path)).spec()  # without a digest, too
    remedy = reason.split("made with ")[1].replace("weights.pt", str(tmp_path / "state.pt"))
    exec(remedy, {"torch": torch})
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert list(state) == ["layer.weight", "layer.bias"]


def test_a_pickle_of_a_whole_network_is_refused_with_the_class_and_a_remedy(tiny_clip, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    reason = refused(tiny_clip, tmp_path / "w.pt")
    assert "nor a pickle of weights alone: it has an object of torch.nn.modules.linear" in reason
    assert "give a state dict, as a .safetensors or .pt file; one is made with torch.s" in reason


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {}])
def test_a_pickle_without_names_of_tensors_is_refused(tiny_clip, tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    assert "it has no tensors by name; give a state dict" in refused(tiny_clip, tmp_path / "w.pt")


def test_a_state_dict_is_not_taken_for_torchscript(tiny_clip, tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pt")
    assert "holds no weights of" in refused(tiny_clip, tmp_path / "w.pt")
