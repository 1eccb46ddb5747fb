"""One shuffled pass over the windows of packed features.

Windows of features on the device are shuffled freely. Streamed features are cut into blocks of
consecutive rows, and as many blocks as fit are on the device together. The order of the blocks is
random, and so is the order of the windows within the blocks that are loaded together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from models.data.batch import Batch, Modality, StreamBatch, Targets
from models.data.packed import PackedFeatures, Streaming
from models.data.windows import Rows, Windows

BLOCKS_AT_ONCE = 16  # about as many blocks are mixed in a batch

Example = tuple[Batch, Targets]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive windows, and the run of rows that they read."""

    windows: slice
    rows: slice

    @property
    def n_rows(self) -> int:
        """Length of the run."""
        return self.rows.stop - self.rows.start


def shuffled_batches(
    packed: PackedFeatures, windows: Windows, shuffle: np.random.Generator, batch_size: int
) -> Iterator[Example]:
    """Yield each window once, in random order, in batches; the last may be smaller."""
    if packed.streaming is None:
        for chosen in batches(shuffle.permutation(len(windows)), batch_size):
            yield packed.gather(windows, chosen)
        return
    n_done, pending = 0, list[Example]()
    for group in groups(blocks(windows, packed.streaming), packed.streaming, shuffle):
        for example in _draw(packed, windows, group, shuffle, batch_size, n_done):
            pending.append(example)
            n_done += len(example[1].va)
            if n_done % batch_size == 0 or n_done == len(windows):
                yield _join(pending)
                pending = []


def blocks(windows: Windows, streaming: Streaming) -> list[Block]:
    """Return all windows in order, in blocks of limited length; a long window may exceed it."""
    first, stop = windows.spans()
    result, start = list[Block](), 0
    while start < len(windows):
        until = first[start] + streaming.n_rows // BLOCKS_AT_ONCE
        end = max(int(np.searchsorted(stop, until, side="right")), start + 1)
        result.append(Block(slice(start, end), slice(int(first[start]), int(stop[end - 1]))))
        start = end
    return result


def groups(
    blocks: Sequence[Block], streaming: Streaming, shuffle: np.random.Generator
) -> Iterator[list[Block]]:
    """Yield the blocks in random order, in groups of at least one that fit on the device."""
    group, n_rows = list[Block](), 0
    for block in (blocks[k] for k in shuffle.permutation(len(blocks))):
        if group and n_rows + block.n_rows > streaming.n_rows:
            yield group
            group, n_rows = [], 0
        group.append(block)
        n_rows += block.n_rows
    if group:
        yield group


def _draw(
    packed: PackedFeatures,
    windows: Windows,
    group: Sequence[Block],
    shuffle: np.random.Generator,
    batch_size: int,
    n_done: int,
) -> Iterator[Example]:
    """Yield the windows of a group in random order, split where a batch is full.

    A separate function, so that its rows are freed before the next group is loaded.
    """
    assert packed.streaming
    loaded = packed.copy_runs([block.rows for block in group], packed.streaming.device)
    chosen = np.concatenate([np.r_[block.windows] for block in group])
    shift = loaded.offsets[:-1] - [block.rows.start for block in group]
    shift = np.repeat(shift, [block.windows.stop - block.windows.start for block in group])
    order = shuffle.permutation(len(chosen))
    for part in np.split(order, range(batch_size - n_done % batch_size, len(order), batch_size)):
        index, by = chosen[part], shift[part, None]
        rows: dict[Modality, Rows] = {
            modality: Rows(each.index + by, each.real)
            for modality, each in windows.rows(index).items()
        }
        predicted = windows.predicted(index)
        yield loaded.read(rows, Rows(predicted.index + by, predicted.real))


def _join(examples: Sequence[Example]) -> Example:
    if len(examples) == 1:
        return examples[0]
    parts, targets = zip(*examples, strict=True)
    return (
        Batch(
            {
                name: StreamBatch(
                    torch.cat([part[name].values for part in parts]),
                    torch.cat([part[name].valid for part in parts]),
                )
                for name in parts[0].streams
            }
        ),
        Targets(torch.cat([t.va for t in targets]), torch.cat([t.valid for t in targets])),
    )


def batches(order: Int64[np.ndarray, "N"], batch_size: int) -> list[Int64[np.ndarray, "B"]]:
    """Split the order into parts of at most `batch_size`."""
    return np.split(order, range(batch_size, len(order), batch_size))
