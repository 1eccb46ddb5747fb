import numpy as np
import pytest
import torch

from models.data.batch import Batch, Targets
from models.data.mixup import mixup
from tests.helpers.two_streams import two_stream_batch


def batch_of(n: int = 4, rows: int = 3) -> tuple[Batch, Targets]:
    """Window k holds k + 1 everywhere, in both modalities and as its truth / 10."""
    value = torch.arange(1.0, n + 1)[:, None, None]
    valid = torch.ones(n, rows, dtype=torch.bool)
    batch = two_stream_batch(
        value.expand(n, rows, 2), valid, value.expand(n, rows, 3), valid.clone()
    )
    return batch, Targets(value.expand(n, rows, 2) / 10, valid.clone())


def test_embeddings_and_truth_are_mixed_by_one_share():
    batch, targets = batch_of()
    rng = np.random.default_rng(0)
    share, partner = rng.beta(0.4, 0.4), rng.permutation(4) + 1
    found, truth = mixup(batch, targets, np.random.default_rng(0), 0.4)
    expected = share * np.arange(1, 5) + (1 - share) * partner
    for mixture in (found["visual"].values, found["audio"].values, 10 * truth.va):
        np.testing.assert_allclose(mixture[:, 0, 0], expected, rtol=1e-6)
    assert found["visual"].values.shape == (4, 3, 2)
    assert found["audio"].values.shape == (4, 3, 3)


def test_what_is_not_valid_in_both_is_not_valid():
    batch, targets = batch_of(n=2)
    for valid, row in (
        (batch["visual"].valid, 0),
        (batch["audio"].valid, 1),
        (targets.valid, 2),
    ):
        valid[0, row] = False
    rng = np.random.default_rng(1)
    while (rng.beta(1, 1), rng.permutation(2).tolist())[1] != [1, 0]:
        pass  # until the next mixture swaps the two
    state = rng.bit_generator.state
    while True:
        state = rng.bit_generator.state
        if (rng.beta(1, 1), rng.permutation(2).tolist())[1] == [1, 0]:
            break
    rng.bit_generator.state = state
    found, truth = mixup(batch, targets, rng, 1.0)
    assert found["visual"].valid.tolist() == [[False, True, True]] * 2
    assert found["audio"].valid.tolist() == [[True, False, True]] * 2
    assert truth.valid.tolist() == [[True, True, False]] * 2
    assert not found["visual"].values[:, 0].any()
    assert not found["audio"].values[:, 1].any()
    assert not truth.va[:, 2].any()


@pytest.mark.parametrize("alpha", [0.2, 5.0])
def test_the_shares_follow_alpha(alpha):
    # of Beta(a, a) the variance is 1 / (4 (2a + 1)): .179 and .0227
    batch, targets = batch_of(n=2, rows=1)
    rng, shares = np.random.default_rng(2), []
    for _ in range(400):
        found, _ = mixup(batch, targets, rng, alpha)
        if (
            found["visual"].values[0, 0, 0] + found["visual"].values[1, 0, 0] != 3
            or found["visual"].values[0, 0, 0] != 1
        ):
            shares.append(2 - float(found["visual"].values[0, 0, 0]))
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.25)


def test_truth_of_a_row_that_is_neither_seen_nor_heard_any_more_is_dropped():
    batch, targets = batch_of(n=2)
    batch["visual"].valid[0, 1] = False  # one was only heard there, the other only seen
    batch["audio"].valid[1, 1] = False
    rng = np.random.default_rng(0)
    swapped = [mixup(batch, targets, rng, 1.0)[1].valid.tolist() for _ in range(20)]
    assert [[True, False, True]] * 2 in swapped
    assert [[True, True, True]] * 2 in swapped  # where each was mixed with itself
