"""The head on a GPU: the same numbers as on a CPU, from the same bank."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.packed import PackedFeatures
from models.data.statistics import statistics
from models.heads.base import HeadInputs
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.heads.windows import head_windows
from models.metrics.predict import predict
from models.regions.prompts import FixedPrompts
from models.regions.prototypes import FixedPrototypes
from models.training.config import TrainConfig
from models.training.loop import check_head, fit, training_windows
from tests.helpers.two_streams import packed_streams

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]

WIDTH_VISUAL, WIDTH_AUDIO = 24, 12
FIXED = FixedPrompts()


@pytest.fixture(scope="module")
def bank() -> PackedFeatures:
    """Six clips; V lies in the pictures and A in the sound; some rows are not seen or heard."""
    rng = np.random.default_rng(0)
    n = 6 * 200
    va = np.sin(np.arange(n)[:, None] / [17, 23] + [0, 1]) * 0.8
    directions = rng.standard_normal((2, 24))
    values = [va[:, :1] * directions[0], va[:, 1:] * directions[1, :WIDTH_AUDIO]]
    visual, audio = (
        torch.from_numpy(v + 0.1 * rng.standard_normal(v.shape)).half() for v in values
    )
    seen, heard = torch.from_numpy(rng.random((2, n)) > 0.1)
    return PackedFeatures(
        tuple(f"c{k}" for k in range(6)),
        200 * np.arange(7),
        np.tile(np.arange(200) / 25, 6),
        streams=packed_streams(visual * seen[:, None], seen, audio * heard[:, None], heard),
        va=torch.from_numpy(va),
        va_valid=torch.ones(n, dtype=torch.bool),
    )


def built(config, bank: PackedFeatures):
    torch.manual_seed(0)
    prototypes = torch.nn.functional.normalize(torch.randn(9, WIDTH_VISUAL), dim=-1)
    inputs = HeadInputs(
        {name: statistics(each.values, each.valid) for name, each in bank.streams.items()},
        ("visual",),
        lambda _: FixedPrototypes(prototypes),
    )
    return config.build(inputs)


@pytest.mark.parametrize(
    "config",
    [
        DsplConfig(width=32, prompts=FIXED),
        DsplConfig(width=32, prompts=FIXED, temporal="tcn", fusion="concatenation"),
        DsplConfig(width=32, prompts=FIXED, temporal="transformer", query="all"),
        DsplConfig(width=32, prompts=FIXED, bottleneck=4, skip_dropout=0.5, region_on="fused"),
        DsplConfig(width=32, prompts=FIXED, region_link="barycentre"),
        ReleasedConfig(width=32),
    ],
    ids=["gru", "tcn", "transformer", "skip", "link", "released"],
)
def test_a_head_says_the_same_on_both_devices(config, bank):
    head, device = built(config, bank), torch.device("cuda")
    train = TrainConfig(window=60, stride=40, causal_stride=20, device="cpu")
    chosen = np.arange(4)
    batch, _ = bank.gather(training_windows(bank, config, train), chosen)
    on_gpu, _ = bank.to(device).gather(training_windows(bank, config, train), chosen)
    with torch.inference_mode():
        expected = head.eval()(batch, head.prototypes())
        head.to(device)
        found = head(on_gpu, head.prototypes())
    torch.testing.assert_close(found.va.cpu(), expected.va, rtol=1e-3, atol=1e-3)
    seen = expected.regions.valid
    torch.testing.assert_close(
        found.regions.logits.cpu()[seen], expected.regions.logits[seen], rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("temporal", ["gru", "tcn"])
def test_a_head_learns_on_a_gpu_what_it_learns_on_a_cpu(temporal, bank):
    config = DsplConfig(width=32, prompts=FIXED, temporal=temporal)
    train = TrainConfig(
        epochs=8,
        window=60,
        stride=40,
        batch_size=8,
        learning_rate=5e-3,
        mixup=0.2,
    )
    scores = {}
    for name in ("cpu", "cuda"):
        placed, device = bank.to(torch.device(name)), torch.device(name)
        head = built(config, bank).to(device)
        check_head(head, config, placed, train)
        scores[name] = fit(head, config, placed, placed, train).kept.ccc_mean
        windows = head_windows(placed, config, size=60, stride=40)
        assert np.isfinite(predict(head, placed, windows).va).all()
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=0.05)
    assert scores["cuda"] > 0.8


def test_the_bank_lies_where_it_was_put(bank):
    placed = bank.to(torch.device("cuda"))
    assert placed["visual"].values.is_cuda
    assert placed.va_valid.is_cuda
    batch, targets = placed.gather(
        training_windows(placed, DsplConfig(), TrainConfig(window=60, stride=40)), np.arange(2)
    )
    assert batch["audio"].values.is_cuda
    assert targets.va.is_cuda
    assert replace(placed).offsets is placed.offsets
