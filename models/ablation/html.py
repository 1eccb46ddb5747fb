"""The table as one HTML file, with a figure of the differences to the default."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from models.ablation.table import CAPTION, TableRow, number
from models.data.packed import PackedFeatures
from models.metrics.intervals import FEW_SUBJECTS, LEVEL, RESAMPLES
from models.plots.page import template
from models.plots.svg import INK, PREDICTED, UNLABELLED, single_axes, svg

FIGURE_WIDTH_PX = 640
LINE_PX = 24
MARGIN_PX = 70


def page(
    lines: Sequence[TableRow],
    val: PackedFeatures,
    subject_by_clip: Mapping[str, str],
    selection: str,
) -> str:
    """Return the page as HTML; equal input gives an equal page. `selection` ends the caption."""
    annotated = [clip for clip, span in val.spans() if bool(val.va_valid[span].any())]
    n_subjects = len({subject_by_clip[clip] for clip in annotated})
    drawn = [line for line in lines if line.to_default]
    table = template(Path(__file__).parent, "ablation.html.j2", number=number)
    return table.render(
        lines=lines,
        default=lines[0],
        figure=_differences(drawn) if len(drawn) > 1 else None,
        level=round(100 * LEVEL),
        resamples=RESAMPLES,
        n_subjects=n_subjects,
        few=n_subjects < FEW_SUBJECTS,
        caption=CAPTION,
        selection=selection,
        n_frames=int(val.va_valid.sum()),
    )


def _differences(lines: Sequence[TableRow]) -> Markup:
    height_px = LINE_PX * len(lines) + MARGIN_PX
    label = "Difference of each row's mean CCC to the default"
    return svg("differences", label, FIGURE_WIDTH_PX, height_px, _draw, lines)


def _draw(figure: Figure, lines: Sequence[TableRow]) -> None:
    axes = single_axes(figure)
    axes.axvline(0, color=INK, lw=0.8)
    for y, line in enumerate(lines):
        if (difference := line.to_default) is None:
            continue
        colour = PREDICTED if line.differs else UNLABELLED
        axes.hlines(y, difference.low, difference.high, color=colour, lw=2)
        axes.plot([difference.value], [y], "o", color=colour, ms=6)
    names = [line.row if line.row == line.group else f"{line.group}: {line.row}" for line in lines]
    axes.set_yticks(range(len(lines)), names)
    axes.set(ylim=(len(lines) - 0.5, -0.5), xlabel="mean CCC, difference to the default")
    axes.tick_params(axis="y", length=0)
