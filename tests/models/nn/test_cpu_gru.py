import pytest
import torch
from torch import nn

from models.nn.cpu_gru import bidirectional_gru


def gru(n_inputs: int, width: int) -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(n_inputs, width, batch_first=True, bidirectional=True, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 1, 5), (2, 40, 5)])
def test_states_and_gradients_are_those_of_torch(shape):
    reference = gru(shape[-1], 4)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, (theirs, _) = bidirectional_gru(reference, x), reference(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    weight = torch.randn_like(theirs)
    wanted = (x, *reference.parameters())
    found = torch.autograd.grad(ours, wanted, weight, retain_graph=True)
    expected = torch.autograd.grad(theirs, wanted, weight)
    for ours_g, theirs_g in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_g, theirs_g, rtol=0, atol=1e-11)
    again = torch.autograd.grad(ours, wanted, weight)  # nothing that was kept has changed
    torch.testing.assert_close(again, found, rtol=0, atol=0)


def test_the_gradient_is_that_of_small_differences():
    reference = gru(2, 3)
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: bidirectional_gru(reference, rows), (x,))
