import numpy as np
import pytest
import torch

from models.nn.bigru import BiGru, project_valid


@pytest.fixture
def branch() -> BiGru:
    torch.manual_seed(0)
    return BiGru(5, 4).eval()


def test_what_is_behind_the_mask_does_not_matter(branch):
    x, valid = torch.randn(2, 7, 5), torch.rand(2, 7) > 0.4
    spoiled = x.masked_fill(~valid.unsqueeze(-1), 1e6)
    torch.testing.assert_close(branch(spoiled, valid), branch(x, valid), rtol=0, atol=0)


def test_nan_behind_the_mask_reaches_no_gradient():
    projection, x = torch.nn.Linear(5, 4), torch.randn(1, 3, 5)
    x[0, 1] = float("nan")
    rows = project_valid(projection, x, torch.tensor([[True, False, True]]))
    rows.square().sum().backward()
    assert not rows[0, 1].any()
    assert projection.weight.grad.isfinite().all()


def test_the_mask_itself_matters(branch):
    x, valid = torch.randn(1, 7, 5), torch.ones(1, 7, dtype=torch.bool)
    hidden = valid.clone()
    hidden[0, 3] = False
    assert (branch(x, valid) - branch(x, hidden)).abs().max() > 1e-3


@pytest.mark.parametrize("place", [0, 3, 6])
def test_every_row_is_read_in_the_light_of_every_other(branch, place):
    x, valid = torch.randn(1, 7, 5), torch.ones(1, 7, dtype=torch.bool)
    changed = x.clone()
    changed[0, place] += 1
    assert ((branch(x, valid) - branch(changed, valid)).abs().amax(dim=-1) > 1e-5).all()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_by_hand(x, w_ih, w_hh, b_ih, b_hh):
    """Cho et al. (2014) as PyTorch writes it: gates r, z, n, one step after the other."""
    h, states = np.zeros(w_hh.shape[1]), []
    for row in x:
        i_r, i_z, i_n = np.split(w_ih @ row + b_ih, 3)
        h_r, h_z, h_n = np.split(w_hh @ h + b_hh, 3)
        r, z = sigmoid(i_r + h_r), sigmoid(i_z + h_z)
        h = (1 - z) * np.tanh(i_n + r * h_n) + z * h
        states.append(h)
    return np.array(states)


def test_it_equals_numpy_on_its_own_weights(branch):
    x, valid = torch.randn(1, 6, 5), torch.tensor([[True, True, False, True, True, False]])
    p = {name: value.detach().numpy() for name, value in branch.named_parameters()}
    seen = x[0].numpy() @ p["projection.weight"].T + p["projection.bias"]
    seen[~valid[0].numpy()] = 0
    forward, backward = (
        [p[f"gru.{name}_l0{way}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        for way in ("", "_reverse")
    )
    both = np.concatenate(
        [gru_by_hand(seen, *forward), gru_by_hand(seen[::-1], *backward)[::-1]], axis=1
    )
    expected = both @ p["merge.weight"].T + p["merge.bias"]
    np.testing.assert_allclose(branch(x, valid)[0].detach().numpy(), expected, atol=1e-6)
