"""The features and labels of many clips, end to end in one array each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float64, Int64, Shaped
from torch import Tensor

from models.data.batch import Batch, Modality, Targets
from models.data.windows import Rows, Windows

ROWS_AT_ONCE = 65536  # bounds the float64 copy that sums are made from


@dataclass(frozen=True, slots=True)
class Streaming:
    """How windows reach a device that has no room for all rows."""

    device: torch.device
    n_rows: int
    """Rows that fit on the device at once."""


@dataclass(frozen=True, slots=True)
class PackedFeatures:
    """Rows on the label clock. Clip c has the rows [offsets[c], offsets[c + 1]), in frame order."""

    clip_ids: tuple[str, ...]
    offsets: Int64[np.ndarray, "C"]
    """One more than there are clips."""
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
    """The row of `visual` and `audio` that holds each row. None if M = N and the orders agree."""
    streaming: Streaming | None = None
    """None if all rows lie on the device that windows are gathered on."""

    @property
    def device(self) -> torch.device:
        """The device that windows are gathered on."""
        return self.streaming.device if self.streaming else self.visual.device

    @property
    def n_bytes(self) -> int:
        """The size of all N rows."""
        whole = (self.visual_valid, self.audio_valid, self.va, self.va_valid)
        widths = self.visual[:1].nbytes + self.audio[:1].nbytes
        return sum(tensor.nbytes for tensor in whole) + len(self.time_s) * widths

    def spans(self) -> Iterator[tuple[str, slice]]:
        """The id of each clip and its rows."""
        for clip_id, (start, stop) in zip(
            self.clip_ids, pairwise(self.offsets.tolist()), strict=True
        ):
            yield clip_id, slice(start, stop)

    def embeddings(
        self, modality: Modality, rows: slice | Int64[Tensor, "*R"] = slice(None)
    ) -> Float16[Tensor, "*R D"]:
        """The embeddings of some rows."""
        values = self.visual if modality == "visual" else self.audio
        if self.index is not None:
            rows = self.index[rows]
        return values[rows] if isinstance(rows, slice) else index_rows(values, rows)

    def select(self, clip_ids: Sequence[str]) -> "PackedFeatures":
        """The rows of some clips, in the order given. The embeddings are shared, not copied."""
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
        """The rows on a device; no copy if they lie there."""
        if device == self.visual.device:
            return replace(self, streaming=None)
        moved = self.copy_runs([span for _, span in self.spans()], device)
        return replace(moved, clip_ids=self.clip_ids)

    def copy_runs(self, runs: Sequence[slice], device: torch.device) -> "PackedFeatures":
        """A copy of runs of rows on a device, one after the other, as clips without names."""
        offsets = _offsets(runs)
        n_rows = int(offsets[-1])

        def copied(whole: Tensor, modality: Modality | None = None) -> Tensor:
            target = torch.empty((n_rows, *whole.shape[1:]), dtype=whole.dtype, device=device)
            for run, (start, stop) in zip(runs, pairwise(offsets.tolist()), strict=True):
                # run by run: no second copy of all of them
                target[start:stop] = self.embeddings(modality, run) if modality else whole[run]
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
        """The windows of these numbers, padded to one size, on `device`."""
        return self.read(windows.visual(chosen), windows.audio(chosen), windows.predicted(chosen))

    def read(self, visual: Rows, audio: Rows, predicted: Rows) -> tuple[Batch, Targets]:
        """The windows of these rows, on `device`."""
        rows, real = self._indices(predicted)
        # a row that is valid in neither modality teaches nothing
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
        """Rows of one modality, and which are valid; padding is 0, and not valid."""
        index, real = self._indices(rows)
        values = self.embeddings(modality, index).to(self.device).float()
        known = index_rows(valid, index)
        if not rows.real.all():  # asked of the CPU: a GPU would have to be waited for
            values *= real.to(self.device).unsqueeze(-1)
            known &= real
        return values, known.to(self.device)

    def _indices(self, rows: Rows) -> tuple[Int64[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """The rows as tensors on the device of the features."""
        device = self.visual.device
        return torch.from_numpy(rows.index).to(device), torch.from_numpy(rows.real).to(device)


def index_rows(values: Shaped[Tensor, "N ..."], rows: Int64[Tensor, "..."]) -> Tensor:
    """`values[rows]`, faster for long rows: each is copied whole."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _offsets(runs: Sequence[slice]) -> Int64[np.ndarray, "C"]:
    """Where each run begins if they stand one after the other, and where the last one ends."""
    return np.cumsum([0, *(run.stop - run.start for run in runs)], dtype=np.int64)
