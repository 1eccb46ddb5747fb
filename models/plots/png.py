"""Matplotlib figures as PNG files, for where a page does not reach."""

import io
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.plots.svg import POINTS_PER_INCH, STYLE

DENSITY = 2  # pixels of the file for each of the figure, so that text is sharp

Drawn = ParamSpec("Drawn")


def png(
    width_px: int,
    height_px: int,
    draw: Callable[Concatenate[Figure, Drawn], None],
    *args: Drawn.args,
    **keys: Drawn.kwargs,
) -> bytes:
    """Return the figure that `draw(figure, ...)` draws as a file of `DENSITY` times that size.

    Equal calls give equal bytes.
    """
    written = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_px / POINTS_PER_INCH, height_px / POINTS_PER_INCH))
        FigureCanvasAgg(figure)
        draw(figure, *args, **keys)
        dpi = DENSITY * POINTS_PER_INCH
        figure.savefig(written, format="png", dpi=dpi, metadata={"Software": None})
    return written.getvalue()
