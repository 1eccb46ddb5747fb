"""The table of a sweep or a grid as an HTML file, with a figure."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.ablation.table import number
from models.plots.page import template
from models.plots.svg import FAINT, INK, PREDICTED, UNLABELLED, single_axes, svg
from models.sweeps.table import SweepRow, keys_of_rows, value_text

WIDTH_PX, HEIGHT_PX = 760, 260


def sweep_page(
    title: str,
    rows: Sequence[SweepRow],
    order: Sequence[str],
    reference: str,
    notes: Sequence[str],
) -> str:
    """Return the table, and a figure of the scores in the `order` of the trials' names, if any.

    `reference` is the trial with which the others are compared. Equal input gives an equal page.
    """
    by_name = {row.name: row for row in rows}
    in_order = [by_name[name] for name in order]
    complete = [row for row in rows if row.state == "complete"]
    return template(Path(__file__).parent, "sweep.html.j2", number=number).render(
        title=title,
        rows=rows,
        keys=keys_of_rows(rows),
        value_text=value_text,
        reference=reference,
        notes=notes,
        figure=_scores(in_order) if order and len(complete) > 1 else None,
    )


def _scores(rows: Sequence[SweepRow]) -> Markup:
    label = "Score of each trial, in the order of the trials, and the best so far"
    return svg("scores", label, WIDTH_PX, HEIGHT_PX, _draw, rows)


def _draw(figure: Figure, rows: Sequence[SweepRow]) -> None:
    axes = single_axes(figure)
    best, line = None, []
    for place, row in enumerate(rows):
        if row.score is None:
            continue
        is_pruned = row.state == "pruned"
        axes.plot(
            [place],
            [row.score],
            "x" if is_pruned else "o",
            color=UNLABELLED if is_pruned else PREDICTED,
            ms=7,
        )
        if not is_pruned:
            best = row.score if best is None else max(best, row.score)
        if best is not None:
            line.append((place, best))
    if line:
        axes.step(*zip(*line, strict=True), where="post", color=INK, lw=1)
    _label(axes, rows)


def _label(axes: Axes, rows: Sequence[SweepRow]) -> None:
    step = -(-len(rows) // 12)
    ticks = range(0, len(rows), step)
    axes.set_xticks(ticks, [rows[k].name.removeprefix("trial ") for k in ticks])
    axes.set(xlabel="trial", ylabel="score (mean CCC)", xlim=(-0.5, len(rows) - 0.5))
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
