from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.batches import blocks, groups, shuffled_batches
from models.data.packed import PackedFeatures, Streaming
from models.data.placement import MIB, place_on_device, streaming_note
from models.data.windows import causal_windows, dense_windows
from tests.helpers.two_streams import packed_streams

CPU = torch.device("cpu")


def packed_rows(lengths, *, width=4, seed=0) -> PackedFeatures:
    """Two rows a second; the first number of an embedding, and the valence, tell the row."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    row = torch.arange(n)
    values = torch.from_numpy(rng.standard_normal((n, width))).half()
    values[:, 0] = row.half()
    va = torch.stack([row.double(), -row.double()], dim=1)
    return PackedFeatures(
        tuple(f"c{k}" for k in range(len(lengths))),
        np.cumsum([0, *lengths]),
        np.concatenate([np.arange(length) / 2 for length in lengths]),
        streams=packed_streams(
            values,
            torch.from_numpy(rng.random(n) < 0.9),
            2 * values,
            torch.from_numpy(rng.random(n) < 0.9),
        ),
        va=va,
        va_valid=torch.from_numpy(rng.random(n) < 0.9),
    )


def windows_of(packed, kind):
    if kind == "dense":
        return dense_windows(packed.offsets, size=8, stride=5)
    return causal_windows(packed.offsets, packed.time_s, stride=3)


def tensors(example) -> list[torch.Tensor]:
    batch, targets = example
    return [
        *(each for stream in batch.streams.values() for each in (stream.values, stream.valid)),
        *(targets.va, targets.valid),
    ]


def rows_of(examples) -> list[bytes]:
    """Every window of some batches, as bytes, sorted."""
    found = []
    for example in examples:
        for window in zip(*tensors(example), strict=True):
            found.append(b"".join(tensor.numpy().tobytes() for tensor in window))
    return sorted(found)


@pytest.mark.parametrize("kind", ["dense", "causal"])
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    n_rows=st.integers(0, 200),
    batch_size=st.integers(2, 9),
    seed=st.integers(0, 99),
)
def test_a_streamed_pass_sees_each_window_once_and_as_it_is(
    kind, lengths, n_rows, batch_size, seed
):
    packed = packed_rows(lengths)
    windows = windows_of(packed, kind)
    streamed = replace(packed, streaming=Streaming(CPU, n_rows))
    found = list(shuffled_batches(streamed, windows, np.random.default_rng(seed), batch_size))
    whole = list(shuffled_batches(packed, windows, np.random.default_rng(seed), batch_size))
    assert [len(each[1].va) for each in found] == [len(each[1].va) for each in whole]
    assert rows_of(found) == rows_of(whole)
    again = list(shuffled_batches(streamed, windows, np.random.default_rng(seed), batch_size))
    for one, other in zip(found, again, strict=True):
        assert all(map(torch.equal, tensors(one), tensors(other)))


def test_features_on_the_device_are_drawn_from_as_a_whole():
    # one permutation of all windows, cut into batches: published scores were trained so
    packed = packed_rows([30, 9, 41])
    windows = windows_of(packed, "dense")
    order = np.random.default_rng(3).permutation(len(windows))
    for k, found in enumerate(shuffled_batches(packed, windows, np.random.default_rng(3), 4)):
        wanted = packed.gather(windows, order[4 * k : 4 * k + 4])
        assert all(map(torch.equal, tensors(found), tensors(wanted)))


def test_a_pass_is_shuffled_among_blocks_and_within_them():
    packed = packed_rows([100] * 8)
    windows = dense_windows(packed.offsets, size=5, stride=5)
    streamed = replace(packed, streaming=Streaming(CPU, 400))
    first = [
        each[1].va[0, 0, 0].item() for each in shuffled_batches(streamed, windows, seeded(0), 1)
    ]
    other = [
        each[1].va[0, 0, 0].item() for each in shuffled_batches(streamed, windows, seeded(1), 1)
    ]
    assert first != other
    steps = np.abs(np.diff(first))
    assert (steps <= 5).mean() < 0.2  # a pass in order, or block by block, has nearly all
    assert len({row // 100 for row in first[:80]}) > 4  # half of the rows at once: of most clips


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=7), st.integers(0, 2000))
def test_blocks_hold_all_windows_and_no_more_rows_than_there_is_room_for(lengths, n_rows):
    packed = packed_rows(lengths)
    windows, streaming = windows_of(packed, "dense"), Streaming(CPU, n_rows)
    found = blocks(windows, streaming)
    assert np.concatenate([np.r_[block.windows] for block in found]).tolist() == [
        *range(len(windows))
    ]
    for block in found:
        index = windows.rows(np.r_[block.windows])["visual"].index
        assert (index.min(), index.max() + 1) == (block.rows.start, block.rows.stop)
        assert block.n_rows <= max(n_rows / 16, 8)
    grouped = list(groups(found, streaming, seeded(0)))
    assert sorted(b.rows.start for group in grouped for b in group) == [b.rows.start for b in found]
    for group in grouped:
        assert len(group) == 1 or sum(block.n_rows for block in group) <= n_rows


def test_a_group_takes_what_there_is_room_for():
    packed = packed_rows([1600])
    streaming = Streaming(CPU, 320)  # blocks of 20 rows: 16 of them
    found = blocks(dense_windows(packed.offsets, size=5, stride=5), streaming)
    assert {block.n_rows for block in found} == {20}
    assert [len(group) for group in groups(found, streaming, seeded(0))] == [16] * 5


def test_a_cpu_reads_memory_maps_and_streams_what_exceeds_the_limit():
    packed = packed_rows([100_000], width=8)  # 2 * 8 * 2 + 16 + 3 bytes a row: 4.86 MiB
    assert packed.n_bytes == 100_000 * 51
    assert place_on_device(packed, CPU, None) is packed
    assert place_on_device(packed, CPU, 5).streaming is None
    streamed = place_on_device(packed, CPU, 4)
    assert streamed.streaming == Streaming(CPU, int(0.9 * 4 * MIB / 51))
    assert streamed.device == CPU
    # two that fit alone, but not together
    small = packed_rows([30_000], width=8)
    assert place_on_device(small, CPU, 2, place_on_device(small, CPU, 2)).streaming.n_rows == (
        int(0.9 * (2 * MIB - 30_000 * 51) / 51)
    )
    assert (
        place_on_device(small, CPU, 2, streamed).streaming is None
    )  # streamed features take no memory there


def test_streamed_training_clips_are_noted():
    packed = packed_rows([100_000], width=8)
    assert streaming_note(place_on_device(packed, CPU, 5)) == ()
    (note,) = streaming_note(place_on_device(packed, CPU, 4))
    assert "take 5 MiB, more than train.bank_mib allows on cpu: they were" in note
    assert f"streamed, {int(0.9 * 4 * MIB / 51)} of 100000 rows at a time" in note


def test_selected_clips_of_streamed_features_are_streamed_and_moved_ones_are_not():
    packed = replace(packed_rows([9, 9]), streaming=Streaming(CPU, 5))
    assert packed.select(["c1"]).streaming == packed.streaming
    assert packed.to(CPU).streaming is None


@pytest.mark.parametrize("kind", ["dense", "causal"])
@pytest.mark.parametrize("clip_ids", [["c1", "c2"], ["c2", "c0"]], ids="-".join)
@pytest.mark.parametrize("n_rows", [None, 30], ids=["whole", "streamed"])
def test_selected_clips_give_the_windows_of_clips_packed_alone(kind, clip_ids, n_rows):
    packed = packed_rows([20, 9, 31])
    spans = dict(packed.spans())
    rows = np.concatenate([np.r_[spans[clip_id]] for clip_id in clip_ids])
    alone = PackedFeatures(
        tuple(clip_ids),
        np.cumsum([0, *(spans[c].stop - spans[c].start for c in clip_ids)]),
        packed.time_s[rows],
        streams=packed_streams(
            packed["visual"].values[rows],
            packed["visual"].valid[rows],
            packed["audio"].values[rows],
            packed["audio"].valid[rows],
        ),
        va=packed.va[rows],
        va_valid=packed.va_valid[rows],
    )
    streaming = Streaming(CPU, n_rows) if n_rows else None
    found, expected = (
        list(shuffled_batches(each, windows_of(each, kind), seeded(0), 4))
        for each in (
            replace(packed.select(clip_ids), streaming=streaming),
            replace(alone, streaming=streaming),
        )
    )
    for one, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, tensors(one), tensors(other)))
    assert packed.select(clip_ids).n_bytes == alone.n_bytes


def test_a_selection_of_a_selection_shares_the_embeddings():
    packed = packed_rows([20, 9, 31])
    last = packed.select(["c2", "c1"]).select(["c1"])
    assert last["visual"].values is packed["visual"].values
    assert torch.equal(last.embeddings("audio"), packed["audio"].values[20:29])
    assert torch.equal(last.va, packed.va[20:29])
    assert packed.select(("c0", "c1", "c2")) is packed
