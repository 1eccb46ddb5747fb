"""The figure of one clip: labels and prediction over time, and what is missing where."""

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from features.timeline import extend_times
from models.plots.svg import BAND, FAINT, NO_FACE, NO_SOUND, PREDICTED, TRUTH, UNLABELLED, svg
from models.report.content import ClipCurves

BUCKETS = 240  # of a curve: about one per pixel of paper, with two or three points each
WIDTH_PX = 380
WIDE_PX = 1000
WIDE_FROM_S = 60.0  # the figure of a longer clip takes the width of the page
HEIGHT_PX = 290
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 44.0, 12.0, 6.0, 36.0
REACH = 1.06  # the axes end a little beyond -1 and 1, so that a line there is not cut
STRIPS_PX = 16.0  # two strips under the curves: no sound, not annotated
STRIP = 0.9  # height of one strip, of the 1 that it has
BETWEEN_PX = 12.0
LABEL_PX = 30.0  # from the axis to its label
TICKS, WIDE_TICKS = 8, 16  # at most, on the time axis
STEPS = [1, 2, 5, 10]  # round numbers between ticks
TRUTH_WIDTH = 2.2
PREDICTED_WIDTH = 1.2


def is_wide(curves: ClipCurves) -> bool:
    """Whether the clip's figure takes the width of the page."""
    return float(curves.time_s[-1] - curves.time_s[0]) > WIDE_FROM_S


def timeline(curves: ClipCurves, name: str) -> Markup:
    """Valence and arousal of a clip over time; the figure's ids begin with `name`."""
    width = WIDE_PX if is_wide(curves) else WIDTH_PX
    label = f"Valence and arousal of the clip {curves.score.clip} over time"
    return svg(name, label, width, HEIGHT_PX, _draw, curves, width)


def _draw(figure: Figure, curves: ClipCurves, width: int) -> None:
    left, across = LEFT_PX / width, (width - LEFT_PX - RIGHT_PX) / width
    curve_px = (HEIGHT_PX - TOP_PX - BOTTOM_PX - STRIPS_PX - 2 * BETWEEN_PX) / 2
    strips_at = BOTTOM_PX
    arousal_at = strips_at + STRIPS_PX + BETWEEN_PX
    valence_at = arousal_at + curve_px + BETWEEN_PX

    def axes_at(bottom_px: float, height_px: float) -> Axes:
        return figure.add_axes((left, bottom_px / HEIGHT_PX, across, height_px / HEIGHT_PX))

    first_s, last_s = float(curves.time_s[0]), float(extend_times(curves.time_s, 1)[-1])
    reach_s = last_s - first_s  # the last row lasts a step
    for k, (title, bottom) in enumerate((("valence", valence_at), ("arousal", arousal_at))):
        axes = axes_at(bottom, curve_px)
        _shade(axes, ~curves.seen, curves, (-REACH, 2 * REACH), NO_FACE)
        axes.axhline(0, color=FAINT, lw=0.8)
        if curves.band is not None:
            rows = kept_rows(curves.predicted[:, k])
            low, high = curves.band[:, rows, k]
            axes.fill_between(curves.time_s[rows], low, high, color=BAND, linewidth=0)
        _curve(axes, curves.time_s, curves.truth[:, k], TRUTH, TRUTH_WIDTH)
        _curve(axes, curves.time_s, curves.predicted[:, k], PREDICTED, PREDICTED_WIDTH)
        axes.set(xlim=(first_s, first_s + reach_s), ylim=(-REACH, REACH), ylabel=title)
        axes.set_yticks([-1, 0, 1], ["−1", "0", "1"])  # noqa: RUF001
        axes.tick_params(bottom=False, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
        axes.yaxis.set_label_coords(-LABEL_PX / (across * width), 0.5)
    strips = axes_at(strips_at, STRIPS_PX)
    _shade(strips, ~curves.has_sound, curves, (1.0, STRIP), NO_SOUND)
    _shade(strips, ~curves.annotated, curves, (0.0, STRIP), UNLABELLED)
    strips.set(xlim=(first_s, first_s + reach_s), ylim=(0, 2), xlabel="time (s)", yticks=[])
    strips.xaxis.set_major_locator(
        MaxNLocator(WIDE_TICKS if width == WIDE_PX else TICKS, steps=STEPS)
    )
    strips.spines["left"].set_visible(False)


def _curve(
    axes: Axes,
    time_s: Float64[np.ndarray, "T"],
    values: Float64[np.ndarray, "T"],
    colour: str,
    width: float,
) -> None:
    """Draw the values over time, downsampled; NaN leaves a gap."""
    rows = kept_rows(values)
    axes.plot(time_s[rows], values[rows], color=colour, lw=width, solid_joinstyle="round")


def _shade(
    axes: Axes, rows: np.ndarray, curves: ClipCurves, span: tuple[float, float], colour: str
) -> None:
    """Fill `span`, a bottom and a height, along the rows that are true."""
    spans = [(start, stop - start) for start, stop in stretches(rows, curves.time_s)]
    if spans:
        axes.broken_barh(spans, span, facecolors=colour, linewidth=0)


def kept_rows(values: Float64[np.ndarray, "T"], buckets: int = BUCKETS) -> Int64[np.ndarray, "K"]:
    """Return the rows that suffice to draw a curve: the highest and the lowest of each bucket.

    The first NaN of a bucket, which keeps a gap, and the first and last row are kept too. At
    most `3 * buckets + 2` rows; all rows of a short curve.
    """
    n = len(values)
    if n <= 2 * buckets:
        return np.arange(n)
    kept = {0, n - 1}
    for start, stop in pairwise(np.linspace(0, n, buckets + 1).astype(int).tolist()):
        part = values[start:stop]
        missing = np.isnan(part)
        if missing.any():
            kept.add(start + int(missing.argmax()))
        if not missing.all():
            kept |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    return np.array(sorted(kept))


def stretches(
    rows: Bool[np.ndarray, "T"], time_s: Float64[np.ndarray, "T"]
) -> list[tuple[float, float]]:
    """Return runs of true rows as half-open time spans; a row lasts until the next one."""
    ends_s = extend_times(time_s, 1)
    turns = np.flatnonzero(np.diff(rows.astype(np.int8), prepend=0, append=0))
    return [(float(ends_s[a]), float(ends_s[b])) for a, b in turns.reshape(-1, 2)]
