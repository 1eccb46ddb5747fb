"""What a step costs beside its arithmetic: runs of the text tower, and waits for a value."""

from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import open_clip
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from features.errors import InputError
from models.data.packed import PackedFeatures
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.heads.windows import head_windows
from models.metrics.predict import concordance, predict
from models.regions.prompts import CoopCscPrompts, FixedPrompts
from models.regions.texts_file import read_texts
from models.regions.whole_tower import open_tower
from models.training.config import TrainConfig
from models.training.epoch_sums import EpochSums
from models.training.loop import adam_w, check_head, fit, step, training_windows
from models.training.loss_config import LossConfig
from tests.helpers.synthetic import WIDTH_AUDIO, WIDTH_VISUAL, tiny_model
from tests.helpers.two_streams import packed_streams

pytestmark = pytest.mark.slow

MEMBERS = get_args(get_args(AnyHeadConfig)[0])
TRAIN = TrainConfig(
    epochs=2, window=20, stride=10, causal_stride=10, batch_size=4, mixup=0.2, device="cpu"
)
WAITS = {  # what a GPU must be done with all its work for: a value, or a shape that hangs on one
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.unique_dim.default,
    torch.ops.aten._unique2.default,
}


class Waits(TorchDispatchMode):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func is torch.ops.aten.index.Tensor and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if func in WAITS or by_mask:
            self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def bank() -> PackedFeatures:
    """Two clips of 60 rows."""
    rng = np.random.default_rng(0)
    seen, heard, known = torch.from_numpy(rng.random((3, 120)) > 0.1)
    return PackedFeatures(
        ("a", "b"),
        np.array([0, 60, 120]),
        np.tile(np.arange(60) / 25, 2),
        streams=packed_streams(
            torch.from_numpy(rng.standard_normal((120, WIDTH_VISUAL))).half() * seen[:, None],
            seen,
            torch.from_numpy(rng.standard_normal((120, WIDTH_AUDIO))).half() * heard[:, None],
            heard,
        ),
        va=torch.from_numpy(rng.uniform(-1, 1, (120, 2))) * known[:, None],
        va_valid=known,
    )


@pytest.fixture
def watched(inputs):
    """What heads are built from, and the sequences that their text tower ran on, run by run."""
    model = tiny_model()
    tower, runs = open_tower(model, open_clip.SimpleTokenizer()), []
    model.transformer.register_forward_pre_hook(lambda _, given: runs.append(len(given[0])))
    own = replace(inputs, prompts=lambda prompts: prompts.build(tower, read_texts(prompts.texts)))
    return own, runs


def n_steps(config, bank) -> int:
    return -(-len(training_windows(bank, config, TRAIN)) // TRAIN.batch_size)


@pytest.mark.parametrize("prompts", [None, CoopCscPrompts()], ids=["shared", "per region"])
def test_the_text_tower_runs_once_in_a_step(watched, bank, prompts):
    inputs, runs = watched
    config = DsplConfig(width=8, **({"prompts": prompts} if prompts else {}))
    head = config.build(inputs)
    assert n_steps(config, bank) > 1
    runs.clear()
    fit(head, config, bank, bank, TRAIN)
    assert runs == [1] * (TRAIN.epochs * n_steps(config, bank))  # none for the scores


def test_fixed_prototypes_are_made_once(watched, bank):
    inputs, runs = watched
    config = DsplConfig(width=8, prompts=FixedPrompts())
    head = config.build(inputs)
    assert len(runs) == 1
    fit(head, config, bank, bank, TRAIN)
    assert len(runs) == 1


@pytest.mark.parametrize("region_weight", [0.0, 0.2])
@pytest.mark.parametrize("link", [{"region_link": "barycentre"}, {"prior": "zero_shot"}], ids=str)
def test_scores_that_are_told_of_regions_run_the_text_tower_once(
    watched, bank, region_weight, link
):
    inputs, runs = watched
    config = DsplConfig(width=8, **link)
    train = TRAIN.model_copy(update={"loss": LossConfig(region_weight=region_weight)})
    head = config.build(inputs)
    runs.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.metrics.predict.ROWS_AT_ONCE", 40)  # several batches
        fit(head, config, bank, bank, train)
    assert len(runs) == TRAIN.epochs * (n_steps(config, bank) + 1)


@pytest.mark.parametrize(
    ("config", "loss"),
    [
        *((member(width=8), LossConfig()) for member in MEMBERS),
        (DsplConfig(width=8), LossConfig(region_labels="hard", mse_weight=0.1, ccc="sequence")),
        (
            DsplConfig(width=8, temporal="transformer", query="all", skip_dropout=0.5),
            LossConfig(),
        ),
        (DsplConfig(width=8, prior="zero_shot"), LossConfig(region_weight=0)),
    ],
    ids=["dspl", "released", "other loss", "transformer", "prior"],
)
def test_no_step_waits_for_a_value(inputs, bank, config, loss):
    head = config.build(inputs)
    optimizer, windows = adam_w(head, TRAIN), training_windows(bank, config, TRAIN)
    batch, targets = bank.gather(windows, np.arange(4))
    sums, train = EpochSums.zero(bank.device), TRAIN.model_copy(update={"loss": loss})
    with Waits() as waits:
        found = step(head, optimizer, batch, targets, train, sums=sums)
    assert not waits.seen
    with Waits() as waits:
        found.item()
    assert waits.seen  # it would be seen


def test_more_steps_wait_no_more_often(inputs, bank):
    seen = []
    for batch_size in (2, 10):
        config = DsplConfig(width=8)
        train = TRAIN.model_copy(update={"batch_size": batch_size})
        with Waits() as waits:
            fit(config.build(inputs), config, bank, bank, train)
        seen.append(waits.seen)
    assert seen[0] == seen[1]


def test_the_optimiser_does_what_the_plain_one_does(inputs, bank):
    config = DsplConfig(width=8)
    heads = [config.build(inputs) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    plain = torch.optim.AdamW(
        heads[1].parameters(),
        lr=TRAIN.learning_rate,
        weight_decay=TRAIN.weight_decay,
        foreach=False,
    )
    batch, targets = bank.gather(training_windows(bank, config, TRAIN), np.arange(4))
    for head, optimizer in zip(heads, (adam_w(heads[0], TRAIN), plain), strict=True):
        for seed in range(3):
            torch.manual_seed(seed)
            step(head, optimizer, batch, targets, TRAIN)
    for found, expected in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [DsplConfig(width=8), ReleasedConfig(width=8)])
def test_a_step_in_bfloat16_is_near_that_in_float32(inputs, bank, config):
    batch, targets = bank.gather(training_windows(bank, config, TRAIN), np.arange(4))
    losses = []
    for precision in ("float32", "bfloat16"):
        train = TRAIN.model_copy(update={"precision": precision})
        torch.manual_seed(0)
        head = config.build(inputs)
        losses.append(step(head, adam_w(head, train), batch, targets, train))
        assert {weight.dtype for weight in head.parameters()} == {torch.float32}
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0.02)


def test_bfloat16_on_a_cpu_is_refused(inputs, bank):
    config = DsplConfig(width=8)
    train = TRAIN.model_copy(update={"precision": "bfloat16"})
    with pytest.raises(ValueError, match="train.precision is bfloat16, and a CPU casts to it more"):
        check_head(config.build(inputs), config, bank, train)


def test_the_loss_of_pseudo_labels_is_added_with_its_weight(inputs, bank):
    config = DsplConfig(width=8, dropout=0)
    windows = training_windows(bank, config, TRAIN)
    labelled, pseudo = (bank.gather(windows, np.arange(k, k + 4)) for k in (0, 4))

    def loss(example, extra=None, weight: float = 0.5) -> float:
        torch.manual_seed(0)
        head = config.build(inputs)  # a new one, as a step changes its weights
        train = TRAIN.model_copy(update={"pseudo_weight": weight})
        return step(head, adam_w(head, train), *example, train, pseudo=extra).item()

    for weight in (0.5, 2.0):
        expected = loss(labelled) + weight * loss(pseudo)
        assert loss(labelled, pseudo, weight) == pytest.approx(expected, rel=1e-6)


def test_unlabelled_clips_are_trained_on_and_not_validated_on(inputs, bank):
    config = DsplConfig(width=8)
    unlabelled, val = bank.select(["a"]), bank.select(["b"])
    fits = []
    for extra in (None, unlabelled):
        torch.manual_seed(0)
        head = config.build(inputs)
        fits.append(fit(head, config, val, val, TRAIN, unlabelled=extra))
        head.load_state_dict(fits[-1].state)
        windows = head_windows(val, config, size=TRAIN.window, stride=TRAIN.stride)
        expected = concordance(predict(head, val, windows), val).ccc()[2]
        assert fits[-1].kept.ccc_mean == pytest.approx(expected)
    assert fits[0].epochs != fits[1].epochs


def test_unlabelled_clips_without_a_window_are_refused(inputs, bank):
    config = ReleasedConfig(width=8)
    train = TRAIN.model_copy(update={"causal_start_s": 2.0})
    brief = bank.select(["a"]).copy_runs([slice(0, 20)], bank["visual"].values.device)  # 0.8 s
    with pytest.raises(InputError, match="no window to train on.*causal_start_s .it is 2"):
        fit(config.build(inputs), config, bank, bank, train, unlabelled=brief)
