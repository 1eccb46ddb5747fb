import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.nn.adapter import ResidualAdapter, Standardise
from models.regions.prompts import FixedPrompts
from models.training.gradient_paths import check_gradient_paths
from tests.helpers.small_heads import make_batch
from tests.helpers.synthetic import WIDTH_VISUAL
from tests.helpers.two_streams import changed, two_stream_batch

MEMBERS = get_args(get_args(AnyHeadConfig)[0]) or (get_args(AnyHeadConfig)[0],)
CONFIGS = Path(__file__).parents[3] / "configs" / "heads"
HEAD_CONFIG = TypeAdapter(AnyHeadConfig)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(config_type):
    return config_type(width=32)  # narrower, all ReLUs of `released` may be shut


@pytest.mark.parametrize("config_type", MEMBERS, ids=lambda c: c.__name__)
def test_head_contract(config_type, inputs):
    head = small(config_type).build(inputs).eval()
    batch = make_batch()
    output = head(batch, head.prototypes())
    predicted = 11 if config_type().windows == "dense" else 1
    assert output.va.shape == (3, predicted, 2)
    assert output.va.isfinite().all()
    assert output.regions.logits.shape == (3, predicted, 9)
    spoiled = changed(
        batch,
        visual=batch["visual"].values.masked_fill(~batch["visual"].valid.unsqueeze(-1), 1e6),
        audio=batch["audio"].values.masked_fill(~batch["audio"].valid.unsqueeze(-1), 1e6),
    )
    torch.testing.assert_close(head(spoiled).va, output.va)  # blind to what is behind the mask
    assert head(batch).regions is None
    torch.testing.assert_close(head(batch).va, output.va, rtol=0, atol=0)
    alone = two_stream_batch(
        batch["visual"].values[:1],
        batch["visual"].valid[:1],
        batch["audio"].values[:1],
        batch["audio"].valid[:1],
    )
    torch.testing.assert_close(head(alone).va[0], output.va[0])  # windows do not mix


@pytest.mark.parametrize("config_type", MEMBERS, ids=lambda c: c.__name__)
def test_both_modalities_are_read(config_type, inputs):
    head = small(config_type).build(inputs).eval()
    batch = make_batch()
    seen = head(batch).va
    quiet = changed(batch, audio=torch.zeros_like(batch["audio"].values))
    dark = changed(batch, visual=torch.zeros_like(batch["visual"].values))
    assert (head(quiet).va[0] - seen[0]).abs().max() > 1e-4
    assert (head(dark).va[0] - seen[0]).abs().max() > 1e-4
    torch.testing.assert_close(head(quiet).va[1], seen[1])  # it had no sound before either


def test_visual_alone_is_deaf_and_audio_alone_is_blind(inputs):
    batch = make_batch()
    quiet = changed(
        batch,
        audio=torch.zeros_like(batch["audio"].values),
        audio_valid=batch["audio"].valid & False,
    )
    dark = changed(
        batch,
        visual=batch["visual"].values * 0,
        visual_valid=batch["visual"].valid & False,
    )
    visual = DsplConfig(width=8, fusion="visual").build(inputs).eval()
    assert torch.equal(visual(quiet).va, visual(batch).va)
    assert (visual(dark).va[0] - visual(batch).va[0]).abs().max() > 1e-4
    check_gradient_paths(visual, batch)
    sound = DsplConfig(width=8, fusion="audio").build(inputs).eval()
    assert torch.equal(sound(dark).va, sound(batch).va)
    assert (sound(quiet).va[0] - sound(batch).va[0]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "config_type",
    [c for c in MEMBERS if not c().allow_ineffective_region_loss],
    ids=lambda c: c.__name__,
)
def test_the_region_loss_of_every_head_reaches_v_and_a(config_type, inputs):
    head = small(config_type).build(inputs)
    check_gradient_paths(head, make_batch())  # raises where it reaches none
    regions = head(make_batch(), head.prototypes()).regions
    regions.logits[regions.valid].log_softmax(-1)[:, 0].sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in head.adapter.parameters())


def test_a_region_loss_that_leaves_the_output_alone_is_refused(inputs):
    head = DsplConfig(width=8, region_on="frozen", prompts=FixedPrompts()).build(inputs)
    with pytest.raises(ValueError, match="region loss reaches no parameter of the V/A output"):
        check_gradient_paths(head, make_batch())


def test_learned_prompts_on_the_frozen_embedding_are_refused_too(inputs):
    # context and scale are trained by it, and V and A read neither
    head = DsplConfig(width=8, region_on="frozen").build(inputs)
    with pytest.raises(ValueError, match="region_on=adapted"):
        check_gradient_paths(head, make_batch())


def test_a_gradient_that_is_always_zero_does_not_count(inputs):
    head = DsplConfig(width=8).build(inputs)
    head.standards[0].inverse = lambda z: 0 * z + 1
    with pytest.raises(ValueError, match="region loss reaches no parameter of the V/A output"):
        check_gradient_paths(head, make_batch())


def test_gradient_paths_need_a_face(inputs):
    batch = make_batch()
    faceless = changed(batch, visual_valid=torch.zeros_like(batch["visual"].valid))
    with pytest.raises(ValueError, match="no row of the batch has a face"):
        check_gradient_paths(DsplConfig(width=8).build(inputs), faceless)


def test_checking_the_gradient_paths_draws_nothing(inputs):
    head = DsplConfig(width=8).build(inputs)
    before = torch.get_rng_state()
    check_gradient_paths(head, make_batch())
    assert torch.equal(torch.get_rng_state(), before)


def test_region_logits_by_hand(inputs):
    head = DsplConfig(width=8).build(inputs).eval()
    with torch.no_grad():
        head.adapter.up.weight.normal_()
    batch = make_batch()
    prototypes = head.prototypes()
    found = head(batch, prototypes).regions.logits[0, 0].detach().numpy()
    raw = batch["visual"].values[0, 0].numpy()
    mean, std = inputs.streams["visual"].mean.numpy(), inputs.streams["visual"].std.numpy()
    z = (raw - mean) / std
    p = {name: value.detach().numpy() for name, value in head.adapter.named_parameters()}
    z = z + p["up.weight"] @ np.maximum(p["down.weight"] @ z + p["down.bias"], 0) + p["up.bias"]
    adapted = mean + std * z
    cosine = prototypes.detach().numpy() @ adapted / np.linalg.norm(adapted)
    np.testing.assert_allclose(found, cosine / 0.07, atol=1e-4)


def test_the_adapter_changes_nothing_at_the_start():
    adapter = ResidualAdapter(6)
    z = torch.randn(4, 6)
    torch.testing.assert_close(adapter(z), z, rtol=0, atol=0)


def test_standardise_and_back():
    standard = Standardise(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(standard(torch.tensor([[3.0, 0.0]])), torch.tensor([[1.0, -0.5]]))
    torch.testing.assert_close(
        standard.inverse(torch.tensor([[1.0, -0.5]])), torch.tensor([[3.0, 0]])
    )
    assert set(standard.state_dict()) == {"mean", "std"}


def test_the_logit_scale_is_clamped(inputs):
    head = DsplConfig(width=8).build(inputs).eval()
    with torch.no_grad():
        head.regions.log_scale.fill_(20.0)
    unit = torch.nn.functional.one_hot(torch.tensor([[0]]), WIDTH_VISUAL).float()
    assert head.regions(unit, unit[0]).item() == pytest.approx(100)


def test_the_gate_weighs_the_image_against_the_audio_stream(inputs):
    # the released code of the paper gives it the image stream twice
    head = DsplConfig(width=8).build(inputs).eval()
    seen = {}
    audio, attention = head.branches["1"]["temporal"], head.fuse.attentions["0"][0]
    audio.register_forward_hook(lambda _, __, output: seen.update(audio=output))
    attention.register_forward_hook(lambda _, __, output: seen.update(image=output))
    head.fuse.gate.register_forward_hook(
        lambda _, given, __: seen.update(image_in=given[0][0], audio_in=given[0][1])
    )
    head(make_batch())
    assert torch.equal(seen["image_in"], seen["image"])
    assert torch.equal(seen["audio_in"], seen["audio"])


def test_a_misspelt_kind_is_answered_with_the_valid_ones():
    with pytest.raises(ValidationError, match=r"'dpsl'.* does not match any of .*'dspl'"):
        HEAD_CONFIG.validate_python({"kind": "dpsl"})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        HEAD_CONFIG.validate_python({"kind": "dspl", "widht": 8})


def test_the_recommended_head_is_the_default_one():
    assert (
        HEAD_CONFIG.validate_python(yaml.safe_load((CONFIGS / "dspl.yaml").read_text()))
        == DsplConfig()
    )


def test_the_file_of_the_released_head_is_the_preset():
    fields = yaml.safe_load((CONFIGS / "released.yaml").read_text())
    assert fields.keys() == ReleasedConfig.model_fields.keys()
    assert HEAD_CONFIG.validate_python(fields) == ReleasedConfig()


def test_the_file_of_the_released_head_names_its_trainer():
    text = (CONFIGS / "released.yaml").read_text()
    for key, value in ReleasedConfig.trainer.items():
        shown = {None: "null", True: "true", 1e-4: "0.0001"}.get(value, value)
        shown = f"{shown:g}" if isinstance(shown, float) else shown
        assert re.search(rf"^#  .*\b{key}: {shown}( |,|$)", text, re.MULTILINE), key


def test_weights_with_the_tensor_names_of_the_version_before_are_loaded(inputs):
    config = DsplConfig(width=8, skip_dropout=0.0)
    head, other = config.build(inputs), config.build(inputs)
    renamed = {
        "prompts.": "bank.",
        "fuse.gate.projections.0.": "fuse.gate.image.",
        "fuse.gate.projections.1.": "fuse.gate.audio.",
        "fuse.gate.gate_mlp.": "fuse.gate.weigh.",
        "fuse.attentions.0.0.": "fuse.attention.",
        "standards.0.": "standard_visual.",
        "standards.1.": "standard_audio.",
        "branches.0.": "visual.",
        "branches.1.": "audio.",
        "skips.0.linears.": "skip_visual.of_span.",
        "skips.1.linears.": "skip_audio.of_span.",
    }
    old = head.state_dict()
    for new, before in renamed.items():
        names = [name for name in old if name.startswith(new)]
        assert names
        for name in names:
            old[before + name.removeprefix(new)] = old.pop(name)

    other.load_state_dict(old)

    for name, weight in head.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
