"""What is recorded of an epoch: by hand, and by a slower way."""

import numpy as np
import pytest
import torch

from models.data.batch import Targets
from models.metrics.ccc import Concordance
from models.training import pace
from models.training.epoch_sums import EpochSums
from models.training.pace import Pace, TrainingStep

CPU = torch.device("cpu")


def drawn(seed: int) -> tuple[torch.Tensor, Targets]:
    rng = torch.Generator().manual_seed(seed)
    truth = torch.rand(3, 20, 2, generator=rng) * 2 - 1
    valid = torch.rand(3, 20, generator=rng) > 0.3
    return 0.5 * truth + 0.2 * torch.rand(3, 20, 2, generator=rng), Targets(truth, valid)


def test_the_means_of_two_steps_by_hand():
    sums = EpochSums.zero(CPU)
    for loss, parts, extra, norm in (
        (1.75, (0.5, 1, 0.25), None, 3.0),
        (4.0, (1, 2, 0.5), 0.5, 1.0),
    ):
        unlabelled = None if extra is None else torch.tensor(extra)
        loss, parts, norm = (torch.tensor(each) for each in (loss, parts, norm))
        sums.add(loss, parts.float(), unlabelled, norm, *drawn(0))
    sums = EpochSums.restored(sums.state(), CPU)
    found = sums.means(2)
    assert (found.loss, found.loss_valence, found.loss_arousal) == (2.875, 0.75, 1.5)
    assert (found.loss_regions, found.loss_unlabelled) == (0.375, 0.25)
    assert (found.gradient_norm, found.gradient_norm_max) == (2.0, 3.0)


def test_the_ccc_of_all_steps_is_that_of_their_rows_together():
    sums, truth, predicted = EpochSums.zero(CPU), [], []
    zero = torch.zeros(())
    for seed in range(3):
        guess, targets = drawn(seed)
        sums.add(zero, torch.zeros(3), None, zero, guess, targets)
        truth.append(targets.va[targets.valid].double().numpy())
        predicted.append(guess[targets.valid].double().numpy())
    found = sums.means(3)
    for k, ccc in enumerate((found.ccc_train_valence, found.ccc_train_arousal)):
        columns = (np.concatenate(each)[:, k] for each in (truth, predicted))
        assert ccc == pytest.approx(Concordance.of(*columns).ccc(), abs=1e-12)


def test_without_a_valid_row_there_is_no_ccc():
    found = EpochSums.zero(CPU).means(1)
    assert found.ccc_train_valence is None


def test_time_left_is_that_of_the_steps_and_of_the_scorings(monkeypatch):
    now_s, seen = [100.0], list[TrainingStep]()
    monkeypatch.setattr(pace.time, "monotonic", lambda: now_s[0])
    own = Pace(3, 10, seen.append)
    own.scored(7.0)
    own.begin(2, 4)  # six steps of the second of three epochs are left
    for step in (5, 6, 7):
        now_s[0] += 0.3
        own.ended_step(step)
    # reported at .3 s, as nothing was before, and at .9 s, not at .6 s; a step takes .3 s: 3 steps
    # of this epoch and 10 of the next are left, and two scorings
    assert [each.step for each in seen] == [5, 7]
    last = seen[-1]
    assert (last.epoch, last.n_epochs, last.n_steps) == (2, 3, 10)
    assert last.steps_per_s == pytest.approx(1 / 0.3)
    assert last.left_s == pytest.approx(13 * 0.3 + 2 * 7.0)
