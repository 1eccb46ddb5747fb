import numpy as np
import pytest
import torch

from models.nn.attention import attend, check_heads, feed_forward, split_heads
from tests.helpers import numpy_reference as by_hand

HEADS = 3


def q_k_v() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 5, 6), torch.randn(2, 7, 6), torch.randn(2, 7, 6)


def look(query, key, value, valid):
    return attend(*(split_heads(x, HEADS) for x in (query, key, value)), valid)


def test_it_equals_numpy_head_by_head():
    streams = q_k_v()
    valid = torch.rand(2, 7) > 0.3
    found = look(*streams, valid).numpy()
    for b in range(2):
        heads = zip(*(by_hand.heads_of(x[b].numpy(), HEADS) for x in streams), strict=True)
        expected = [by_hand.attend(*head, valid[b].numpy()) for head in heads]
        np.testing.assert_allclose(found[b], np.concatenate(expected, axis=1), atol=1e-6)


def test_rows_that_are_not_valid_are_not_looked_at():
    query, key, value = q_k_v()
    valid = torch.rand(2, 7) > 0.5
    hidden = ~valid.unsqueeze(-1)
    spoiled = key.masked_fill(hidden, 1e6), value.masked_fill(hidden, 1e6)
    torch.testing.assert_close(
        look(query, *spoiled, valid), look(query, key, value, valid), rtol=0, atol=0
    )


def test_a_blank_window_finds_nothing():
    streams = [x.requires_grad_() for x in q_k_v()]
    found = look(*streams, torch.tensor([[False] * 7, [True] * 7]))
    found.square().sum().backward()
    assert not found[0].any()
    assert found[1].all()
    for x in streams:
        assert not x.grad[0].any()
        assert x.grad[1].isfinite().all()
        assert x.grad[1].any()


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"width \(10\) must be a multiple of .* heads \(4\)"):
        check_heads(10, 4)


def test_feed_forward_is_four_times_as_wide_inside():
    torch.manual_seed(0)
    module, x = feed_forward(6), torch.randn(5, 6)
    p = {f"it.{name}": value for name, value in by_hand.weights_of(module).items()}
    assert p["it.0.weight"].shape == (24, 6)
    np.testing.assert_allclose(
        module(x).detach().numpy(), by_hand.feed_forward(p, "it", x.numpy()), atol=1e-6
    )
