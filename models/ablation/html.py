"""The tables of comparisons as HTML files, with figures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.ablation.plan import DEFAULT
from models.ablation.table import CAPTION, CurveRow, TableRow, full_name, number, people_sums
from models.data.train_val import Splits
from models.metrics.intervals import FEW_SUBJECTS, LEVEL, RESAMPLES
from models.plots.page import template
from models.plots.svg import FAINT, INK, LINES, PREDICTED, UNLABELLED, single_axes, svg

DIFFERENCES_WIDTH_PX, LINE_PX, MARGIN_PX = 640, 24, 70
CURVE_WIDTH_PX, PANEL_PX, LEGEND_PX = 900, 300, 24
BAND_ALPHA = 0.13
MARKERS = "os^Dv<>P"


def ablation_page(rows: Sequence[TableRow], splits: Splits, selection: str) -> str:
    """Return the table of an ablation, and a figure of the differences to the default.

    `selection` says how epochs were chosen. Equal input gives an equal page.
    """
    drawn = [row for row in rows if row.difference is not None]
    return _page(
        "ablation.html.j2",
        splits,
        rows=rows,
        figure=_differences(drawn) if len(drawn) > 1 else None,
        caption=CAPTION,
        selection=selection,
        n_labels=sum(
            sums.valence.n for sums in people_sums(np.zeros((len(splits.val.va), 2)), splits)
        ),
    )


def curve_page(rows: Sequence[CurveRow], splits: Splits, selection: str) -> str:
    """Return the table of a learning curve, and a figure per group of variants.

    `selection` says how epochs were chosen. Equal input gives an equal page.
    """
    groups = list(dict.fromkeys(row.group for row in rows if row.group != DEFAULT))
    return _page(
        "curve.html.j2",
        splits,
        rows=rows,
        figures=[(group, _curves(k, group, rows)) for k, group in enumerate(groups)],
        n_draws=max(row.n_draws for row in rows),
        selection=selection,
    )


def _page(name: str, splits: Splits, **values: object) -> str:
    val = splits.val
    annotated = [clip for clip, span in val.spans() if bool(val.va_valid[span].any())]
    n_subjects = len({splits.subject_by_clip[clip] for clip in annotated})
    return template(Path(__file__).parent, name, number=number).render(
        level=round(100 * LEVEL),
        resamples=RESAMPLES,
        n_subjects=n_subjects,
        few=n_subjects < FEW_SUBJECTS,
        **values,
    )


def _differences(rows: Sequence[TableRow]) -> Markup:
    height_px = LINE_PX * len(rows) + MARGIN_PX
    label = "Difference of each row's mean CCC to the default"
    return svg("differences", label, DIFFERENCES_WIDTH_PX, height_px, _draw_differences, rows)


def _draw_differences(figure: Figure, rows: Sequence[TableRow]) -> None:
    axes = single_axes(figure)
    axes.axvline(0, color=INK, lw=0.8)
    values = [(row.difference, row.difference_low, row.difference_high) for row in rows]
    for y, (value, low, high) in enumerate(np.array(values, dtype=np.float64)):
        colour = PREDICTED if rows[y].differs else UNLABELLED
        axes.hlines(y, low, high, color=colour, lw=2)
        axes.plot([value], [y], "o", color=colour, ms=6)
    axes.set_yticks(range(len(rows)), [full_name(row.group, row.row) for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="mean CCC, difference to the default")
    axes.tick_params(axis="y", length=0)


def _curves(place: int, group: str, rows: Sequence[CurveRow]) -> Markup:
    shown = [row for row in rows if row.group in (DEFAULT, group) and row.ccc_mean is not None]
    names = list(dict.fromkeys(row.row for row in shown))
    height_px = PANEL_PX + LEGEND_PX * -(-len(names) // 2)
    label = f"Mean CCC by number of labelled people and by label noise: {group}"
    return svg(f"curve-{place}", label, CURVE_WIDTH_PX, height_px, _draw_curves, shown, names)


def _draw_curves(figure: Figure, rows: Sequence[CurveRow], names: Sequence[str]) -> None:
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
    axes: Axes, rows: Sequence[CurveRow], names: Sequence[str], x: Callable[[CurveRow], float]
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
