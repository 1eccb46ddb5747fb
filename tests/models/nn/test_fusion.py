import numpy as np
import pytest
import torch

from models.nn.fusion import Concatenation, CrossModalAttention, GatedFusion
from tests.helpers.numpy_reference import (
    attend,
    feed_forward,
    heads_of,
    layer_norm,
    linear,
    weights_of,
)

WIDTH = 8
HEADS = 4


@pytest.fixture
def attention() -> CrossModalAttention:
    torch.manual_seed(0)
    return CrossModalAttention(WIDTH, HEADS).eval()


@pytest.fixture
def gate() -> GatedFusion:
    torch.manual_seed(0)
    return GatedFusion(2, WIDTH, dropout=0.5).eval()


@pytest.fixture
def concatenation() -> Concatenation:
    torch.manual_seed(0)
    return Concatenation(2, WIDTH, dropout=0.5).eval()


def attention_by_hand(p, asking, asked, asked_valid):
    """One window: asking (T, W), asked (S, W), asked_valid (S,)."""
    streams = linear(p, "query", asking), linear(p, "key", asked), linear(p, "value", asked)
    heads = zip(*(heads_of(x, HEADS) for x in streams), strict=True)
    attended = np.concatenate([attend(*head, asked_valid) for head in heads], axis=1)
    x = layer_norm(p, "norm_attended", asking + linear(p, "out", attended))
    return layer_norm(p, "norm_out", x + feed_forward(p, "feed_forward", x))


def test_attention_equals_numpy_on_its_own_weights(attention):
    asking, asked = torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH)
    valid = torch.rand(2, 7) > 0.3
    found = attention(asking, asked, valid).detach().numpy()
    for b in range(2):
        expected = attention_by_hand(
            weights_of(attention), asking[b].numpy(), asked[b].numpy(), valid[b].numpy()
        )
        np.testing.assert_allclose(found[b], expected, atol=1e-5)


def test_attention_is_blind_to_what_is_behind_the_mask(attention):
    image, audio = torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH)
    valid = torch.tensor([[True, True, False, False, True], [False] * 5])
    spoiled = audio.masked_fill(~valid.unsqueeze(-1), 1e6)
    torch.testing.assert_close(
        attention(image, spoiled, valid), attention(image, audio, valid), rtol=0, atol=0
    )


def test_a_silent_window_is_finite_and_has_finite_gradients(attention):
    image = torch.randn(2, 5, WIDTH, requires_grad=True)
    audio = torch.randn(2, 5, WIDTH, requires_grad=True)
    valid = torch.tensor([[False] * 5, [True] * 5])
    out = attention(image, audio, valid)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert image.grad.isfinite().all()
    assert not audio.grad[0].any()
    assert audio.grad[1].any()


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"width \(10\) must be a multiple of the number of heads"):
        CrossModalAttention(10, 4)


def test_gate_equals_numpy_on_its_own_weights(gate):
    p = weights_of(gate)
    image, audio = torch.randn(1, 6, WIDTH), torch.randn(1, 6, WIDTH)
    seen = torch.ones(1, 6, dtype=torch.bool)
    x, y = (
        linear(p, "projections.0", image[0].numpy()),
        linear(p, "projections.1", audio[0].numpy()),
    )
    inner = np.maximum(linear(p, "gate_mlp.0", np.concatenate([x, y], axis=1)), 0)
    g = 1 / (1 + np.exp(-linear(p, "gate_mlp.2", inner)))
    expected = np.maximum(linear(p, "out.0", g * x + (1 - g) * y), 0)
    found = gate((image, audio), (seen, seen))[0].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    projected = gate.projections[0](image), gate.projections[1](audio)
    weight = gate.gate_of_two(*projected, seen, seen)[0].detach().numpy()
    np.testing.assert_allclose(weight, g, atol=1e-6)


@pytest.mark.parametrize(
    ("image_valid", "audio_valid", "reads_image", "reads_audio"),
    [
        (True, True, True, True),
        (True, False, True, False),
        (False, True, False, True),
        (False, False, True, False),
    ],
)
def test_where_one_modality_is_absent_the_gate_reads_the_other(
    gate, image_valid, audio_valid, reads_image, reads_audio
):
    image = torch.randn(1, 3, WIDTH, requires_grad=True)
    audio = torch.randn(1, 3, WIDTH, requires_grad=True)
    masks = torch.full((1, 3), image_valid), torch.full((1, 3), audio_valid)
    gate((image, audio), masks).sum().backward()
    assert bool(image.grad.any()) is reads_image
    assert bool(audio.grad.any()) is reads_audio


def test_the_gate_is_one_or_zero_where_one_modality_is_absent(gate):
    x, y = torch.randn(1, 4, WIDTH), torch.randn(1, 4, WIDTH)
    image_valid, audio_valid = torch.tensor([[[True, True, False, False]], [[True, False] * 2]])
    weight = gate.gate_of_two(x, y, image_valid, audio_valid)[0]
    assert weight[0].min() > 0
    assert weight[0].max() < 1
    assert weight[1:].tolist() == [[1.0] * WIDTH, [0.0] * WIDTH, [1.0] * WIDTH]


def test_concatenation_equals_numpy_on_its_own_weights(concatenation):
    image, audio = torch.randn(1, 4, WIDTH), torch.randn(1, 4, WIDTH)
    image_valid, audio_valid = torch.tensor([[[True, True, False, False]], [[True, False] * 2]])
    seen, heard = image[0].numpy().copy(), audio[0].numpy().copy()
    seen[[2, 3]], heard[[1, 3]] = 0, 0
    both = linear(weights_of(concatenation), "out.0", np.concatenate([seen, heard], axis=1))
    found = concatenation((image, audio), (image_valid, audio_valid))[0].detach().numpy()
    np.testing.assert_allclose(found, np.maximum(both, 0), atol=1e-6)


def test_concatenation_is_blind_to_what_is_behind_the_masks(concatenation):
    image, audio = torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH)
    masks = torch.rand(2, 5) > 0.4, torch.rand(2, 5) > 0.4
    spoiled = [
        x.masked_fill(~valid.unsqueeze(-1), 1e6)
        for x, valid in zip((image, audio), masks, strict=True)
    ]
    torch.testing.assert_close(
        concatenation(spoiled, masks), concatenation((image, audio), masks), rtol=0, atol=0
    )


@pytest.mark.parametrize("kind", [GatedFusion, Concatenation])
def test_dropout_is_the_last_thing_done(kind):
    fusion, seen = kind(2, WIDTH, dropout=1.0), torch.ones(1, 3, dtype=torch.bool)
    assert not fusion(torch.randn(2, 1, 3, WIDTH).unbind(), (seen, seen)).any()
