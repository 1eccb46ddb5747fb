import numpy as np
import pytest
import torch

from models.nn.transformer import TemporalTransformer, rotate
from tests.helpers.numpy_reference import (
    attend,
    feed_forward,
    heads_of,
    layer_norm,
    linear,
    weights_of,
)

WIDTH = 8
HEADS = 2
N_ROWS_MAX = 16
POSITIONS = ("rotary", "learned")


def branch(positions="rotary", n_layers=2, dropout=0.5) -> TemporalTransformer:
    torch.manual_seed(0)
    return TemporalTransformer(5, WIDTH, HEADS, n_layers, dropout, positions, N_ROWS_MAX).eval()


def turn_by_hand(x):
    """(T, E): each pair of numbers as one complex number, times e^(i t / 10000^(2i/E))."""
    points = x[:, 0::2] + 1j * x[:, 1::2]
    wavelengths = 10000 ** (np.arange(0, x.shape[1], 2) / x.shape[1])
    points = points * np.exp(1j * np.arange(len(x))[:, None] / wavelengths)
    return np.stack([points.real, points.imag], axis=-1).reshape(x.shape)


def branch_by_hand(p, positions, x, valid):
    """One window: x (T, D), valid (T,)."""
    states = linear(p, "projection", x)
    states[~valid] = 0
    if positions == "learned":
        states = states + p["positions.table"][: len(x)]
    turn = turn_by_hand if positions == "rotary" else np.asarray
    for layer in ("layers.0", "layers.1"):
        y = layer_norm(p, f"{layer}.norm_attended", states)
        q, k, v = (
            heads_of(linear(p, f"{layer}.{name}", y), HEADS) for name in ("query", "key", "value")
        )
        found = [attend(turn(q[h]), turn(k[h]), v[h], valid) for h in range(HEADS)]
        states = states + linear(p, f"{layer}.out", np.concatenate(found, axis=1))
        y = layer_norm(p, f"{layer}.norm_inner", states)
        states = states + feed_forward(p, f"{layer}.feed_forward", y)
    return layer_norm(p, "norm_out", states)


@pytest.mark.parametrize("positions", POSITIONS)
def test_it_equals_numpy_on_its_own_weights(positions):
    module = branch(positions)
    with torch.no_grad():  # as if trained: norms that scale, positions and queries that count
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    x, valid = torch.randn(2, 9, 5), torch.rand(2, 9) > 0.3
    found = module(x, valid).detach().numpy()
    for b in range(2):
        expected = branch_by_hand(weights_of(module), positions, x[b].numpy(), valid[b].numpy())
        np.testing.assert_allclose(found[b], expected, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_what_is_behind_the_mask_does_not_matter(positions):
    module, x, valid = branch(positions), torch.randn(2, 9, 5), torch.rand(2, 9) > 0.4
    spoiled = x.masked_fill(~valid.unsqueeze(-1), 1e6)
    torch.testing.assert_close(module(spoiled, valid), module(x, valid), rtol=0, atol=0)


@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_does_not_matter(positions):
    module, x = branch(positions), torch.randn(1, 12, 5)
    valid = torch.arange(12).unsqueeze(0) < 7
    torch.testing.assert_close(module(x, valid)[:, :7], module(x[:, :7], valid[:, :7]))


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_mask_itself_matters(positions):
    module, x = branch(positions), torch.randn(1, 7, 5)
    valid = torch.ones(1, 7, dtype=torch.bool)
    hidden = valid.clone()
    hidden[0, 3] = False
    change = (module(x, valid) - module(x, hidden))[0].abs().amax(dim=-1)
    assert (change > 1e-3).all()


@pytest.mark.parametrize("place", [0, 3, 6])
def test_every_row_is_read_in_the_light_of_every_other(place):
    module, x = branch(), torch.randn(1, 7, 5)
    valid = torch.ones(1, 7, dtype=torch.bool)
    changed = x.clone()
    changed[0, place] += 1
    assert ((module(x, valid) - module(changed, valid)).abs().amax(dim=-1) > 1e-4).all()


def test_a_rotary_product_depends_on_the_distance_of_its_rows_alone():
    torch.manual_seed(0)
    query, key = torch.randn(6), torch.randn(6)
    products = rotate(query.expand(1, 1, 20, 6))[0, 0] @ rotate(key.expand(1, 1, 20, 6))[0, 0].T
    for apart in range(-19, 20):
        same = products.diagonal(apart)
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=1e-5)
    assert products[0].std() > 0.1  # and on the distance it does depend


def test_a_rotary_turn_keeps_the_first_row_and_every_length():
    x = torch.randn(2, 3, 300, 8)
    turned = rotate(x)
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0], rtol=0, atol=0)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_rotary_angles_stay_exact_under_half_precision():
    x = torch.ones(1, 1, 300, 2)
    exact = rotate(x)[0, 0, 299]
    half = rotate(x.bfloat16())[0, 0, 299]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.02)  # 299 -> 300: off by 0.8


@pytest.mark.parametrize(("positions", "moves"), [("rotary", False), ("learned", True)])
def test_later_in_the_window_rotary_reads_the_same_and_learned_does_not(positions, moves):
    module, x = branch(positions), torch.randn(1, 12, 5)
    early, late = torch.arange(12) < 7, torch.arange(12) >= 5
    before = module(x, early.unsqueeze(0))[:, :7]
    after = module(x.roll(5, dims=1), late.unsqueeze(0))[:, 5:]
    change = (before - after).abs().max()
    assert change > 1e-3 if moves else change < 1e-5


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_order_of_the_rows_matters(positions):
    module, x = branch(positions), torch.randn(1, 7, 5)
    valid = torch.ones(1, 7, dtype=torch.bool)
    assert (module(x.flip(1), valid).flip(1) - module(x, valid)).abs().max() > 1e-3


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_window_without_any_valid_row_is_finite_and_has_finite_gradients(positions):
    module, x = branch(positions), torch.randn(2, 6, 5, requires_grad=True)
    out = module(x, torch.tensor([[False] * 6, [True] * 6]))
    out[..., 0].square().sum().backward()
    assert out.isfinite().all()
    assert not x.grad[0].any()
    assert x.grad[1].any(dim=-1).all()
    for parameter in [x, *module.parameters()]:
        assert parameter.grad.isfinite().all()


def test_dropout_follows_both_parts():
    module = branch(dropout=1.0).train()
    x, valid = torch.randn(1, 6, 5), torch.ones(1, 6, dtype=torch.bool)
    torch.testing.assert_close(module(x, valid), module.norm_out(module.projection(x)))


def test_a_window_longer_than_the_learned_positions_is_refused():
    def read(n_rows):
        return branch("learned")(torch.randn(1, n_rows, 5), torch.ones(1, n_rows).bool())

    assert read(N_ROWS_MAX).isfinite().all()
    with pytest.raises(ValueError, match="window of 17 rows is longer than the 16 learned pos"):
        read(N_ROWS_MAX + 1)


def test_learned_positions_begin_small():
    table = branch("learned").positions.table
    assert table.shape == (N_ROWS_MAX, WIDTH)
    assert 0.015 < table.std() < 0.025


def test_rotary_positions_have_no_longest_window():
    n_rows = N_ROWS_MAX + 1
    assert branch()(torch.randn(1, n_rows, 5), torch.ones(1, n_rows).bool()).isfinite().all()


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"width \(8\) must be a multiple of .* heads \(3\)"):
        TemporalTransformer(5, 8, 3, 1, 0.1, "rotary", N_ROWS_MAX)


def test_rotary_positions_refuse_a_head_of_odd_width():
    with pytest.raises(ValueError, match=r"a head's width \(3\) is odd"):
        TemporalTransformer(5, 6, 2, 1, 0.1, "rotary", N_ROWS_MAX)
