import math

import pytest
import torch

from models.nn.cpu_dropout import LANES, Dropout, dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_so_many_are_dropped_in_every_lane_and_the_others_keep_the_mean(share):
    torch.manual_seed(0)
    n = 40_000
    left = dropout(torch.ones(n, LANES), share)
    assert left.unique().tolist() == pytest.approx([0, 1 / (1 - share)], rel=1e-4)
    deviation = math.sqrt(share * (1 - share) / n)  # of a binomial share
    dropped = (left == 0).double().mean(dim=0)
    assert (dropped - share).abs().max() < 5 * deviation
    together = (left[:, :-1] == 0) & (left[:, 1:] == 0)  # neighbours know nothing of each other
    assert (together.double().mean(dim=0) - share**2).abs().max() < 5 * deviation


def test_the_gradient_goes_where_something_is_left():
    x = torch.randn(3, 5, requires_grad=True)  # fifteen: the last draw is not used up
    left = dropout(x, 0.5)
    left.sum().backward()
    torch.testing.assert_close(x * x.grad, left)
    assert set(x.grad.unique().tolist()) <= {0.0, 2.0}


def test_the_seed_decides_what_is_dropped():
    x = torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_outside_training_nor_of_a_share_of_nothing():
    x = torch.randn(7)
    assert Dropout(0.5).eval()(x) is x
    assert dropout(x, 0.0) is x
    assert not dropout(x, 1.0).any()
