"""Every encoder that `features/encoder_kinds.py` lists keeps the contract."""

import pytest
import torch
from safetensors.torch import save_file

from features.encoder_kinds import KINDS, config_of
from features.encoders.speech_model import NETWORKS
from features.extraction.encoder_contract import check_encoder
from tests.helpers.small_speech import write_speech
from tests.helpers.small_whisper import write_whisper

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny_timm(tmp_path_factory):
    import timm  # takes seconds, in every process that collects tests

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "vit.safetensors"
    save_file(timm.create_model("test_vit.r160_in1k").state_dict(), path)
    return {"model": "test_vit.r160_in1k", "weights": path}


@pytest.fixture
def keys_of(tiny_clip, tiny_ast, tiny_timm, tmp_path):
    """Keys of a small model of a kind; kinds without weights need none."""
    keys = {"clip": tiny_clip, "ast": {"model": tiny_ast, "hop_s": 0.64}, "timm": tiny_timm}

    def of(kind: str) -> dict:
        if kind in NETWORKS:
            return {"model": write_speech(tmp_path, kind), "window_s": 1, "hop_s": 0.5}
        if kind == "whisper":
            return {"model": write_whisper(tmp_path), "window_s": 2, "hop_s": 1}
        if kind == "egemaps":
            pytest.importorskip("opensmile")
        return keys.get(kind, {})

    return of


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "faces"])
def test_an_encoder_keeps_the_contract(kind, keys_of):
    checks = check_encoder(config_of(kind)(**keys_of(kind)))
    assert [check for check in checks if check.problem] == []
    assert len(checks) == 8


def _break(target, name, replacement):
    """The class with one method replaced."""
    return type(target.__name__, (target,), {name: replacement})


@pytest.mark.parametrize(
    ("name", "replacement", "problem"),
    [
        ("blank", lambda self, n: torch.zeros(n, 7), "`blank` has"),
        ("encode", lambda self, items: items[:1].float(), "outputs for"),
        (
            "read",
            lambda self, source, decoder: iter([0]),
            "it must yield tensors",
        ),
    ],
)
def test_an_encoder_that_breaks_a_rule_is_told_which(name, replacement, problem):
    from features.encoders.loudness import LoudnessConfig, LoudnessEncoder

    class Broken(LoudnessConfig):
        def build(self, device):
            return _break(LoudnessEncoder, name, replacement)(self, device)

    assert problem in check_encoder(Broken())[-1].problem


def test_an_encoder_that_remembers_the_last_clip_is_refused():
    from features.encoders.loudness import LoudnessConfig, LoudnessEncoder

    class Counting(LoudnessEncoder):
        n_read = 0

        def encode(self, items):
            return super().encode(items) + self.n_read

        def read(self, source, decoder):
            self.n_read += 1
            return super().read(source, decoder)

    class Broken(LoudnessConfig):
        def build(self, device):
            return Counting(self, device)

    assert check_encoder(Broken())[-1].problem
