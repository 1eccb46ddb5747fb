"""The timeline of a video: valence and arousal of each person over time."""

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.plots.png import png
from models.plots.svg import AROUSAL, FAINT, NO_FACE, NO_SOUND, VALENCE, svg
from models.prediction.rows import PersonRows
from models.report.timeline import kept_rows, stretches

WIDTH_PX = 1000
PERSON_PX = 190
FOOT_PX = 44
REACH = 1.06  # the axes end a little beyond -1 and 1, so that a line there is not cut
SOUND = (-REACH, 0.05)  # bottom and height of the strip that marks missing sound
LINE_WIDTH = 1.4
BAND_ALPHA = 0.22
NAMESPACE = '<svg xmlns="http://www.w3.org/2000/svg"'


def timeline_svg(name: str, people: list[PersonRows]) -> bytes:
    """Return an SVG file with a row of axes per person, at least one."""
    label = f"Valence and arousal in {name} over time"
    drawing = str(svg("timeline", label, WIDTH_PX, _height_px(people), _draw, people))
    return drawing.replace("<svg", NAMESPACE, 1).encode()


def timeline_png(people: list[PersonRows]) -> bytes:
    """Return the same picture as a PNG file, as slides and text processors take it."""
    return png(WIDTH_PX, _height_px(people), _draw, people)


def _height_px(people: list[PersonRows]) -> int:
    return PERSON_PX * len(people) + FOOT_PX


def _draw(figure: Figure, people: list[PersonRows]) -> None:
    figure.set_layout_engine("constrained")
    rows = figure.subplots(len(people), sharex=True, squeeze=False)[:, 0]
    for axes, person in zip(rows, people, strict=True):
        _draw_person(axes, person, is_alone=len(people) == 1)
    rows[0].legend(loc="upper right", ncols=2, bbox_to_anchor=(1.0, 1.16))
    rows[-1].set_xlabel("time (s)")


def _draw_person(axes: Axes, person: PersonRows, *, is_alone: bool) -> None:
    _shade(axes, ~person.valid, person.time_s, (-REACH, 2 * REACH), NO_FACE)
    _shade(axes, ~person.has_sound, person.time_s, SOUND, NO_SOUND)
    axes.axhline(0, color=FAINT, lw=0.8)
    for column, (what, colour) in enumerate((("valence", VALENCE), ("arousal", AROUSAL))):
        values = person.va[:, column]
        rows = kept_rows(values)
        if person.spread is not None:
            low, high = (
                np.clip(values[rows] + sign * person.spread[rows, column], -1, 1)
                for sign in (-1, 1)
            )
            axes.fill_between(
                person.time_s[rows], low, high, color=colour, alpha=BAND_ALPHA, linewidth=0
            )
        axes.plot(person.time_s[rows], values[rows], color=colour, lw=LINE_WIDTH, label=what)
    end_s = float(person.time_s[-1]) if len(person.time_s) > 1 else float(person.time_s[0]) + 1
    axes.set(xlim=(float(person.time_s[0]), end_s), ylim=(-REACH, REACH))
    axes.set_ylabel("" if is_alone else f"person {person.number}")
    axes.set_yticks([-1, 0, 1], ["−1", "0", "1"])  # noqa: RUF001


def _shade(
    axes: Axes,
    rows: Bool[np.ndarray, "T"],
    time_s: Float64[np.ndarray, "T"],
    span: tuple[float, float],
    colour: str,
) -> None:
    if spans := [(start, stop - start) for start, stop in stretches(rows, time_s)]:
        axes.broken_barh(spans, span, facecolors=colour, linewidth=0)
