"""The bank: every row of many clips, end to end in one array per modality."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float64, Int64, Shaped
from torch import Tensor

from models.data.batch import Batch, Targets
from models.data.windows import Rows, Windows

ROWS_AT_ONCE = 65536  # bounds the float64 copy that sums are made from


@dataclass(frozen=True, slots=True)
class Streaming:
    """How windows of a bank reach a device that has no room for all of it."""

    device: torch.device
    n_rows: int
    """That may lie on the device at once."""


@dataclass(frozen=True, slots=True)
class PackedFeatures:
    """Rows on the label clock. Clip c has rows [offsets[c], offsets[c + 1]), in frame order."""

    clip_ids: tuple[str, ...]
    offsets: Int64[np.ndarray, "C"]
    """One more than there are clips."""
    time_s: Float64[np.ndarray, "N"]
    """On each video's own clock."""
    visual: Float16[Tensor, "N Dv"]
    visual_valid: Bool[Tensor, "N"]
    audio: Float16[Tensor, "N Da"]
    audio_valid: Bool[Tensor, "N"]
    va: Float64[Tensor, "N 2"]
    """0 where not annotated."""
    va_valid: Bool[Tensor, "N"]
    streaming: Streaming | None = None
    """None where all rows lie on the device that windows are gathered on."""

    @property
    def device(self) -> torch.device:
        """Where windows are gathered to."""
        return self.streaming.device if self.streaming else self.visual.device

    @property
    def n_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Each clip's id, and its rows."""
        for clip_id, (start, stop) in zip(
            self.clip_ids, pairwise(self.offsets.tolist()), strict=True
        ):
            yield clip_id, slice(start, stop)

    def part(self, clip_ids: Sequence[str]) -> "PackedFeatures":
        """The rows of clips that stand one after the other in the bank, without a copy of them.

        `ValueError` where they do not.
        """
        first = self.clip_ids.index(clip_ids[0])
        stop = first + len(clip_ids)
        if self.clip_ids[first:stop] != tuple(clip_ids):
            raise ValueError(f"{', '.join(clip_ids)} do not stand one after the other in the bank")
        offsets = self.offsets[first : stop + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        cut = {name: tensor[rows] for name, tensor in self._tensors().items()}
        return replace(
            self,
            clip_ids=self.clip_ids[first:stop],
            offsets=offsets - offsets[0],
            time_s=self.time_s[rows],
            **cut,
        )

    def to(self, device: torch.device) -> "PackedFeatures":
        """The bank with its tensors on a device."""
        tensors = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return replace(self, **tensors, streaming=None)

    def runs(self, runs: Sequence[slice], device: torch.device) -> "PackedFeatures":
        """These runs of rows, one after the other, copied to a device; its clips have no names."""
        offsets = np.cumsum([0, *(run.stop - run.start for run in runs)], dtype=np.int64)
        copied = {}
        for name, whole in self._tensors().items():
            shape = (int(offsets[-1]), *whole.shape[1:])
            copied[name] = torch.empty(shape, dtype=whole.dtype, device=device)
            for run, (start, stop) in zip(runs, pairwise(offsets.tolist()), strict=True):
                copied[name][start:stop] = whole[run]  # run by run: no second copy of all of them
        time_s = np.concatenate([self.time_s[run] for run in runs])
        return PackedFeatures(("",) * len(runs), offsets, time_s, **copied, streaming=None)

    def gather(self, windows: Windows, chosen: Int64[np.ndarray, "B"]) -> tuple[Batch, Targets]:
        """The chosen windows, padded to one size; by index, on the bank's device."""
        return self.read(windows.visual(chosen), windows.audio(chosen), windows.predicted(chosen))

    def read(self, seen: Rows, heard: Rows, predicted: Rows) -> tuple[Batch, Targets]:
        """The windows of these rows, on the bank's device."""
        rows, real = self._placed(predicted)
        # A row of which nothing was seen or heard teaches nothing.
        perceived = taken(self.visual_valid, rows) | taken(self.audio_valid, rows)
        known = (taken(self.va_valid, rows) & perceived & real).to(self.device)
        va = taken(self.va, rows).to(self.device).float()
        batch = Batch(
            *self._read(self.visual, self.visual_valid, seen),
            *self._read(self.audio, self.audio_valid, heard),
        )
        return batch, Targets(va * known.unsqueeze(-1), known)

    def _read(
        self, values: Float16[Tensor, "N D"], valid: Bool[Tensor, "N"], rows: Rows
    ) -> tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T"]]:
        """Rows of one modality, and which are valid; padding is 0, and not valid."""
        index, real = self._placed(rows)
        found = taken(values, index).to(self.device).float()
        known = taken(valid, index)
        if not rows.real.all():  # asked of the CPU: a GPU would have to be waited for
            found *= real.to(self.device).unsqueeze(-1)
            known &= real
        return found, known.to(self.device)

    def _placed(self, rows: Rows) -> tuple[Int64[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Places where the rows lie."""
        device = self.visual.device
        return torch.from_numpy(rows.index).to(device), torch.from_numpy(rows.real).to(device)

    def _tensors(self) -> dict[str, Tensor]:
        """The fields with a row each, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def taken(values: Shaped[Tensor, "N *D"], rows: Int64[Tensor, "B T"]) -> Shaped[Tensor, "B T *D"]:
    """The rows by index: of long rows this copies each whole, where `values[rows]` does not."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)
