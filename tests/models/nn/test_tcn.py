import numpy as np
import pytest
import torch

from models.nn.tcn import Tcn
from tests.helpers.numpy_reference import linear, weights_of

WIDTH = 4


def branch(**settings) -> Tcn:
    torch.manual_seed(0)
    return Tcn(5, WIDTH, **settings).eval()


def all_seen(n_rows) -> torch.Tensor:
    return torch.ones(1, n_rows, dtype=torch.bool)


def convolution_by_hand(p, name, x, offsets):
    """Sum over the taps of weights times the row that lies `offset` away; outside there is 0."""
    rows = []
    for t in range(len(x)):
        row = p[f"{name}.bias"].copy()
        for tap, offset in enumerate(offsets):
            if 0 <= t + offset < len(x):
                row += p[f"{name}.weight"][:, :, tap] @ x[t + offset]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("as_released", [False, True])
def test_it_equals_numpy_on_its_own_weights(as_released):
    module = branch(dilations=(1, 3), as_released=as_released)
    x = torch.randn(1, 12, 5)
    with torch.no_grad():  # so that no ReLU is closed for good
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    valid = torch.tensor([[1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0]]).bool()
    p, unseen = weights_of(module), ~valid[0].numpy()
    states = linear(p, "projection", x[0].numpy())
    states[unseen] = 0
    for block, dilation in enumerate((1, 3)):
        offsets = np.array([-2, -1, 0]) * dilation
        y = states.copy()
        for name in ("first", "second"):
            y[unseen] = 0
            y = np.maximum(convolution_by_hand(p, f"blocks.{block}.{name}", y, offsets), 0)
        states = states + y
        if as_released:
            assert block or states.min() < 0  # later sums are of two ReLUs
            states = np.maximum(states, 0)
        assert states[unseen].any(axis=1).all()  # else the next block would have nothing to mask
    if as_released:
        states = linear(p, "out", states)
    np.testing.assert_allclose(module(x, valid)[0].detach().numpy(), states, atol=1e-5)


def test_what_is_behind_the_mask_does_not_matter():
    module, x, valid = branch(), torch.randn(2, 20, 5), torch.rand(2, 20) > 0.4
    spoiled = x.masked_fill(~valid.unsqueeze(-1), 1e6)
    torch.testing.assert_close(module(spoiled, valid), module(x, valid), rtol=0, atol=0)


def test_the_mask_itself_matters():
    module, x, valid = branch(), torch.randn(1, 7, 5), all_seen(7)
    hidden = valid.clone()
    hidden[0, 3] = False
    assert (module(x, valid) - module(x, hidden)).abs().max() > 1e-3


@pytest.mark.parametrize("dilations", [(1, 2), (1, 2, 4)])
def test_a_later_row_changes_no_earlier_output(dilations):
    module, x, valid = branch(dilations=dilations), torch.randn(1, 30, 5), all_seen(30)
    later = x.clone()
    later[0, 17:] = torch.randn(13, 5)
    before, after = module(x, valid)[0], module(later, valid)[0]
    torch.testing.assert_close(after[:17], before[:17], rtol=0, atol=0)
    assert ((after[17:] - before[17:]).abs().amax(dim=-1) > 1e-3).all()


@pytest.mark.parametrize(
    ("dilations", "first"),
    [
        ((1, 2), 28),  # 2 convolutions x 2 rows x (1 + 2) = 12 rows back
        ((1, 2, 4), 12),  # 2 x 2 x (1 + 2 + 4) = 28
    ],
)
def test_a_row_knows_exactly_these_rows(dilations, first):
    module = branch(dilations=dilations)
    with torch.no_grad():  # with positive numbers alone no ReLU closes a path
        for parameter in module.parameters():
            parameter.abs_()
    x = torch.rand(1, 80, 5, requires_grad=True)
    module(x, all_seen(80))[0, 40].sum().backward()
    known = x.grad[0].any(dim=-1).nonzero().flatten().tolist()
    assert known == list(range(first, 41))


def test_a_window_without_any_valid_row_is_finite_and_reads_nothing():
    module, x = branch(), torch.randn(1, 6, 5, requires_grad=True)
    out = module(x, ~all_seen(6))
    out.square().sum().backward()
    assert out.isfinite().all()
    assert not x.grad.any()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_dropout_follows_each_convolution():
    module, x, valid = branch(dropout=1.0).train(), torch.randn(1, 6, 5), all_seen(6)
    dropped = []
    for block in module.blocks:
        block.dropout.register_forward_hook(lambda *_: dropped.append(True))
    torch.testing.assert_close(module(x, valid), module.projection(x))  # the blocks add nothing
    assert len(dropped) == 2 * len(module.blocks)


@pytest.mark.parametrize("as_released", [False, True])
def test_its_blocks_are_those_of_the_paper_unless_told_otherwise(as_released):
    module = Tcn(5, WIDTH, as_released=as_released)
    assert [(block.first.dilation, block.reach, block.dropout.p) for block in module.blocks] == [
        ((1,), 2, 0.1),
        ((2,), 4, 0.1),
    ]
