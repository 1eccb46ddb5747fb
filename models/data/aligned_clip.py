"""What the bank holds of one clip: both tracks on the label clock, and the labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from features.clip import Track
from features.errors import InputError, StoreError
from features.manifest.labels import Labels
from features.media.sampling import Sampling
from features.timeline import typical_step_s
from models.data.alignment import fill_between_samples, interpolate_audio, pad_or_trim
from models.data.feature_sets import FeatureSets


@dataclass(frozen=True, slots=True)
class AlignedClip:
    """One row per label row, or per frame where there are no labels."""

    clip_id: str
    visual: Track
    audio: Track
    """At the visual track's times."""
    labels: Labels | None

    def arrays(self) -> dict[str, np.ndarray]:
        """Its part of every array of a `Bank`, by the bank's own names."""
        n = len(self.visual.time_s)
        none = Labels(np.zeros((n, 2)), np.zeros(n, dtype=bool))
        labels = self.labels or none
        return {
            "time_s": self.visual.time_s,
            "visual": self.visual.values,
            "visual_valid": self.visual.valid,
            "audio": self.audio.values,
            "audio_valid": self.audio.valid,
            "va": labels.va,
            "va_valid": labels.valid,
        }


def align_clip(
    sets: FeatureSets, labels: Mapping[str, Labels | None], max_rows_apart: int
) -> Iterator[AlignedClip]:
    """The clips that `labels` names, in its order, each read as it is asked for.

    `InputError` where label rows and frames are further apart than allowed, `StoreError` where a
    record cannot be read.
    """
    widths: tuple[int, int] | None = None
    sampling = Sampling.from_spec(sets.visual.sampling.get("rows"))
    for clip_id, item in labels.items():
        frames = sets.store.read(sets.visual.name, clip_id)
        if not sampling.is_every_frame:
            frames = fill_between_samples(
                frames, sampling.interval_s(typical_step_s(frames.time_s))
            )
        n_rows = len(item.va) if item else len(frames.values)
        try:
            visual = pad_or_trim(frames, n_rows, max_rows_apart)
        except ValueError as error:
            raise InputError(
                f"clip {clip_id!r}: {error}; is this the annotation of another video? correct it, "
                "take the clip out of the manifest, or allow more with max_rows_apart=N"
            ) from None
        audio = interpolate_audio(sets.store.read(sets.audio.name, clip_id), visual.time_s)
        found = visual.values.shape[1], audio.values.shape[1]
        if found != (widths := widths or found):
            raise StoreError(
                f"clip {clip_id!r} has embeddings of {found[0]} and {found[1]} numbers, the clips "
                f"before it of {widths[0]} and {widths[1]}; extract it again (`vaflow verify` "
                "tells what is wrong with a store)"
            )
        yield AlignedClip(clip_id, visual, audio, item)
