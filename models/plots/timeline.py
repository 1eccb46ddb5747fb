"""The predictions of a clip over time beside its labels, as a figure for a notebook."""

import matplotlib
import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.figure import Figure

from features.timeline import extend_times
from models.plots.svg import FAINT, NO_FACE, POINTS_PER_INCH, PREDICTED, STYLE, TRUTH

WIDTH_PX, HEIGHT_PX = 720, 320
REACH = 1.06  # the axes end a little beyond -1 and 1, so that a line there is not cut


def timeline_figure(
    clip: str,
    time_s: Float64[np.ndarray, "T"],
    predicted: Float64[np.ndarray, "T 2"],
    truth: Float64[np.ndarray, "T 2"],
    seen: Bool[np.ndarray, "T"],
) -> Figure:
    """Return a figure with axes for valence and for arousal.

    `truth` is NaN where there is no label, and rows that are not `seen` are shaded. The figure is
    closed, so that a notebook shows it once, as the value of its cell.
    """
    from matplotlib import pyplot

    ends_s = extend_times(time_s, 1)  # a row lasts until the next one
    turns = np.flatnonzero(np.diff(~seen, prepend=False, append=False)).reshape(-1, 2)
    gaps = [(ends_s[first], ends_s[stop] - ends_s[first]) for first, stop in turns]
    with matplotlib.rc_context(STYLE):
        size = WIDTH_PX / POINTS_PER_INCH, HEIGHT_PX / POINTS_PER_INCH
        figure, rows = pyplot.subplots(2, sharex=True, figsize=size, layout="constrained")
        for k, (axes, name) in enumerate(zip(rows, ("valence", "arousal"), strict=True)):
            axes.broken_barh(gaps, (-REACH, 2 * REACH), facecolors=NO_FACE, lw=0, label="no face")
            axes.axhline(0, color=FAINT, lw=0.8)
            axes.plot(time_s, truth[:, k], color=TRUTH, lw=2, label="label")
            axes.plot(time_s, predicted[:, k], color=PREDICTED, lw=1.2, label="prediction")
            axes.set(ylabel=name, ylim=(-REACH, REACH))
        rows[0].set_title(clip, loc="left")
        rows[0].legend(loc="lower right", ncols=3, bbox_to_anchor=(1.0, 1.0))
        rows[1].set(xlabel="time (s)", xlim=(time_s[0], time_s[-1]))
        pyplot.close(figure)
    return figure
