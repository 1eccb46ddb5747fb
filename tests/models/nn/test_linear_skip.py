import numpy as np
import torch

from models.nn.linear_skip import LinearSkip, moving_means


def mean_by_loop(x: np.ndarray, valid: np.ndarray, span: int) -> np.ndarray:
    found = np.zeros_like(x)
    for row in range(len(x)):
        near = [k for k in range(row - span // 2, row - span // 2 + span) if 0 <= k < len(x)]
        near = [k for k in near if valid[k]]
        found[row] = x[near].mean(axis=0) if near else 0
    return found


def test_the_moving_mean_equals_a_loop():
    torch.manual_seed(0)
    valid = torch.rand(2, 13, 1) > 0.4
    valid[1, :6] = False  # longer than a span
    x = torch.randn(2, 13, 3) * valid
    spans = (1, 2, 5, 40)
    for span, found in zip(spans, moving_means(x, valid, spans), strict=True):
        assert torch.equal(found, moving_means(x, valid, (span,))[0])  # the others do not matter
        for k in range(2):
            expected = mean_by_loop(x[k].numpy(), valid[k, :, 0].numpy(), span)
            np.testing.assert_allclose(found[k], expected, atol=1e-6)


def test_it_equals_numpy_on_its_own_weights():
    torch.manual_seed(0)
    skip = LinearSkip(4, (3, 6), dropout=0.5).eval()
    for linear in skip.linears:
        torch.nn.init.normal_(linear.weight)
    x, valid = torch.randn(1, 9, 4), torch.rand(1, 9) > 0.3
    weights = [linear.weight.detach().numpy() for linear in skip.linears]
    assert len(weights) == 3  # of the row, and of both spans
    shown = np.where(valid[0].numpy()[:, None], x[0].numpy(), 0)
    expected = sum(
        mean_by_loop(shown, valid[0].numpy(), span) @ weight.T
        for span, weight in zip((1, 3, 6), weights, strict=True)
    )
    np.testing.assert_allclose(skip(x, valid)[0].detach(), expected, atol=1e-5)


def test_it_is_blind_behind_the_mask_and_zero_at_the_start():
    torch.manual_seed(0)
    skip = LinearSkip(4, (3,), dropout=0.0)
    x, valid = torch.randn(2, 7, 4), torch.rand(2, 7) > 0.4
    assert not skip(x, valid).any()
    for linear in skip.linears:
        torch.nn.init.normal_(linear.weight)
    spoiled = x.masked_fill(~valid.unsqueeze(-1), 1e6)
    torch.testing.assert_close(skip(spoiled, valid), skip(x, valid), rtol=0, atol=0)


def test_dropout_is_of_the_training_only():
    torch.manual_seed(0)
    skip = LinearSkip(4, (3,), dropout=0.9)
    for linear in skip.linears:
        torch.nn.init.ones_(linear.weight)
    x, valid = torch.randn(1, 7, 4), torch.ones(1, 7, dtype=torch.bool)
    assert not torch.equal(skip(x, valid), skip(x, valid))
    skip.eval()
    assert torch.equal(skip(x, valid), skip(x, valid))


def test_dropout_is_of_each_mean_of_each_row():
    torch.manual_seed(0)
    skip = LinearSkip(1, (3,), dropout=0.5)
    for linear in skip.linears:
        torch.nn.init.ones_(linear.weight)
    found = skip(torch.ones(1, 4000, 1), torch.ones(1, 4000, dtype=torch.bool))[0, :, 0]
    # two means of 1, each dropped or doubled by itself: 0, 2 or 4, a quarter, a half, a quarter
    share = torch.bincount(found.detach().round().long(), minlength=5) / 4000
    torch.testing.assert_close(share, torch.tensor([0.25, 0, 0.5, 0, 0.25]), rtol=0, atol=0.04)
