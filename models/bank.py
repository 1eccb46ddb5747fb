"""The bank: every row of many clips, end to end in one array per modality."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float64, Int64
from torch import Tensor

from models.adapter import Statistics
from models.heads.base import Batch
from models.losses import Targets
from models.windows import Rows, Windows

STD_FLOOR = 1e-6  # a number that varies less is constant: it is left unscaled
ROWS_AT_ONCE = 65536  # bounds the float64 copy that sums are made from


@dataclass(frozen=True, slots=True)
class Bank:
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

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Each clip's id, and its rows."""
        for clip_id, (start, stop) in zip(
            self.clip_ids, pairwise(self.offsets.tolist()), strict=True
        ):
            yield clip_id, slice(start, stop)

    def part(self, clip_ids: Sequence[str]) -> "Bank":
        """The rows of clips that stand one after the other in the bank, without a copy of them.

        `ValueError` where they do not.
        """
        first = self.clip_ids.index(clip_ids[0])
        stop = first + len(clip_ids)
        if self.clip_ids[first:stop] != tuple(clip_ids):
            raise ValueError(f"{', '.join(clip_ids)} do not stand one after the other in the bank")
        offsets = self.offsets[first : stop + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        cut = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name not in ("clip_ids", "offsets")
        }
        return Bank(self.clip_ids[first:stop], offsets - offsets[0], **cut)

    def to(self, device: torch.device) -> "Bank":
        """The bank with its tensors on a device."""
        tensors = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)

    def gather(self, windows: Windows, chosen: Int64[np.ndarray, "B"]) -> tuple[Batch, Targets]:
        """The chosen windows, padded to one size; by index, on the bank's device."""
        see, see_real = self._placed(windows.visual(chosen))
        hear, hear_real = self._placed(windows.audio(chosen))
        rows, real = self._placed(windows.predicted(chosen))
        batch = Batch(
            self.visual[see].float() * see_real.unsqueeze(-1),
            self.visual_valid[see] & see_real,
            self.audio[hear].float() * hear_real.unsqueeze(-1),
            self.audio_valid[hear] & hear_real,
        )
        # A row of which nothing was seen or heard teaches nothing.
        perceived = self.visual_valid[rows] | self.audio_valid[rows]
        known = self.va_valid[rows] & perceived & real
        return batch, Targets(self.va[rows].float() * known.unsqueeze(-1), known)

    def _placed(self, rows: Rows) -> tuple[Int64[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Places on the bank's device."""
        device = self.visual.device
        return torch.from_numpy(rows.index).to(device), torch.from_numpy(rows.real).to(device)


def statistics(values: Float16[Tensor, "N D"], valid: Bool[Tensor, "N"]) -> Statistics:
    """Mean and deviation over the valid rows, summed in float64; 0 and 1 where there is none."""
    width = values.shape[1]
    weight = valid.double()
    n = weight.sum().clamp(min=1)
    mean, square = torch.zeros(2, width, dtype=torch.float64, device=values.device)
    for rows, part in zip(values.split(ROWS_AT_ONCE), weight.split(ROWS_AT_ONCE), strict=True):
        mean += part @ rows.double() / n
    for rows, part in zip(values.split(ROWS_AT_ONCE), weight.split(ROWS_AT_ONCE), strict=True):
        square += part @ (rows.double() - mean).square() / n
    std = square.sqrt()
    std = torch.where(std < STD_FLOOR, 1.0, std)
    return Statistics(mean.float(), std.float())
