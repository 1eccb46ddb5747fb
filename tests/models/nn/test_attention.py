import numpy as np
import pytest
import torch

from models.nn.attention import attend, check_heads, feed_forward, split_heads, xavier_
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


def test_dropout_takes_attention_weights_out():
    # one key row: its weight is 1, so what is found is 0 or, scaled by 1 / (1 - p), 4 values
    query, key, value = torch.randn(50, 9, 6), torch.randn(50, 1, 6), torch.ones(50, 1, 6)
    heads = (split_heads(x, HEADS) for x in (query, key, value))
    found = attend(*heads, torch.ones(50, 1, dtype=torch.bool), dropout_p=0.75)
    assert found.unique().tolist() == [0, 4]
    by_head = found.unflatten(-1, (HEADS, -1))
    assert (by_head == by_head[..., :1]).all()  # a weight is of a whole head
    assert (found == 0).float().mean().item() == pytest.approx(0.75, abs=0.05)


def test_xavier_is_that_of_torch_s_own_attention():
    torch.manual_seed(0)
    width = 64
    theirs = torch.nn.MultiheadAttention(width, 4)
    ours = [torch.nn.Linear(width, width) for _ in range(4)]
    kept = ours[3].weight.clone()
    xavier_(*ours)
    bound = theirs.in_proj_weight.abs().max().item()
    for projection in ours[:3]:
        assert projection.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert projection.weight.std().item() == pytest.approx(
            theirs.in_proj_weight.std().item(), rel=0.05
        )
    assert torch.equal(ours[3].weight, kept)  # torch leaves the last projection a plain Linear
    assert not theirs.in_proj_bias.any()
    assert not theirs.out_proj.bias.any()
    assert not any(projection.bias.any() for projection in ours)


def test_feed_forward_is_four_times_as_wide_inside():
    torch.manual_seed(0)
    module, x = feed_forward(6), torch.randn(5, 6)
    p = {f"it.{name}": value for name, value in by_hand.weights_of(module).items()}
    assert p["it.0.weight"].shape == (24, 6)
    np.testing.assert_allclose(
        module(x).detach().numpy(), by_hand.feed_forward(p, "it", x.numpy()), atol=1e-6
    )
