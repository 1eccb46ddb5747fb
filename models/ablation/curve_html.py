"""A learning curve as one HTML file: a figure per group of variants, and the table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.ablation.curve_table import CurveRow
from models.ablation.plan import DEFAULT
from models.ablation.table import number
from models.data.packed import PackedFeatures
from models.metrics.intervals import FEW_SUBJECTS, LEVEL, RESAMPLES
from models.plots.page import template
from models.plots.svg import FAINT, INK, LINES, svg

WIDTH_PX, PANEL_PX, LEGEND_PX = 900, 300, 24
BAND_ALPHA = 0.13
MARKERS = "os^Dv<>P"


def page(
    rows: Sequence[CurveRow],
    val: PackedFeatures,
    subject_by_clip: Mapping[str, str],
    selection: str,
) -> str:
    """Return the page as HTML; `selection` says how epochs were chosen. Equal input, equal page."""
    annotated = [clip for clip, span in val.spans() if bool(val.va_valid[span].any())]
    n_subjects = len({subject_by_clip[clip] for clip in annotated})
    groups = list(dict.fromkeys(row.group for row in rows if row.group != DEFAULT))
    table = template(Path(__file__).parent, "curve.html.j2", number=number)
    return table.render(
        rows=rows,
        figures=[(group, _figure(k, group, rows)) for k, group in enumerate(groups)],
        level=round(100 * LEVEL),
        resamples=RESAMPLES,
        n_subjects=n_subjects,
        few=n_subjects < FEW_SUBJECTS,
        n_draws=max(row.n_draws for row in rows),
        selection=selection,
    )


def _figure(place: int, group: str, rows: Sequence[CurveRow]) -> Markup:
    """The curves of a group and of the default."""
    shown = [row for row in rows if row.group in (DEFAULT, group) and row.ccc_mean is not None]
    names = list(dict.fromkeys(row.row for row in shown))
    height_px = PANEL_PX + LEGEND_PX * -(-len(names) // 2)
    label = f"Mean CCC by number of labelled people and by label noise: {group}"
    return svg(f"curve-{place}", label, WIDTH_PX, height_px, _draw, shown, names)


def _draw(figure: Figure, rows: Sequence[CurveRow], names: Sequence[str]) -> None:
    n_all = max((row.people for row in rows), default=0)
    people = [row for row in rows if not row.noise]
    noise = [row for row in rows if row.people == n_all]
    figure.set_layout_engine("constrained")
    n_panels = 2 if any(row.noise and row.group != DEFAULT for row in rows) else 1
    panels = figure.subplots(1, n_panels, sharey=True, squeeze=False)[0]
    _panel(panels[0], people, names, lambda row: row.people)
    ticks = sorted({row.people for row in people})
    panels[0].set_xscale("log", base=2)
    panels[0].set_xticks(ticks, [str(n) for n in ticks])
    panels[0].minorticks_off()
    panels[0].set(xlabel="people with labels", ylabel="val mean CCC")
    if n_panels == 2:
        _panel(panels[1], noise, names, lambda row: row.noise)
        levels = sorted({row.noise for row in noise})
        panels[1].set_xticks(levels, [f"{std:g}" for std in levels])
        panels[1].set(xlabel=f"label noise, standard deviation ({n_all} people)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _panel(
    axes: Axes,
    rows: Sequence[CurveRow],
    names: Sequence[str],
    x: Callable[[CurveRow], float],
) -> None:
    """A line per variant, and its interval as a band."""
    for place, name in enumerate(names):
        line = sorted((row for row in rows if row.row == name), key=x)
        colour = INK if place == 0 else LINES[(place - 1) % len(LINES)]
        at = [x(row) for row in line]
        values = [(row.ccc_mean, row.ccc_mean_low, row.ccc_mean_high) for row in line]
        mean, low, high = np.array(values, dtype=np.float64).reshape(-1, 3).T  # None is NaN
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(at, mean, marker=marker, color=colour, lw=1.8, ms=6, label=name)
        axes.fill_between(at, low, high, color=colour, alpha=BAND_ALPHA, lw=0)
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
