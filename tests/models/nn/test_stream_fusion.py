import pytest
import torch

from models.nn.fusion import GatedFusion, StreamFusion, nearest_rows

WIDTH = 8


def fusion(name, query: int | None = 0, partner="others", n_streams=2) -> StreamFusion:
    torch.manual_seed(0)
    return StreamFusion(
        name, n_streams, WIDTH, query=query, gate_partner=partner, n_heads=2, dropout=0.5
    ).eval()


@pytest.fixture
def streams():
    rng = torch.Generator().manual_seed(1)
    values = torch.randn(2, 2, 5, WIDTH, generator=rng).unbind()
    valid = (torch.rand(2, 2, 5, generator=rng) > 0.2).unbind()
    return values, valid


def attended(module: StreamFusion, query: int, streams) -> torch.Tensor:
    """The stream after its attention to the other one."""
    values, valid = streams
    return module.attentions[str(query)][0](values[query], values[1 - query], valid[1 - query])


def test_attention_then_gate(streams):
    (image, audio), valid = streams
    module = fusion("attention_gate")
    expected = module.gate((attended(module, 0, streams), audio), valid)
    torch.testing.assert_close(module(*streams), expected)
    of_image = fusion("attention_gate", partner="first")
    expected = of_image.gate((attended(of_image, 0, streams), image), (valid[0], valid[0]))
    torch.testing.assert_close(of_image(*streams), expected)


def test_any_stream_may_be_the_query(streams):
    (image, _), valid = streams
    module = fusion("attention_gate", query=1)
    assert list(module.attentions) == ["1"]
    expected = module.gate((image, attended(module, 1, streams)), valid)
    torch.testing.assert_close(module(*streams), expected)
    every = fusion("attention_gate", query=None)
    both = attended(every, 0, streams), attended(every, 1, streams)
    torch.testing.assert_close(every(*streams), every.gate(both, valid))


def test_attention_alone(streams):
    module = fusion("attention")
    torch.testing.assert_close(module(*streams), attended(module, 0, streams))
    reverse = fusion("attention", query=1)
    torch.testing.assert_close(reverse(*streams), attended(reverse, 1, streams))
    every = fusion("attention", query=None)
    both = attended(every, 0, streams), attended(every, 1, streams)
    torch.testing.assert_close(every(*streams), every.merge(both, streams[1]))


def test_the_gate_alone_and_side_by_side(streams):
    gate = fusion("gate")
    assert not gate.attentions
    torch.testing.assert_close(gate(*streams), gate.gate(*streams))
    plain = fusion("concatenation")
    assert plain.gate is None
    torch.testing.assert_close(plain(*streams), plain.merge(*streams))


def test_the_query_attends_to_each_of_the_other_streams():
    rng = torch.Generator().manual_seed(3)
    values = torch.randn(3, 1, 4, WIDTH, generator=rng).unbind()
    valid = (torch.ones(1, 4, dtype=torch.bool),) * 3
    module = fusion("attention", query=1, n_streams=3)
    first, second = module.attentions["1"]
    expected = second(first(values[1], values[0], valid[0]), values[2], valid[2])
    torch.testing.assert_close(module(values, valid), expected)


def test_the_gate_of_three_streams_is_a_softmax_that_closes_what_is_not_valid():
    torch.manual_seed(4)
    gate = GatedFusion(3, WIDTH, dropout=0.5).eval()
    values = torch.randn(3, 1, 5, WIDTH).unbind()
    rows = [[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0]]
    valid = torch.tensor(rows, dtype=torch.bool).T[:, None].unbind()
    projected = [linear(x) for linear, x in zip(gate.projections, values, strict=True)]
    inner = gate.gate_mlp(torch.cat(projected, dim=-1))
    logits = torch.cat([inner, torch.zeros(1, 5, WIDTH)], dim=-1).unflatten(-1, (3, WIDTH))
    weights = gate.gates(projected, valid)[:, 0]  # (3, 5, W)
    torch.testing.assert_close(weights[:, 0], logits[0, 0].softmax(dim=0))
    torch.testing.assert_close(weights[[0, 2], 1], logits[0, 1, [0, 2]].softmax(dim=0))
    assert not weights[1, 1].any()
    for row, only in ((2, 2), (3, 1), (4, 0)):  # of no valid stream, the first
        assert weights[only, row].tolist() == [1.0] * WIDTH
    fused = sum(weight * x for weight, x in zip(weights, projected, strict=True))
    torch.testing.assert_close(gate(values, valid), gate.out(fused))


@pytest.mark.parametrize("name", ["attention_gate", "gate", "concatenation"])
def test_sound_with_more_rows_is_taken_at_the_nearest_in_time(name):
    # 2 visual rows against 6 of audio: the steps end together, so rows 2 and 5 of the audio
    rng = torch.Generator().manual_seed(2)
    image, audio = torch.randn(1, 2, WIDTH, generator=rng), torch.randn(1, 6, WIDTH, generator=rng)
    seen, heard = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 6, dtype=torch.bool)
    module, streams = fusion(name), ((image, audio), (seen, heard))
    first = attended(module, 0, streams) if module.attentions else image
    last = module.gate or module.merge
    expected = last((first, audio[:, [2, 5]]), (seen, heard[:, [2, 5]]))
    torch.testing.assert_close(module(*streams), expected)


def test_of_steps_equally_many_apart_the_sound_is_the_nearest():
    # 20 visual rows over 10 s stand every 0.5 s, 101 of audio every 10/101 s; 9.5 s before the
    # end 95.95 steps of audio have passed, so the first visual row is given step 100 - 96 = 4.
    near = nearest_rows(101, 20, torch.device("cpu")).tolist()
    for row, step in enumerate(near):
        before_s = (19 - row) * 0.5
        assert abs((100 - step) * 10 / 101 - before_s) <= 5 / 101 + 1e-9
    assert (near[0], near[-1]) == (4, 100)


@pytest.mark.parametrize("name", ["attention_gate", "gate", "concatenation"])
def test_a_row_without_a_face_stands_on_the_sound_that_the_fusion_gives_it(name):
    seen = torch.tensor([[True, False, False]])
    heard = torch.tensor([[False, False, False, False, False, True]])
    assert fusion(name).valid_rows((seen, heard)).tolist() == [[True, False, True]]


@pytest.mark.parametrize("name", ["attention_gate", "attention", "gate", "concatenation"])
def test_row_by_row_what_is_seen_or_heard_is_known(name):
    seen, heard = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    assert fusion(name).valid_rows((seen, heard)).tolist() == [[True, True, False]]
