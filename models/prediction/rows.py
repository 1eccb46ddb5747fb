"""The predicted rows of one person: one for every frame of the video."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from models.data.packed import PackedFeatures
from models.metrics.predict import RegionPosterior
from models.prediction.estimate import Estimate
from models.prediction.people import Boxes
from models.regions.grid import Grid


@dataclass(frozen=True, slots=True)
class PersonRows:
    """The predictions of one person."""

    number: int
    """Of the person in the video, counted from 1."""
    time_s: Float64[np.ndarray, "T"]
    """Presentation time of each frame."""
    boxes: Boxes | None
    """None if the pictures are whole frames."""
    valid: Bool[np.ndarray, "T"]
    """Frames with a picture of the person; other rows are interpolated in time. Of a model that
    reads no pictures, frames with sound."""
    has_sound: Bool[np.ndarray, "T"]
    va: Float64[np.ndarray, "T 2"]
    regions: RegionPosterior | None
    spread: Float64[np.ndarray, "T 2"] | None

    @property
    def duration_s(self) -> float:
        """From the first to the last frame."""
        return float(self.time_s[-1] - self.time_s[0])


def person_rows(
    number: int, packed: PackedFeatures, estimate: Estimate, boxes: Boxes | None
) -> PersonRows:
    """Return the rows of a clip that is packed alone.

    Raises `ValueError` if there is not one box for each frame.
    """
    if boxes is not None and len(boxes) != len(packed.time_s):
        raise ValueError(f"{len(boxes)} boxes for {len(packed.time_s)} frames; give one for each")
    sound = packed.valid_in("audio")
    return PersonRows(
        number,
        packed.time_s,
        boxes,
        packed.seen.cpu().numpy(),
        np.zeros(len(packed.time_s), bool) if sound is None else sound.cpu().numpy(),
        estimate.va,
        estimate.regions,
        estimate.spread,
    )


def region_words(grid: Grid) -> tuple[str, ...]:
    """The name of each region in a table, such as "low valence high arousal"."""
    return tuple(f"{v} valence {a} arousal" for v in grid.levels for a in grid.levels)
