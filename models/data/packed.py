"""The features and labels of many clips, concatenated in one array each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float64, Int64, Shaped
from torch import Tensor

from models.data.batch import Batch, Modality, Targets
from models.data.windows import Rows, Windows

ROWS_AT_ONCE = 65536  # bounds the memory of float64 copies


@dataclass(frozen=True, slots=True)
class Streaming:
    """How windows are copied to a device that is too small for all rows."""

    device: torch.device
    n_rows: int
    """Rows that fit on the device at once."""


@dataclass(frozen=True, slots=True)
class PackedFeatures:
    """Rows on the label clock. Clip c has the rows [offsets[c], offsets[c + 1]), in frame order."""

    clip_ids: tuple[str, ...]
    offsets: Int64[np.ndarray, "C"]
    """First row of each clip, and the number of rows."""
    time_s: Float64[np.ndarray, "N"]
    """Presentation time in the clip's video."""
    visual: Float16[Tensor, "M Dv"]
    visual_valid: Bool[Tensor, "N"]
    audio: Float16[Tensor, "M Da"]
    audio_valid: Bool[Tensor, "N"]
    va: Float64[Tensor, "N 2"]
    """Valence and arousal; 0 if not annotated."""
    va_valid: Bool[Tensor, "N"]
    index: Int64[Tensor, "N"] | None = None
    """Row of `visual` and `audio` for each of the N rows; None if they are the same rows."""
    streaming: Streaming | None = None
    """None if all rows are on the device that windows are gathered on."""

    @property
    def device(self) -> torch.device:
        """The device that windows are gathered on."""
        return self.streaming.device if self.streaming else self.visual.device

    @property
    def n_bytes(self) -> int:
        """The size of all N rows."""
        others = (self.visual_valid, self.audio_valid, self.va, self.va_valid)
        row_bytes = self.visual[:1].nbytes + self.audio[:1].nbytes
        return sum(tensor.nbytes for tensor in others) + len(self.time_s) * row_bytes

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Yield the id of each clip and its rows."""
        bounds = pairwise(self.offsets.tolist())
        for clip_id, (start, stop) in zip(self.clip_ids, bounds, strict=True):
            yield clip_id, slice(start, stop)

    def embeddings(
        self, modality: Modality, rows: slice | Int64[Tensor, "*R"] = slice(None)
    ) -> Float16[Tensor, "*R D"]:
        """Return the embeddings of some rows."""
        values = self.visual if modality == "visual" else self.audio
        if self.index is not None:
            rows = self.index[rows]
        return values[rows] if isinstance(rows, slice) else index_rows(values, rows)

    def select(self, clip_ids: Sequence[str]) -> "PackedFeatures":
        """Return the rows of some clips, in the given order; the embeddings are not copied."""
        if tuple(clip_ids) == self.clip_ids:
            return self
        spans = dict(self.spans())
        chosen = [spans[clip_id] for clip_id in clip_ids]
        rows = np.concatenate([np.r_[span] for span in chosen])
        index = torch.from_numpy(rows).to(self.visual.device)
        return replace(
            self,
            clip_ids=tuple(clip_ids),
            offsets=_offsets(chosen),
            time_s=self.time_s[rows],
            visual_valid=self.visual_valid[index],
            audio_valid=self.audio_valid[index],
            va=self.va[index],
            va_valid=self.va_valid[index],
            index=index if self.index is None else self.index[index],
        )

    def to(self, device: torch.device) -> "PackedFeatures":
        """Return the rows on a device, without a copy if they are there already."""
        if device == self.visual.device:
            return replace(self, streaming=None)
        moved = self.copy_runs([span for _, span in self.spans()], device)
        return replace(moved, clip_ids=self.clip_ids)

    def copy_runs(self, runs: Sequence[slice], device: torch.device) -> "PackedFeatures":
        """Copy runs of rows to a device, one after the other, as clips without names."""
        offsets = _offsets(runs)
        n_rows = int(offsets[-1])

        def copied(rows: Tensor, modality: Modality | None = None) -> Tensor:
            target = torch.empty((n_rows, *rows.shape[1:]), dtype=rows.dtype, device=device)
            for run, (start, stop) in zip(runs, pairwise(offsets.tolist()), strict=True):
                # run by run, which needs no second copy of all rows
                target[start:stop] = self.embeddings(modality, run) if modality else rows[run]
            return target

        return PackedFeatures(
            ("",) * len(runs),
            offsets,
            np.concatenate([self.time_s[run] for run in runs]),
            visual=copied(self.visual, "visual"),
            visual_valid=copied(self.visual_valid),
            audio=copied(self.audio, "audio"),
            audio_valid=copied(self.audio_valid),
            va=copied(self.va),
            va_valid=copied(self.va_valid),
        )

    def gather(self, windows: Windows, chosen: Int64[np.ndarray, "B"]) -> tuple[Batch, Targets]:
        """Return the windows with these indices, padded to one size, on `device`."""
        return self.read(windows.visual(chosen), windows.audio(chosen), windows.predicted(chosen))

    def read(self, visual: Rows, audio: Rows, predicted: Rows) -> tuple[Batch, Targets]:
        """Return the windows of these rows, on `device`."""
        rows, real = self._indices(predicted)
        # a row that is valid in neither modality has no input to learn from
        any_valid = index_rows(self.visual_valid, rows) | index_rows(self.audio_valid, rows)
        valid = (index_rows(self.va_valid, rows) & any_valid & real).to(self.device)
        va = index_rows(self.va, rows).to(self.device).float()
        batch = Batch(
            *self._read("visual", self.visual_valid, visual),
            *self._read("audio", self.audio_valid, audio),
        )
        return batch, Targets(va * valid.unsqueeze(-1), valid)

    def _read(
        self, modality: Modality, valid: Bool[Tensor, "N"], rows: Rows
    ) -> tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T"]]:
        """Return the rows of one modality, and which are valid; padding is 0 and not valid."""
        index, real = self._indices(rows)
        values = self.embeddings(modality, index).to(self.device).float()
        values_valid = index_rows(valid, index)
        if not rows.real.all():  # checked on the CPU, which does not synchronise the GPU
            values *= real.to(self.device).unsqueeze(-1)
            values_valid &= real
        return values, values_valid.to(self.device)

    def _indices(self, rows: Rows) -> tuple[Int64[Tensor, "B T"], Bool[Tensor, "B T"]]:
        device = self.visual.device
        return torch.from_numpy(rows.index).to(device), torch.from_numpy(rows.real).to(device)


def index_rows(values: Shaped[Tensor, "N ..."], rows: Int64[Tensor, "..."]) -> Tensor:
    """Return `values[rows]`; for long rows, `index_select` is faster."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _offsets(runs: Sequence[slice]) -> Int64[np.ndarray, "C"]:
    """Return the first row of each run after concatenation, and the total number of rows."""
    return np.cumsum([0, *(run.stop - run.start for run in runs)], dtype=np.int64)
