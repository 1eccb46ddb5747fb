"""The features and labels of many clips, concatenated in one array each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from operator import or_
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float64, Int64, Shaped
from torch import Tensor

from models.data.batch import Batch, Modality, StreamBatch, Targets
from models.data.windows import Rows, Windows

ROWS_AT_ONCE = 65536  # bounds the memory of float64 copies


@dataclass(frozen=True, slots=True)
class Streaming:
    """How windows are copied to a device that is too small for all rows."""

    device: torch.device
    n_rows: int
    """Rows that fit on the device at once."""


@dataclass(frozen=True, slots=True)
class PackedStream:
    """One stream of features, resampled to the N rows."""

    modality: Modality
    values: Float16[Tensor, "M D"]
    """Row n is `values[index[n]]`, or `values[n]` without an index (see `PackedFeatures`)."""
    valid: Bool[Tensor, "N"]


@dataclass(frozen=True, slots=True)
class Bank:
    """The folder on disk that packed features are in."""

    folder: Path
    sources: Mapping[str, str]
    """The digest of what determines the rows of a clip, by its id."""


Times = Float64[np.ndarray, "T"]
Va = Float64[np.ndarray, "_ 2"]
AtLabels = Callable[[Times, Va], tuple[Va, Va]]
"""Takes the times of a clip's rows and V and A there; returns the labels, and V and A at theirs."""


@dataclass(frozen=True, slots=True)
class PackedFeatures:
    """Rows on the frame clock. Clip c has the rows [offsets[c], offsets[c + 1]), in frame order."""

    clip_ids: tuple[str, ...]
    offsets: Int64[np.ndarray, "C"]
    """First row of each clip, and the number of rows."""
    time_s: Float64[np.ndarray, "N"]
    """Presentation time in the clip's video."""
    streams: Mapping[str, PackedStream]
    """At least one."""
    va: Float64[Tensor, "N 2"]
    """Valence and arousal, brought to the rows; 0 if not annotated."""
    va_valid: Bool[Tensor, "N"]
    index: Int64[Tensor, "N"] | None = None
    """Row of the streams' values for each of the N rows; None if they are the same rows."""
    streaming: Streaming | None = None
    """None if all rows are on the device that windows are gathered on."""
    at_labels: Mapping[str, AtLabels] = field(default_factory=dict)
    """Of the clips, by id, whose labels have times of their own; there predictions are scored."""
    bank: Bank | None = None
    """None for rows that were packed in memory, or copied."""

    def __getitem__(self, stream: str) -> PackedStream:
        """Return one stream."""
        return self.streams[stream]

    @property
    def device(self) -> torch.device:
        """The device that windows are gathered on."""
        return self.streaming.device if self.streaming else self.stored_on

    @property
    def stored_on(self) -> torch.device:
        """The device of the rows."""
        return self.va.device

    @property
    def n_bytes(self) -> int:
        """The size of all N rows."""
        streams = self.streams.values()
        others = (*(each.valid for each in streams), self.va, self.va_valid)
        row_bytes = sum(each.values[:1].nbytes for each in streams)
        return sum(tensor.nbytes for tensor in others) + len(self.time_s) * row_bytes

    @property
    def any_valid(self) -> Bool[Tensor, "N"]:
        """Rows that are valid in a stream."""
        return reduce(or_, (each.valid for each in self.streams.values()))

    @property
    def seen(self) -> Bool[Tensor, "N"]:
        """Rows that are valid in a visual stream; without one, in any stream."""
        visual = self.valid_in("visual")
        return self.any_valid if visual is None else visual

    def valid_in(self, modality: Modality) -> Bool[Tensor, "N"] | None:
        """Return the rows that are valid in a stream of a modality; None if it has no stream."""
        valid = [each.valid for each in self.streams.values() if each.modality == modality]
        return reduce(or_, valid) if valid else None

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Yield the id of each clip and its rows."""
        bounds = pairwise(self.offsets.tolist())
        for clip_id, (start, stop) in zip(self.clip_ids, bounds, strict=True):
            yield clip_id, slice(start, stop)

    def embeddings(
        self, stream: str, rows: slice | Int64[Tensor, "*R"] = slice(None)
    ) -> Float16[Tensor, "*R D"]:
        """Return the embeddings of some rows."""
        values = self[stream].values
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
        index = torch.from_numpy(rows).to(self.stored_on)
        return replace(
            self,
            clip_ids=tuple(clip_ids),
            offsets=_offsets(chosen),
            time_s=self.time_s[rows],
            streams={
                name: replace(each, valid=each.valid[index]) for name, each in self.streams.items()
            },
            va=self.va[index],
            va_valid=self.va_valid[index],
            index=index if self.index is None else self.index[index],
        )

    def to(self, device: torch.device) -> "PackedFeatures":
        """Return the rows on a device, without a copy if they are there already."""
        if device == self.stored_on:
            return replace(self, streaming=None)
        moved = self.copy_runs([span for _, span in self.spans()], device)
        return replace(moved, clip_ids=self.clip_ids, at_labels=self.at_labels)

    def copy_runs(self, runs: Sequence[slice], device: torch.device) -> "PackedFeatures":
        """Copy runs of rows to a device, one after the other, as clips without names."""
        offsets = _offsets(runs)
        n_rows = int(offsets[-1])

        def copied(rows: Tensor, stream: str | None = None) -> Tensor:
            target = torch.empty((n_rows, *rows.shape[1:]), dtype=rows.dtype, device=device)
            for run, (start, stop) in zip(runs, pairwise(offsets.tolist()), strict=True):
                # run by run, which needs no second copy of all rows
                target[start:stop] = self.embeddings(stream, run) if stream else rows[run]
            return target

        return PackedFeatures(
            ("",) * len(runs),
            offsets,
            np.concatenate([self.time_s[run] for run in runs]),
            streams={
                name: PackedStream(each.modality, copied(each.values, name), copied(each.valid))
                for name, each in self.streams.items()
            },
            va=copied(self.va),
            va_valid=copied(self.va_valid),
        )

    def gather(self, windows: Windows, chosen: Int64[np.ndarray, "B"]) -> tuple[Batch, Targets]:
        """Return the windows with these indices, padded to one size, on `device`."""
        return self.read(windows.rows(chosen), windows.predicted(chosen))

    def read(self, rows: Mapping[Modality, Rows], predicted: Rows) -> tuple[Batch, Targets]:
        """Return the windows of these rows, on `device`."""
        index, real = self._indices(predicted)
        # a row that is valid in no stream has no input to learn from
        valid = [index_rows(each.valid, index) for each in self.streams.values()]
        known = (index_rows(self.va_valid, index) & reduce(or_, valid) & real).to(self.device)
        va = index_rows(self.va, index).to(self.device).float()
        indices = {modality: self._indices(each) for modality, each in rows.items()}
        batch = Batch(
            {
                name: self._read(name, *indices[each.modality], rows[each.modality])
                for name, each in self.streams.items()
            }
        )
        return batch, Targets(va * known.unsqueeze(-1), known)

    def _read(
        self, stream: str, index: Int64[Tensor, "B T"], real: Bool[Tensor, "B T"], rows: Rows
    ) -> StreamBatch:
        """Return the rows of one stream, and which are valid; padding is 0 and not valid."""
        values = self.embeddings(stream, index).to(self.device).float()
        valid = index_rows(self[stream].valid, index)
        if not rows.real.all():  # checked on the CPU, which does not synchronise the GPU
            values *= real.to(self.device).unsqueeze(-1)
            valid &= real
        return StreamBatch(values, valid.to(self.device))

    def _indices(self, rows: Rows) -> tuple[Int64[Tensor, "B T"], Bool[Tensor, "B T"]]:
        device = self.stored_on
        return torch.from_numpy(rows.index).to(device), torch.from_numpy(rows.real).to(device)


def index_rows(values: Shaped[Tensor, "N ..."], rows: Int64[Tensor, "..."]) -> Tensor:
    """Return `values[rows]`; for long rows, `index_select` is faster."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _offsets(runs: Sequence[slice]) -> Int64[np.ndarray, "C"]:
    """Return the first row of each run after concatenation, and the total number of rows."""
    return np.cumsum([0, *(run.stop - run.start for run in runs)], dtype=np.int64)
