"""The features and labels of one clip on its label clock."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from features.clip import Track
from features.errors import InputError, StoreError
from features.manifest.labels import Labels
from features.media.sampling import Sampling
from features.timeline import typical_step_s
from models.data.alignment import (
    check_lengths,
    fill_between_samples,
    interpolate_audio,
    pad_or_trim,
)
from models.data.feature_sets import FeatureSets


@dataclass(frozen=True, slots=True)
class AlignedClip:
    """A clip with one row per label row, or per frame if it has no labels."""

    clip_id: str
    n_frames: int
    """Frames before padding and trimming."""
    visual: Track
    audio: Track
    """Audio track at the times of the visual track."""
    labels: Labels | None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the clip's part of each array of `PackedFeatures`, by name."""
        n = len(self.visual.time_s)
        labels = self.labels or Labels(np.zeros((n, 2)), np.zeros(n, dtype=bool))
        return {
            "time_s": self.visual.time_s,
            "visual": self.visual.values,
            "visual_valid": self.visual.valid,
            "audio": self.audio.values,
            "audio_valid": self.audio.valid,
            "va": labels.va,
            "va_valid": labels.valid,
        }


def check_clip_length(clip_id: str, n_rows: int, n_frames: int, max_length_mismatch: int) -> None:
    """Raise `InputError` if a clip's label rows and frames differ by more than allowed."""
    try:
        check_lengths(n_rows, n_frames, max_length_mismatch)
    except ValueError as error:
        raise InputError(
            f"clip {clip_id!r}: {error}; is this the annotation of another video? correct it, "
            "take the clip out of the manifest, or allow more with max_length_mismatch=N"
        ) from None


def align_clips(
    sets: FeatureSets, labels: Mapping[str, Labels | None], max_length_mismatch: int
) -> Iterator[AlignedClip]:
    """Yield the clips in `labels`, in its order, read from the store one by one.

    Raises `InputError` if label rows and frames of a clip differ by more than
    `max_length_mismatch`, and `StoreError` if a record cannot be read.
    """
    widths: tuple[int, int] | None = None
    sampling = Sampling.from_spec(sets.visual.sampling.get("rows"))
    for clip_id, item in labels.items():
        frames = sets.store.read(sets.visual.name, clip_id)
        n_frames = len(frames.values)
        n_rows = len(item.va) if item else n_frames
        check_clip_length(clip_id, n_rows, n_frames, max_length_mismatch)
        if not sampling.is_every_frame:
            apart_s = sampling.interval_s(typical_step_s(frames.time_s))
            frames = fill_between_samples(frames, apart_s)
        visual = pad_or_trim(frames, n_rows, max_length_mismatch)
        audio = interpolate_audio(sets.store.read(sets.audio.name, clip_id), visual.time_s)
        actual = visual.values.shape[1], audio.values.shape[1]
        if actual != (widths := widths or actual):
            raise StoreError(
                f"clip {clip_id!r} has embeddings of {actual[0]} and {actual[1]} numbers, the "
                f"clips before it of {widths[0]} and {widths[1]}; extract it again "
                "(`vaflow verify` shows what is wrong with a store)"
            )
        yield AlignedClip(clip_id, n_frames, visual, audio, item)
