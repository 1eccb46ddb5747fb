"""Passes that go on in the middle give the same batches as passes that never ended."""

from itertools import islice

import numpy as np
import pytest
import torch

from models.data.batches import Example
from models.data.packed import PackedFeatures
from models.heads.dspl import DsplConfig
from models.training.config import TrainConfig
from models.training.passes import LABELLED, UNLABELLED, Passes, training_windows
from tests.helpers.two_streams import packed_streams

TRAIN = TrainConfig(window=10, stride=5, batch_size=4, mixup=0.5, stream_dropout=0.3)


@pytest.fixture(scope="module")
def packed() -> PackedFeatures:
    rng = np.random.default_rng(0)
    valid = torch.ones(120, dtype=torch.bool)
    values = torch.from_numpy(rng.standard_normal((120, 5))).half()
    return PackedFeatures(
        ("a/1", "b/1"),
        np.array([0, 60, 120]),
        np.tile(np.arange(60) / 25, 2),
        streams=packed_streams(values, valid, values[:, :3], valid),
        va=torch.from_numpy(rng.uniform(-1, 1, (120, 2))),
        va_valid=valid,
    )


def passes(packed, config=TRAIN, streams=UNLABELLED) -> Passes:
    return Passes(packed, training_windows(packed, DsplConfig(), config), config, streams)


def same(one: Example, other: Example) -> bool:
    (batch, targets), (batch_2, targets_2) = one, other
    return torch.equal(targets.va, targets_2.va) and all(
        torch.equal(batch[name].values, batch_2[name].values)
        and torch.equal(batch[name].valid, batch_2[name].valid)
        for name in batch.streams
    )


@pytest.mark.parametrize("n_done", [0, 1, 5, 6, 7, 13])  # a pass has six batches
@pytest.mark.parametrize("weights", [{}, {"b": 1.0}], ids=["as they are", "weighted"])
def test_what_is_restored_goes_on_with_the_same_batches(packed, n_done, weights):
    config = TRAIN.model_copy(update={"set_weights": weights})
    whole = list(islice(passes(packed, config).without_end(), 24))
    first = passes(packed, config)
    for _ in islice(first.without_end(), n_done):
        pass
    second = passes(packed, config)
    second.restore(first.state())
    rest = islice(second.without_end(), 24 - n_done)
    assert all(same(*pair) for pair in zip(rest, whole[n_done:], strict=True))


def test_each_use_of_random_numbers_has_its_own(packed):
    labelled = list(passes(packed, streams=LABELLED).one_pass())
    unlabelled = list(passes(packed).one_pass())
    assert len(labelled) == len(unlabelled) == 6
    assert not any(same(*pair) for pair in zip(labelled, unlabelled, strict=True))


def test_a_smaller_last_batch_is_left_out_of_every_pass(packed):
    config = TRAIN.model_copy(update={"drop_last": True})
    found = passes(packed, config)
    assert found.n_windows == 22
    assert [len(list(found.one_pass())) for _ in range(2)] == [5, 5]
