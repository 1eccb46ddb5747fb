import pytest
import torch

from models.nn.fusion import StreamFusion, nearest_audio_rows

WIDTH = 8


def fusion(name, query_modality="visual", partner="audio") -> StreamFusion:
    torch.manual_seed(0)
    return StreamFusion(
        name, WIDTH, query_modality=query_modality, gate_partner=partner, n_heads=2, dropout=0.5
    ).eval()


@pytest.fixture
def streams():
    rng = torch.Generator().manual_seed(1)
    image, audio = torch.randn(2, 2, 5, WIDTH, generator=rng)
    seen, heard = torch.rand(2, 2, 5, generator=rng) > 0.2
    return image, audio, seen, heard


def test_attention_then_gate(streams):
    image, audio, seen, heard = streams
    module = fusion("attention_gate")
    asked = module.attention(image, audio, heard)
    torch.testing.assert_close(module(*streams), module.gate(asked, audio, seen, heard))
    of_image = fusion("attention_gate", partner="visual")
    asked = of_image.attention(image, audio, heard)
    torch.testing.assert_close(of_image(*streams), of_image.gate(asked, image, seen, seen))


def test_the_sound_may_ask(streams):
    image, audio, seen, heard = streams
    module = fusion("attention_gate", query_modality="audio")
    asked = module.audio_attention(audio, image, seen)
    assert module.attention is None
    torch.testing.assert_close(module(*streams), module.gate(image, asked, seen, heard))
    both = fusion("attention_gate", query_modality="both")
    expected = both.gate(
        both.attention(image, audio, heard), both.audio_attention(audio, image, seen), seen, heard
    )
    torch.testing.assert_close(both(*streams), expected)


def test_attention_alone(streams):
    image, audio, seen, heard = streams
    module = fusion("attention")
    torch.testing.assert_close(module(*streams), module.attention(image, audio, heard))
    reverse = fusion("attention", query_modality="audio")
    torch.testing.assert_close(reverse(*streams), reverse.audio_attention(audio, image, seen))
    both = fusion("attention", query_modality="both")
    answers = both.attention(image, audio, heard), both.audio_attention(audio, image, seen)
    torch.testing.assert_close(both(*streams), both.merge(*answers, seen, heard))


def test_the_gate_alone_and_side_by_side(streams):
    gate = fusion("gate")
    assert gate.attention is None
    torch.testing.assert_close(gate(*streams), gate.gate(*streams))
    plain = fusion("concatenation")
    assert plain.gate is None
    torch.testing.assert_close(plain(*streams), plain.merge(*streams))


@pytest.mark.parametrize("name", ["attention_gate", "gate", "concatenation"])
def test_sound_with_more_rows_is_taken_at_the_nearest_in_time(name):
    # 2 visual rows against 6 of audio: the steps end together, so rows 2 and 5 of the audio
    rng = torch.Generator().manual_seed(2)
    image, audio = torch.randn(1, 2, WIDTH, generator=rng), torch.randn(1, 6, WIDTH, generator=rng)
    seen, heard = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 6, dtype=torch.bool)
    module = fusion(name)
    if module.attention:
        asked = module.attention(image, audio, heard)
        expected = module.gate(asked, audio[:, [2, 5]], seen, heard[:, [2, 5]])
    else:
        last = module.gate or module.merge
        expected = last(image, audio[:, [2, 5]], seen, heard[:, [2, 5]])
    torch.testing.assert_close(module(image, audio, seen, heard), expected)


def test_of_steps_equally_many_apart_the_sound_is_the_nearest():
    # 20 visual rows over 10 s stand every 0.5 s, 101 of audio every 10/101 s; 9.5 s before the
    # end 95.95 steps of audio have passed, so the first visual row is given step 100 - 96 = 4.
    near = nearest_audio_rows(101, 20, torch.device("cpu")).tolist()
    for row, step in enumerate(near):
        before_s = (19 - row) * 0.5
        assert abs((100 - step) * 10 / 101 - before_s) <= 5 / 101 + 1e-9
    assert (near[0], near[-1]) == (4, 100)


@pytest.mark.parametrize("name", ["attention_gate", "gate", "concatenation"])
def test_a_row_without_a_face_stands_on_the_sound_that_the_fusion_gives_it(name):
    seen = torch.tensor([[True, False, False]])
    heard = torch.tensor([[False, False, False, False, False, True]])
    assert fusion(name).valid_rows(seen, heard).tolist() == [[True, False, True]]


@pytest.mark.parametrize("name", ["attention_gate", "attention", "gate", "concatenation"])
def test_row_by_row_what_is_seen_or_heard_is_known(name):
    seen, heard = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    assert fusion(name).valid_rows(seen, heard).tolist() == [[True, True, False]]
