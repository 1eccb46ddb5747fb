"""How the crops of a data set are framed: the margin with which ours show the same of a face."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from features.media.alignment import TEMPLATE_PX, TEMPLATE_SIDE_PX

CENTRE = 0.5  # of a crop, in its sides


@dataclass(frozen=True, slots=True)
class Framing:
    """The closest framing that `AlignmentConfig` can give."""

    margin: float
    """For `faces.alignment.margin`; at least 0."""
    shift: tuple[float, float]
    """How far the set's landmarks lie right of and below ours then, on average, in sides."""
    error: float
    """The distance between the set's mean landmarks and ours, root mean square, in sides."""


def framing_of(landmarks: Float64[np.ndarray, "N 5 2"]) -> Framing:
    """The framing of crops with these landmarks, which are in sides of the crop, 0 to 1.

    A margin scales the template about the centre of the crop by 1 / (1 + 2 margin), so the one for
    which the mean landmarks lie closest follows by linear least squares.
    """
    template = np.array(TEMPLATE_PX) / TEMPLATE_SIDE_PX - CENTRE
    mean = landmarks.mean(axis=0) - CENTRE
    scale = min(1.0, float((template * mean).sum() / (template**2).sum()))
    away = mean - scale * template
    right, down = away.mean(axis=0).tolist()
    error = float(np.sqrt((away**2).sum(axis=1).mean()))
    return Framing((1 / scale - 1) / 2, (right, down), error)
