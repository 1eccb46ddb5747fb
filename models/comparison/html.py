"""The page of a comparison: its tables and figures, as one HTML file without scripts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.ablation.table import number
from models.comparison.compare import MISSING, RunComparison
from models.metrics.intervals import LEVEL, RESAMPLES
from models.plots.page import template
from models.plots.svg import FAINT, INK, LINES, PREDICTED, UNLABELLED, svg
from models.runs.settings import as_text
from models.training.config import EpochResult

WIDTH_PX, PANEL_PX, LEGEND_PX = 960, 260, 24
LINE_PX, MARGIN_PX = 30, 74
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^Dv<>P"
MANY_EPOCHS = 60  # from here on the epochs have no markers
PANELS: tuple[tuple[str, Callable[[EpochResult], float]], ...] = (
    ("training loss", lambda epoch: epoch.loss),
    ("mean CCC on val", lambda epoch: epoch.ccc_mean),
    ("CCC of valence on val", lambda epoch: epoch.ccc_valence),
    ("CCC of arousal on val", lambda epoch: epoch.ccc_arousal),
)


def comparison_page(comparison: RunComparison) -> str:
    """Return the page; equal input gives an equal page."""
    runs = comparison.runs
    names = [run.name for run in runs]
    drawn = [run for run in runs[1:] if run.difference]
    label = f"Differences of CCC to {names[0]}, with intervals"
    height_px = LINE_PX * len(drawn) + MARGIN_PX
    differences = svg("differences", label, WIDTH_PX, height_px, _differences, comparison)
    has_curves = any(run.curves for run in runs)
    height_px = 2 * PANEL_PX + LEGEND_PX * -(-len(names) // 2)
    return template(Path(__file__).parent, "compare.html.j2", number=number).render(
        comparison=comparison,
        runs=runs,
        level=round(100 * LEVEL),
        resamples=RESAMPLES,
        differences=differences if drawn else None,
        curves=_learning_curves(comparison, height_px) if has_curves else None,
        as_text=as_text,
        missing=MISSING,
    )


def _differences(figure: Figure, comparison: RunComparison) -> None:
    """A panel per dimension, a line per run: the difference and its interval."""
    figure.set_layout_engine("constrained")
    panels: Sequence[Axes] = figure.subplots(1, 3, sharex=True, sharey=True)
    runs = [run for run in comparison.runs[1:] if run.difference]
    for axes, name in zip(panels, ("valence", "arousal", "mean"), strict=True):
        axes.axvline(0, color=INK, lw=0.8)
        for y, run in enumerate(runs):
            estimate = getattr(run.difference, name)
            leaves_zero_out = not estimate.low <= 0 <= estimate.high
            colour = PREDICTED if leaves_zero_out else UNLABELLED
            axes.hlines(y, estimate.low, estimate.high, color=colour, lw=2)
            marker = "o" if leaves_zero_out else "s"
            axes.plot([estimate.value], [y], marker, color=colour, ms=6)
        axes.set(title=name, xlabel="difference of CCC")
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(runs)), [run.name for run in runs])
    panels[0].set_ylim(len(runs) - 0.5, -0.5)


def _learning_curves(comparison: RunComparison, height_px: int) -> Markup:
    label = "Training loss and CCC on the split val by epoch, a line per training"
    return svg("curves", label, WIDTH_PX, height_px, _curves, comparison)


def _curves(figure: Figure, comparison: RunComparison) -> None:
    figure.set_layout_engine("constrained")
    panels: Sequence[Axes] = figure.subplots(2, 2, sharex=True).flat
    for axes, (name, value) in zip(panels, PANELS, strict=True):
        for place, run in enumerate(comparison.runs):
            for k, epochs in enumerate(run.curves):
                many = len(epochs) > MANY_EPOCHS
                axes.plot(
                    [epoch.index + 1 for epoch in epochs],
                    [value(epoch) for epoch in epochs],
                    color=LINES[place % len(LINES)],
                    ls=DASHES[place // len(LINES) % len(DASHES)],
                    marker=None if many else MARKERS[place % len(MARKERS)],
                    ms=3.5,
                    lw=(1.6 if len(run.curves) == 1 else 0.9)
                    + (place == 0) * 2,  # seen below others
                    label=f"{run.name} ({len(run.curves)} trainings)"
                    if len(run.curves) > 1
                    else run.name,
                )
                if k:
                    axes.lines[-1].set_label("_")  # one entry of the legend per run
        axes.set(ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(axis="y", color=FAINT, lw=0.6)
        axes.set_axisbelow(True)
    for axes in (panels[2], panels[3]):
        axes.set(xlabel="epoch")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
