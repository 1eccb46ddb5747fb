"""The encoder's outputs for one clip, kept until the clip is complete."""

from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile

import torch
from jaxtyping import Float16, Float32
from torch import Tensor

IN_MEMORY_BYTES = 8 * 2**20  # larger outputs go to an unnamed file, which bounds the memory
PIECE_BYTES = 4 * 2**20  # read from the file at a time

Outputs = Float16[Tensor, "N ..."] | Float32[Tensor, "N ..."]


class OutputBuffer:
    """Outputs of the distinct items of a clip, in order."""

    def __init__(self) -> None:
        self._shape: torch.Size | None = None
        """Shape of one output."""
        self._dtype = torch.float16
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it
        self._n_in_file = 0
        self._in_memory: list[Tensor] = []
        """Outputs, item by item, that came after the disk was full."""

    @property
    def n_items(self) -> int:
        """Number of outputs."""
        return self._n_in_file + len(self._in_memory)

    def add(self, values: Outputs) -> None:
        """Append outputs; they stay in memory once the disk is full."""
        self._shape, self._dtype = values.shape[1:], values.dtype
        if not self._in_memory:
            try:
                self._file.write(values.contiguous().numpy().data)
            except OSError:
                pass
            else:
                self._n_in_file += len(values)
                return
        self._in_memory.extend(values.unbind())

    def in_order(self, order: Sequence[int]) -> Iterator[Outputs]:
        """Yield the outputs of these items, some at a time; an item may occur more than once."""
        if self._shape is None:
            return
        size = max(1, PIECE_BYTES // (self._shape.numel() * self._dtype.itemsize))
        for start in range(0, len(order), size):
            items = list(order[start : start + size])
            first, stop = items[0], items[0] + len(items)
            if stop <= self._n_in_file and items == list(range(first, stop)):
                yield self._read(first, len(items))
            else:
                yield torch.cat([self._read(item, 1) for item in items])

    def _read(self, first: int, n_items: int) -> Outputs:
        """Outputs in the file, or one that is in memory."""
        assert self._shape is not None
        if first >= self._n_in_file:
            return self._in_memory[first - self._n_in_file][None]
        item_bytes = self._shape.numel() * self._dtype.itemsize
        self._file.seek(first * item_bytes)
        data = bytearray(self._file.read(n_items * item_bytes))
        return torch.frombuffer(data, dtype=self._dtype).view(n_items, *self._shape)

    def close(self) -> None:
        """Delete the outputs."""
        self._in_memory.clear()
        self._file.close()
