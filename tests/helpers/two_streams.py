"""Packed features and batches of a visual and an audio stream."""

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from models.data.batch import Batch, StreamBatch
from models.data.packed import PackedFeatures, PackedStream

RowsT = TypeVar("RowsT", PackedFeatures, Batch)


def packed_streams(
    visual: Tensor, visual_valid: Tensor, audio: Tensor, audio_valid: Tensor
) -> dict[str, PackedStream]:
    """The streams of packed features."""
    return {
        "visual": PackedStream("visual", visual, visual_valid),
        "audio": PackedStream("audio", audio, audio_valid),
    }


def two_stream_batch(
    visual: Tensor, visual_valid: Tensor, audio: Tensor, audio_valid: Tensor
) -> Batch:
    """A batch of windows."""
    return Batch(
        {"visual": StreamBatch(visual, visual_valid), "audio": StreamBatch(audio, audio_valid)}
    )


def arrays_of(packed: PackedFeatures) -> dict[str, np.ndarray]:
    """Every array, by its name in a packed file."""
    found = {"time_s": packed.time_s}
    for name, stream in packed.streams.items():
        found |= {name: stream.values.numpy(), f"{name}_valid": stream.valid.numpy()}
    return found | {"va": packed.va.numpy(), "va_valid": packed.va_valid.numpy()}


def changed(rows: RowsT, **changes: Any) -> RowsT:
    """The rows with some fields replaced, among them `visual`, `visual_valid` and of any stream."""
    streams: dict[str, Any] = dict(rows.streams)
    for name, stream in rows.streams.items():
        values = changes.pop(name, stream.values)
        valid = changes.pop(f"{name}_valid", stream.valid)
        streams[name] = replace(stream, values=values, valid=valid)
    return replace(rows, streams=streams, **changes)
