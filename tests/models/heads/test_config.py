"""Every switch of the head: what it is built of, and what must hold whatever is switched."""

from dataclasses import replace

import pytest
import torch

from models.data.batch import Batch
from models.heads.config import DsplOptions
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.heads.network import DsplHead
from models.nn.cpu_dropout import Dropout
from models.nn.fusion import CrossModalAttention
from models.nn.text_prior import PriorStart
from models.regions.grid import Grid
from models.regions.prompts import CoopCscPrompts, FixedPrompts
from models.regions.zero_shot import Moments, ZeroShotSettings
from models.training.gradient_paths import check_gradient_paths
from tests.helpers.small_heads import make_batch
from tests.helpers.two_streams import changed, two_stream_batch

pytestmark = pytest.mark.slow

SETTINGS = [
    {"temporal": "tcn"},
    {"temporal": "tcn_released"},
    {"fusion_dropout": 0.3},
    {"attention_init": "xavier"},
    {"temporal": "transformer"},
    {"temporal": "transformer", "positions": "learned"},
    {"fusion": "attention"},
    {"fusion": "attention", "query": "all"},
    {"fusion": "gate"},
    {"fusion": "concatenation"},
    {"fusion": "visual"},
    {"text_stream": "visual"},
    {"fusion": "audio", "region_on": "fused"},
    {"query": "audio"},
    {"gate_partner": "first"},
    {"bottleneck": 3},
    {"skip_dropout": 0.5, "skip_spans": (3,)},
    {"inputs": "raw"},
    {"adapter": "none", "region_on": "temporal"},
    {"region_on": "temporal"},
    {"region_on": "fused"},
    {"region_link": "probabilities"},
    {"region_link": "barycentre"},
    {"squash": "tanh"},
    {"logit_scale": 10.0},
    {"prompts": FixedPrompts()},
    {"prompts": CoopCscPrompts()},
    {"windows": "causal"},
    {"windows": "causal", "pooling": "last"},
    {"windows": "causal", "fusion": "concatenation", "skip_dropout": 0.1},
    {"windows": "causal", "fusion": "audio", "region_on": "fused"},
    {"windows": "causal", "fusion": "attention", "query": "audio", "region_on": "fused"},
    {"windows": "causal", "region_link": "probabilities"},
    {"prior": "zero_shot"},
    {"prior": "zero_shot", "prompts": FixedPrompts(), "region_link": "probabilities"},
    {"prior": "zero_shot", "residual": "visual", "skip_dropout": 0.1},
    {"prior": "zero_shot", "residual": "audio"},
    {"prior": "zero_shot", "fusion": "audio"},
    {"prior": "zero_shot", "windows": "causal", "residual": "audio"},
]


def named(settings: dict) -> str:
    return ",".join(f"{k}={getattr(v, 'kind', v)}" for k, v in settings.items())


def causal_batch() -> Batch:
    """Four visual rows and nine of audio; a window without sound, and one without pictures."""
    dense, longer = make_batch(n_rows=11), make_batch(n_rows=11)
    batch = two_stream_batch(
        dense["visual"].values[:, :4],
        dense["visual"].valid[:, :4].clone(),
        longer["audio"].values[:, :9],
        longer["audio"].valid[:, :9],
    )
    batch["visual"].valid[2] = False
    return batch


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
def test_whatever_is_switched_the_head_keeps_its_contract(settings, inputs):
    config = DsplConfig(width=32, dropout=0.0, **settings)  # narrower, all ReLUs may be shut
    torch.manual_seed(0)
    head = config.build(inputs).eval()
    for parameter in head.parameters():  # what is zero at the start would hide a leak
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    batch = make_batch() if config.windows == "dense" else causal_batch()
    output = head(batch, head.prototypes())
    predicted = batch["visual"].values.shape[1] if config.windows == "dense" else 1
    assert output.va.shape == (3, predicted, 2)
    assert output.va.isfinite().all()
    assert output.regions.logits.shape == (3, predicted, 9)
    assert output.regions.logits.isfinite().all()
    spoiled = changed(
        batch,
        visual=batch["visual"].values.masked_fill(~batch["visual"].valid.unsqueeze(-1), 1e6),
        audio=batch["audio"].values.masked_fill(~batch["audio"].valid.unsqueeze(-1), 1e6),
    )
    blind = head(spoiled, head.prototypes())
    torch.testing.assert_close(blind.va, output.va)
    seen = output.regions.valid
    torch.testing.assert_close(blind.regions.logits[seen], output.regions.logits[seen])
    alone = two_stream_batch(
        batch["visual"].values[:1],
        batch["visual"].valid[:1],
        batch["audio"].values[:1],
        batch["audio"].valid[:1],
    )
    torch.testing.assert_close(head(alone).va[0], output.va[0])  # windows do not mix
    check_gradient_paths(head.train(), batch)


def test_every_literal_of_every_switch_is_tried():
    tried = {
        (key, str(getattr(value, "kind", value))) for s in SETTINGS for key, value in s.items()
    }
    default = DsplConfig()
    for name, field in DsplOptions.model_fields.items():
        values = getattr(field.annotation, "__args__", ())
        literals = [value for value in values if isinstance(value, str)]
        for value in literals:
            frozen = (name, value) == ("region_on", "frozen")  # refused: test_heads.py
            assert getattr(default, name) == value or frozen or (name, value) in tried


def test_the_presets_differ_in_these_switches_and_no_other():
    dspl, released = DsplConfig().model_dump(), ReleasedConfig().model_dump()
    differing = {key for key in dspl if dspl[key] != released[key]}
    assert differing == {
        "kind",
        "windows",
        "inputs",
        "adapter",
        "temporal",
        "fusion_dropout",
        "attention_init",
        "gate_partner",
        "region_on",
        "logit_scale",
        "prompts",
    }


def attention_of(head: DsplHead) -> CrossModalAttention:
    """That of the first stream to the second."""
    return head.fuse.attentions["0"][0]


def test_a_dspl_head_with_the_released_switches_is_the_released_head(inputs):
    switched = ReleasedConfig(width=8).model_dump(exclude={"kind"})
    heads = []
    for config in (ReleasedConfig(width=8), DsplConfig(**switched)):
        torch.manual_seed(0)
        heads.append(config.build(inputs).eval())
    released, dspl = heads
    assert torch.equal(released(causal_batch()).va, dspl(causal_batch()).va)
    with pytest.raises(ValueError, match="region loss reaches no parameter of the V/A output"):
        check_gradient_paths(dspl, causal_batch())
    assert ReleasedConfig().allow_ineffective_region_loss
    assert not DsplConfig(**switched).allow_ineffective_region_loss


def test_the_released_head_drops_where_it_was_released_to(inputs):
    head = ReleasedConfig(width=8).build(inputs)
    found = {name: module.p for name, module in head.named_modules() if isinstance(module, Dropout)}
    convolutions = {
        f"branches.{stream}.temporal.blocks.{block}.dropout": 0.1
        for stream in (0, 1)
        for block in (0, 1)
    }
    fusion = {
        "fuse.attentions.0.0.feed_forward.1.1": 0.1,
        "fuse.gate.gate_mlp.1.1": 0.1,
        "fuse.gate.out.2": 0.1,
    }
    assert found == convolutions | fusion | {"va.2": 0.2}
    assert attention_of(head).dropout == 0.1
    plain = DsplConfig(width=8).build(inputs)
    found = {n: module.p for n, module in plain.named_modules() if isinstance(module, Dropout)}
    assert found == {"fuse.gate.out.2": 0.2, "va.2": 0.2}
    assert attention_of(plain).dropout == 0


def test_the_attention_drops_its_weights_in_training_alone(inputs):
    config = DsplConfig(width=8, fusion="attention", fusion_dropout=0.5)
    attention, batch = attention_of(config.build(inputs)), make_batch()
    x, y = torch.randn(3, 11, 8), torch.randn(3, 11, 8)
    attention.feed_forward.eval()
    torch.testing.assert_close(
        attention.eval()(x, y, batch["audio"].valid),
        attention(x, y, batch["audio"].valid),
    )
    attention.train().feed_forward.eval()
    first, second = (attention(x, y, batch["audio"].valid) for _ in range(2))
    assert not torch.equal(first, second)


def test_the_released_attention_starts_as_that_of_torch(inputs):
    attention = attention_of(ReleasedConfig(width=32).build(inputs))
    assert not attention.query.bias.any()
    assert not attention.out.bias.any()
    bound = (6 / (4 * 32)) ** 0.5
    assert attention.query.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
    assert attention_of(DsplConfig(width=32).build(inputs)).query.bias.any()


def test_a_released_config_of_0_1_keeps_its_network(inputs):
    added = {"fusion_dropout", "attention_init"}
    old = ReleasedConfig(width=8, temporal="tcn").model_dump(mode="json", exclude=added)

    head = ReleasedConfig.model_validate(old)

    assert (head.temporal, head.fusion_dropout, head.attention_init) == ("tcn", None, "linear")
    assert ReleasedConfig.model_validate(head.model_dump(mode="json")) == head
    weights = head.build(inputs).state_dict()
    assert "fuse.gate.gate_mlp.2.weight" in weights  # as 0.1 named it
    new = ReleasedConfig(width=8).model_dump(mode="json")
    assert ReleasedConfig.model_validate(new) == ReleasedConfig(width=8)
    assert ReleasedConfig.model_validate({"width": 8, "temporal": "tcn"}).fusion_dropout == 0.1
    renamed = ReleasedConfig(width=8).build(inputs).state_dict().keys() - weights.keys()
    assert {name.split(".temporal.")[-1] for name in renamed} == {"out.weight", "out.bias"}


def test_a_causal_head_reads_its_last_row_and_one_of_an_earlier_version_the_mean():
    causal = DsplConfig(windows="causal")
    earlier = causal.model_dump(mode="json", exclude={"pooling"})

    assert causal.pooling == "last"
    assert DsplConfig.model_validate(earlier).pooling == "mean"
    assert ReleasedConfig().pooling == "mean"


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_causal_window_is_predicted_from_the_mean_or_the_last_of_its_valid_rows(inputs, pooling):
    torch.manual_seed(0)
    config = DsplConfig(width=8, windows="causal", pooling=pooling, fusion="visual", adapter="none")
    head = config.build(inputs).eval()
    batch = causal_batch()
    batch["visual"].valid[0, -1] = False

    def pooled(x: torch.Tensor) -> torch.Tensor:
        valid = x[0][batch["visual"].valid[0]]
        return valid[-1] if pooling == "last" else valid.mean(dim=0)

    z = head.standards[0](batch["visual"].values)
    stream = head.branches["0"]["temporal"](z, batch["visual"].valid)
    torch.testing.assert_close(head(batch).va[0, 0], head.va(pooled(stream)))
    prototypes = head.prototypes()
    embedding = pooled(batch["visual"].values)
    cosine = torch.nn.functional.cosine_similarity(prototypes, embedding[None], dim=-1)
    found = head(batch, prototypes).regions
    torch.testing.assert_close(found.logits[0, 0], cosine / 0.07)
    assert found.valid.tolist() == [[True], [True], [False]]


@pytest.mark.parametrize("fusion", ["visual", "audio"])
def test_rows_that_are_not_valid_are_left_out_of_the_mean_of_a_causal_window(inputs, fusion):
    config = DsplConfig(width=8, windows="causal", pooling="mean", fusion=fusion, adapter="none")
    head, batch = config.build(inputs).eval(), causal_batch()
    batch["visual"].valid[0, 1] = batch["audio"].valid[0, 1] = False
    valid = batch["visual"].valid if fusion == "visual" else batch["audio"].valid
    (branch,) = head.branches.values()
    temporal = branch["temporal"]
    before = head(batch).va[0]

    temporal.register_forward_hook(lambda _, __, states: states + 9 * ~valid.unsqueeze(-1))

    torch.testing.assert_close(head(batch).va[0], before)


@pytest.mark.parametrize("fusion", ["attention_gate", "gate", "concatenation"])
def test_a_causal_window_without_a_face_is_read_from_the_sound(inputs, fusion):
    torch.manual_seed(0)
    head = DsplConfig(width=32, windows="causal", fusion=fusion).build(inputs).eval()
    batch = causal_batch()
    other = changed(batch, audio=batch["audio"].values.roll(1, dims=-1))
    assert not batch["visual"].valid[2].any()
    assert batch["audio"].valid[2].any()
    assert (head(batch).va[2] - head(other).va[2]).abs().min() > 1e-4


@pytest.mark.parametrize("adapter", ["residual", "none"])
def test_the_linear_reading_is_of_the_embedding_before_the_adapter(inputs, adapter):
    torch.manual_seed(0)
    config = DsplConfig(width=8, fusion="visual", adapter=adapter, skip_dropout=0.0, skip_spans=())
    head, batch = config.build(inputs).eval(), make_batch()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    whole = head(batch).va
    skip, z = head.skips["0"], head.standards[0](batch["visual"].values)
    told = skip(z, batch["visual"].valid)
    torch.nn.init.zeros_(skip.linears[0].weight)
    torch.testing.assert_close(whole - head(batch).va, told)


def test_probabilities_of_the_regions_reach_valence_and_arousal(inputs):
    for link in ("probabilities", "barycentre"):
        torch.manual_seed(0)
        head = DsplConfig(width=8, region_link=link).build(inputs).eval()
        batch, prototypes = make_batch(), head.prototypes()
        told = head(batch, prototypes).va
        torch.testing.assert_close(head(batch).va, told)  # they are told of them in any case
        other = head(batch, prototypes.roll(1, dims=0)).va
        seen = batch["visual"].valid
        assert (other[seen] - told[seen]).abs().max() > 1e-4
        torch.testing.assert_close(other[~seen], told[~seen]) if link == "barycentre" else None


def with_prior(inputs, **settings):
    """A head whose prior starts from means of 1 and 5 rows."""
    start = PriorStart(
        ZeroShotSettings(
            scale=(10.0, 40.0),
            found=Moments((0.1, 0.0), (0.1, 0.2)),
            wanted=Moments((0.2, -0.3), (0.4, 0.1)),
        ),
        n_rows=(1, 5),
    )
    torch.manual_seed(0)
    config = DsplConfig(width=32, prior="zero_shot", **settings)
    return config.build(replace(inputs, fit_prior=lambda _: start)).eval()


@pytest.mark.parametrize("settings", [{"skip_dropout": 0.5}, {"residual": "audio"}], ids=named)
@pytest.mark.parametrize("windows", ["dense", "causal"])
def test_a_head_with_a_prior_starts_from_it_alone(inputs, windows, settings):
    head = with_prior(inputs, windows=windows, **settings)
    batch = make_batch() if windows == "dense" else causal_batch()
    prior = head.prior(batch["visual"].values, batch["visual"].valid, head.prototypes())
    assert torch.equal(head(batch).va, prior)
    assert torch.equal(head(batch, head.prototypes()).va, prior)


@pytest.mark.parametrize(
    ("settings", "absent"),
    [({"residual": "audio"}, "visual"), ({"residual": "visual"}, "audio")],
    ids=lambda each: str(each),
)
def test_the_residual_reads_the_modality_that_it_is_told(inputs, settings, absent):
    head = with_prior(inputs, **settings)
    assert absent not in head.reads
    for parameter in head.va.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = make_batch()
    silent = changed(batch, audio=0 * batch["audio"].values)
    heard = not torch.equal(head(silent).va, head(batch).va)
    assert heard == (absent == "visual")


def test_v_and_a_train_the_learned_words_of_a_prior(inputs):
    batch = make_batch()
    for prior in ("none", "zero_shot"):
        torch.manual_seed(0)
        head = DsplConfig(width=8, prior=prior).build(inputs)
        head(batch).va.square().sum().backward()
        gradient = head.prompts.context.grad
        assert (gradient is not None and bool(gradient.any())) == (prior == "zero_shot")


def test_the_region_loss_is_accepted_beside_a_prior_if_they_share_something(inputs):
    batch = make_batch()
    for settings in ({"prompts": FixedPrompts()}, {"residual": "audio"}):
        check_gradient_paths(with_prior(inputs, **settings), batch)
    apart = with_prior(inputs, prompts=FixedPrompts(), residual="audio")
    with pytest.raises(ValueError, match="region loss reaches no parameter of the V/A output"):
        check_gradient_paths(apart, batch)


def test_tanh_keeps_v_and_a_within_the_plane(inputs):
    torch.manual_seed(0)
    open_ended, squashed = (
        DsplConfig(width=8, squash=squash).build(inputs).eval() for squash in ("none", "tanh")
    )
    squashed.load_state_dict(open_ended.state_dict())
    for head in (open_ended, squashed):
        head.va[3].weight.data *= 100
    batch = make_batch()
    torch.testing.assert_close(squashed(batch).va, torch.tanh(open_ended(batch).va))


def test_a_grid_of_another_size_gives_as_many_logits(inputs):
    grid = Grid(levels=("low", "high"), centres=(-0.5, 0.5))
    torch.manual_seed(0)
    bank = torch.nn.functional.normalize(torch.randn(4, 16), dim=-1)
    head = DsplConfig(width=8, region_link="probabilities").build(
        replace(inputs, prompts=lambda _: lambda: bank, grid=grid)
    )
    assert head.va[0].in_features == 8 + 4
    assert head(make_batch(), bank).regions.logits.shape == (3, 11, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fusion": "audio", "region_link": "barycentre"}, "region_link 'bary"),
        ({"fusion": "audio", "region_on": "temporal"}, "fusion 'audio' does not read it"),
        ({"fusion": "gate", "gate_partner": "first"}, "reads the first stream only"),
        ({"width": 12, "n_heads": 4, "temporal": "transformer"}, "12 / 4 is 3"),
        ({"width": 10}, "multiple of n_heads"),
        ({"lora": 8}, "lora would train an encoder along, and heads are trained on features"),
        ({"residual": "audio"}, "prior is none: set prior to zero_shot, or use fusion 'audio'"),
        ({"prior": "zero_shot", "region_link": "barycentre"}, "set region_link to none"),
        ({"prior": "zero_shot", "squash": "tanh"}, "set squash to none"),
        (
            {"prior": "zero_shot", "residual": "audio", "region_on": "temporal"},
            "and residual 'audio' does not read it: set region_on to fused",
        ),
        ({"fusion": "sum"}, "fusion is 'sum', and the streams are visual, audio: name one"),
        ({"query": "face"}, "query is 'face', and the streams are visual, audio: name one"),
        ({"text_stream": "face"}, "text_stream is 'face', and the streams are visual, audio"),
        ({"text_stream": "audio"}, "and audio is not: set prompts to null"),
        ({"prompts": None, "prior": "zero_shot"}, "prompts is null: set prior to none"),
        ({"prompts": None, "region_link": "barycentre"}, "set region_link to none"),
        ({"bottleneck": 0}, "greater than or equal to 1"),
        ({"skip_spans": (1,)}, "greater than or equal to 2"),
    ],
)
def test_switches_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DsplConfig(**fields).for_streams(("visual", "audio"), ("visual",))
