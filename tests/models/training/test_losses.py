import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from features.errors import InputError
from models.data.batch import Targets
from models.heads.base import HeadOutput, RegionOutput
from models.heads.dspl import DsplConfig
from models.metrics.ccc import Concordance
from models.regions.grid import NINE
from models.regions.soft_labels import hard_labels, soft_labels
from models.training.loss_config import LossConfig, check_loss
from models.training.losses import (
    ccc,
    ccc_per_window,
    head_loss,
    loss_with_parts,
    mse,
    region_kl,
)
from tests.helpers.small_heads import make_batch


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("mask", ["annotation", "region logits"])
def test_the_region_loss_counts_only_annotated_rows_with_region_logits(mask):
    annotated = torch.tensor([[True, True, False]])
    with_logits = torch.tensor([[True, False, True]])
    targets = Targets(torch.rand(1, 3, 2) * 2 - 1, annotated)
    logits = torch.randn(1, 3, 9)
    changed = logits.clone()
    changed[0, 2 if mask == "annotation" else 1] += 5 * torch.randn(9)
    va = torch.rand(1, 3, 2)

    before, after = (
        head_loss(HeadOutput(va, RegionOutput(x, with_logits)), targets, LossConfig(), NINE)
        for x in (logits, changed)
    )

    assert before == after


def test_ccc_of_a_batch_equals_the_metric():
    va, truth = torch.randn(2, 5, 2), torch.randn(2, 5, 2)
    valid = torch.tensor([[True, True, False, True, True], [True, False, False, True, True]])
    found = ccc(va.masked_fill(~valid.unsqueeze(-1), 7.0), Targets(truth, valid))
    for k in range(2):
        pairs = (x[valid][:, k].double().numpy() for x in (truth, va))
        assert found[k].item() == pytest.approx(Concordance.of(*pairs).ccc(), abs=1e-5)


def test_kl_by_hand():
    # uniform logits against (1/2, 1/2, 0): log 3 - log 2; the invalid row would add much
    logits = torch.tensor([[[0.0, 0, 0], [9.0, -9, 0]]])
    labels = torch.tensor([[[0.5, 0.5, 0], [0.0, 1, 0]]])
    found = region_kl(logits, labels, torch.tensor([[True, False]]))
    assert found.item() == pytest.approx(np.log(3) - np.log(2), abs=1e-6)


def test_the_loss_is_the_sum_of_its_parts(inputs):
    config = LossConfig(region_weight=0.5)
    head, batch = DsplConfig(width=8).build(inputs).eval(), make_batch()
    output = head(batch, head.prototypes())
    targets = Targets(torch.rand(3, 11, 2), torch.ones(3, 11, dtype=torch.bool))
    of_regions = region_kl(
        output.regions.logits, soft_labels(targets.va, config.sigma), batch["visual"].valid
    )
    expected = 2 - ccc(output.va, targets).sum() + 0.5 * of_regions
    assert head_loss(output, targets, config, NINE).item() == pytest.approx(
        expected.item(), abs=1e-5
    )
    without = head_loss(output, targets, LossConfig(region_weight=0), NINE)
    assert without.item() == pytest.approx(2 - ccc(output.va, targets).sum().item(), abs=1e-5)


def test_a_batch_without_any_valid_row_has_a_finite_loss(inputs):
    head, batch = DsplConfig(width=8).build(inputs), make_batch()
    nothing = Targets(torch.zeros(3, 11, 2), torch.zeros(3, 11, dtype=torch.bool))
    loss = head_loss(head(batch, head.prototypes()), nothing, LossConfig(), NINE)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_a_loss_without_a_ccc_is_refused():
    with pytest.raises(ValidationError, match="give one a weight"):
        LossConfig(valence_weight=0, arousal_weight=0)


@pytest.mark.parametrize(
    ("head", "loss", "message"),
    [
        ({"fusion": "audio"}, {}, "set train.loss.region_weight to 0, or head.region_on to fused"),
        ({"windows": "causal"}, {"ccc": "sequence"}, "ccc to batch, or head.windows to dense"),
    ],
)
def test_a_loss_that_does_not_fit_the_head_is_refused(head, loss, message):
    with pytest.raises(InputError, match=message):
        check_loss(DsplConfig(**head), LossConfig(**loss))


def targets_of(*valid: list[bool]) -> Targets:
    rng = torch.Generator().manual_seed(4)
    mask = torch.tensor(valid)
    va = torch.rand(*mask.shape, 2, generator=rng) * 2 - 1
    return Targets(va * mask.unsqueeze(-1), mask)


def test_the_ccc_of_each_window_by_itself():
    targets = targets_of([True] * 5, [True, True, True, False, False], [False] * 5)
    predicted = torch.randn(3, 5, 2)
    each = [
        ccc(predicted[k : k + 1], Targets(targets.va[k : k + 1], targets.valid[k : k + 1]))
        for k in range(2)
    ]
    torch.testing.assert_close(ccc_per_window(predicted, targets), (each[0] + each[1]) / 2)


def test_the_squared_error_by_hand():
    targets = Targets(torch.zeros(1, 3, 2), torch.tensor([[True, True, False]]))
    predicted = torch.tensor([[[1.0, 0.0], [2.0, 0.5], [9.0, 9.0]]])
    torch.testing.assert_close(mse(predicted, targets), torch.tensor([2.5, 0.125]))


def test_each_part_of_the_loss_has_its_weight(inputs):
    torch.manual_seed(0)
    head = DsplConfig(width=8).build(inputs).eval()
    batch = make_batch()
    output = head(batch, head.prototypes())
    targets = targets_of(*[[True] * 11] * 3)

    def loss(**changes) -> float:
        return head_loss(output, targets, LossConfig(**changes), NINE).item()

    whole, regions = ccc(output.va, targets), loss() - (2 - ccc(output.va, targets).sum()).item()
    weighed = loss(valence_weight=0.5, arousal_weight=2.0) - regions
    assert weighed == pytest.approx((0.5 * (1 - whole[0]) + 2 * (1 - whole[1])).item(), abs=1e-5)
    squared = mse(output.va, targets)
    found = loss(mse_weight=3.0, valence_weight=0.5) - loss(valence_weight=0.5)
    assert found == pytest.approx(3 * (0.5 * squared[0] + squared[1]).item(), abs=1e-4)
    apart = ccc_per_window(output.va, targets)
    assert loss(ccc="sequence") - regions == pytest.approx(2 - apart.sum().item(), abs=1e-5)
    logits = output.regions.logits.log_softmax(dim=-1)
    of_label = (logits * hard_labels(targets.va)).sum(dim=-1)
    seen = batch["visual"].valid
    entropy = -(of_label * seen).sum() / seen.sum()
    hard = loss(region_labels="hard") - (loss() - regions)
    assert hard == pytest.approx(0.2 * entropy.item(), abs=1e-5)
    assert math.isfinite(hard)


def test_the_parts_of_a_loss_have_their_weights_and_add_up_to_it():
    rng = torch.Generator().manual_seed(3)
    va, truth = (torch.rand(2, 6, 2, generator=rng) * 2 - 1 for _ in range(2))
    valid = torch.ones(2, 6, dtype=torch.bool)
    output = HeadOutput(va, RegionOutput(torch.randn(2, 6, 9, generator=rng), valid))
    targets = Targets(truth, valid)
    config = LossConfig(valence_weight=0.5, arousal_weight=2, mse_weight=0.3, region_weight=0.7)
    agreement, squares = ccc(va, targets), mse(va, targets)
    labels = soft_labels(truth, config.sigma, NINE)
    expected = [
        0.5 * (1 - agreement[0] + 0.3 * squares[0]),
        2 * (1 - agreement[1] + 0.3 * squares[1]),
        0.7 * region_kl(output.regions.logits, labels, valid),
    ]
    found = loss_with_parts(output, targets, config, NINE)
    torch.testing.assert_close(found.parts, torch.stack(expected))
    torch.testing.assert_close(found.total, found.parts.sum())
    without = loss_with_parts(HeadOutput(va, None), targets, config, NINE)
    assert without.parts[2] == 0
