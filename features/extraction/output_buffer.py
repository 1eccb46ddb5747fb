"""What an encoder made of the items of a clip, kept until the clip is whole."""

from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile

import torch
from jaxtyping import Float16
from torch import Tensor

IN_MEMORY_BYTES = 8 * 2**20  # what is more goes to a file without a name: memory stays flat
PIECE_BYTES = 4 * 2**20  # that are fetched at a time


class OutputBuffer:
    """Outputs by item, in the order of the items that differ."""

    def __init__(self) -> None:
        self._shape: torch.Size | None = None
        """Of one."""
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it
        self._n_in_file = 0
        self._others: list[Tensor] = []
        """Those that the disk did not take, item by item."""

    @property
    def n_items(self) -> int:
        """How many are kept."""
        return self._n_in_file + len(self._others)

    def add(self, values: Float16[Tensor, "N ..."]) -> None:
        """Keep what comes next; in memory from where the disk is full."""
        self._shape = values.shape[1:]
        if not self._others:
            try:
                self._file.write(values.contiguous().numpy().data)
            except OSError:
                pass
            else:
                self._n_in_file += len(values)
                return
        self._others.extend(values.unbind())

    def in_order(self, order: Sequence[int]) -> Iterator[Float16[Tensor, "_ ..."]]:
        """The outputs of these items, some at a time; an item may come more than once."""
        if self._shape is None:
            return
        size = max(1, PIECE_BYTES // (self._shape.numel() * torch.float16.itemsize))
        for start in range(0, len(order), size):
            wanted = list(order[start : start + size])
            first, stop = wanted[0], wanted[0] + len(wanted)
            if stop <= self._n_in_file and wanted == list(range(first, stop)):
                yield self._from_file(first, len(wanted))
            else:
                yield torch.cat([self._one(item) for item in wanted])

    def _one(self, item: int) -> Float16[Tensor, "1 ..."]:
        if item < self._n_in_file:
            return self._from_file(item, 1)
        return self._others[item - self._n_in_file][None]

    def _from_file(self, first: int, n_items: int) -> Float16[Tensor, "N ..."]:
        assert self._shape is not None
        item_bytes = self._shape.numel() * torch.float16.itemsize
        self._file.seek(first * item_bytes)
        data = bytearray(self._file.read(n_items * item_bytes))
        return torch.frombuffer(data, dtype=torch.float16).view(n_items, *self._shape)

    def close(self) -> None:
        """Forget them."""
        self._others.clear()
        self._file.close()
