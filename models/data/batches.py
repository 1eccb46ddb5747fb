"""One pass over the windows of a bank, whether the device holds all of its rows or some at a time.

A bank that lies on the device is drawn from as a whole. Of a streamed one as many blocks lie there
together as there is room for, each a run of rows that is read in one go; blocks come in random
order, and windows in random order within the blocks that lie there together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Int64

from models.data.batch import Batch, Targets
from models.data.packed import PackedFeatures, Streaming
from models.data.windows import Rows, Windows

BLOCKS_AT_ONCE = 16  # about: how many places of the bank meet in a batch

Example = tuple[Batch, Targets]


@dataclass(frozen=True, slots=True)
class Block:
    """Windows that stand one after the other, and the run of rows that they read."""

    windows: slice
    rows: slice

    @property
    def n_rows(self) -> int:
        """Of the run."""
        return self.rows.stop - self.rows.start


def shuffled_batches(
    bank: PackedFeatures, windows: Windows, shuffle: np.random.Generator, batch_size: int
) -> Iterator[Example]:
    """Every window once, in batches of `batch_size` but for the last, in an order of `shuffle`."""
    if bank.streaming is None:
        for chosen in batches(shuffle.permutation(len(windows)), batch_size):
            yield bank.gather(windows, chosen)
        return
    n_done, pending = 0, list[Example]()
    for group in groups(blocks(windows, bank.streaming), bank.streaming, shuffle):
        for example in _drawn(bank, windows, group, shuffle, batch_size, n_done):
            pending.append(example)
            n_done += len(example[1].va)
            if n_done % batch_size == 0 or n_done == len(windows):
                yield _joined(pending)
                pending = []


def blocks(windows: Windows, streaming: Streaming) -> list[Block]:
    """All windows in order, cut where a run would grow too long; one window may be as long."""
    first, stop = windows.spans()
    found, start = list[Block](), 0
    while start < len(windows):
        until = first[start] + streaming.n_rows // BLOCKS_AT_ONCE
        end = max(int(np.searchsorted(stop, until, side="right")), start + 1)
        found.append(Block(slice(start, end), slice(int(first[start]), int(stop[end - 1]))))
        start = end
    return found


def groups(
    found: Sequence[Block], streaming: Streaming, shuffle: np.random.Generator
) -> Iterator[list[Block]]:
    """The blocks in random order, as many together as there is room for, or one."""
    group, n_rows = list[Block](), 0
    for block in (found[k] for k in shuffle.permutation(len(found))):
        if group and n_rows + block.n_rows > streaming.n_rows:
            yield group
            group, n_rows = [], 0
        group.append(block)
        n_rows += block.n_rows
    if group:
        yield group


def _drawn(
    bank: PackedFeatures,
    windows: Windows,
    group: Sequence[Block],
    shuffle: np.random.Generator,
    batch_size: int,
    n_done: int,
) -> Iterator[Example]:
    """The windows of a group in random order, cut where a batch is full.

    A function of its own, so that these rows are given up before others are loaded.
    """
    assert bank.streaming
    here = bank.runs([block.rows for block in group], bank.streaming.device)
    chosen = np.concatenate([np.r_[block.windows] for block in group])
    moved = here.offsets[:-1] - [block.rows.start for block in group]
    moved = np.repeat(moved, [block.windows.stop - block.windows.start for block in group])
    order = shuffle.permutation(len(chosen))
    for part in np.split(order, range(batch_size - n_done % batch_size, len(order), batch_size)):
        index, by = chosen[part], moved[part, None]
        yield here.read(
            _moved(windows.visual(index), by),
            _moved(windows.audio(index), by),
            _moved(windows.predicted(index), by),
        )


def _moved(rows: Rows, by: Int64[np.ndarray, "B 1"]) -> Rows:
    """The same rows where they lie now."""
    return Rows(rows.index + by, rows.real)


def _joined(examples: Sequence[Example]) -> Example:
    """Parts of a batch as one."""
    if len(examples) == 1:
        return examples[0]
    parts, targets = zip(*examples, strict=True)
    batch, truth = (
        [torch.cat([getattr(part, field.name) for part in each]) for field in fields(each[0])]
        for each in (parts, targets)
    )
    return Batch(*batch), Targets(*truth)


def batches(order: Int64[np.ndarray, "N"], batch_size: int) -> list[Int64[np.ndarray, "B"]]:
    """The order in pieces of at most `batch_size`."""
    return np.split(order, range(batch_size, len(order), batch_size))
