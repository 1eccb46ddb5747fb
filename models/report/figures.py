"""The figures of a split: the V/A plane and the regions."""

import numpy as np
from jaxtyping import Float64, Int64
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from models.plots.svg import FAINT, INK, SHADES, single_axes, svg
from models.regions.grid import Grid
from models.regions.soft_labels import region_centres
from models.report.content import Content
from models.report.region_report import RegionReading, region_names

PLANE_PX = (380, 316)
GRID_PX = (380, 330)
CONFUSION_PX = (400, 400)
CELLS = 36  # per axis of the plane; a multiple of 3, so the regions' borders are cell edges
N_SHADES = 40  # above 50, matplotlib draws the colour bar as a bitmap
FAINTEST = 0.22  # of the scale of shades, for a cell of one frame, to be visible on white
LIGHT_BELOW = 0.68  # share of the scale below which the text of a cell is dark
LEAST_SHOWN = 0.005  # smaller shares round to 0 % and are not written


def planes(content: Content) -> tuple[Markup, Markup]:
    """Densities of the labels and the predictions on the V/A plane, on one scale."""
    edges = np.linspace(-1, 1, CELLS + 1)
    counts = [
        np.histogram2d(*points.T, bins=(edges, edges))[0]  # (V, A)
        for points in (content.truth, content.predicted)
    ]
    most = max(2.0, *(float(each.max()) for each in counts))
    truth, predicted = ((_plane, each, most, content.grid) for each in counts)
    return (
        svg("plane-truth", "Density of the truth", *PLANE_PX, *truth),
        svg("plane-predicted", "Density of the predictions", *PLANE_PX, *predicted),
    )


def _plane(figure: Figure, counts: Float64[np.ndarray, "V A"], most: float, grid: Grid) -> None:
    axes = single_axes(figure)
    v, a = np.nonzero(counts)
    side = 2 / CELLS
    corners = side * np.array([(0, 0), (1, 0), (1, 1), (0, 1)])  # (4, 2)
    lower = -1 + side * np.stack([v, a], axis=1)  # (N, 2)
    cells = PolyCollection(
        [*(lower[:, None] + corners)],
        array=counts[v, a],
        norm=LogNorm(1, most),
        cmap=ListedColormap(colormaps[SHADES](np.linspace(FAINTEST, 1, N_SHADES))),
        linewidths=0,
    )
    axes.add_collection(cells, autolim=False)
    draw_regions(axes, grid)
    bar = figure.colorbar(cells, ax=axes, shrink=0.85, pad=0.03, label="frames per cell")
    decades = 10 ** np.arange(np.floor(np.log10(most)) + 1)
    bar.set_ticks(decades.tolist(), labels=[f"{n:g}" for n in decades])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)


def draw_regions(axes: Axes, grid: Grid) -> None:
    """Draw the V/A plane, with the cuts between regions as dashed lines and their centres."""
    for cut in grid.cuts:
        axes.axvline(cut, color=INK, lw=0.8, ls="--")
        axes.axhline(cut, color=INK, lw=0.8, ls="--")
    axes.plot(*region_centres(grid).numpy().T, "+", color=INK, ms=6, mew=1)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xlabel="valence", ylabel="arousal")
    ticks, labels = [-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"]  # noqa: RUF001
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)


def region_grids(regions: RegionReading) -> tuple[Markup, Markup]:
    """Mean soft label and mean posterior of each region, on one scale."""
    label, posterior, levels = regions.mean_label, regions.mean_posterior, regions.grid.levels
    most = float(max(label.max(), posterior.max()))
    named = "of each region"
    return (
        svg("grid-label", f"Mean soft label {named}", *GRID_PX, _grid, label, most, levels),
        svg("grid-posterior", f"Mean posterior {named}", *GRID_PX, _grid, posterior, most, levels),
    )


def _grid(
    figure: Figure, shares: Float64[np.ndarray, "R"], most: float, levels: tuple[str, ...]
) -> None:
    axes = single_axes(figure)
    n = len(levels)
    upward = shares.reshape(n, n).T  # index k = n v + a: rows are now arousal
    _cells(axes, upward, most, size=14)
    axes.invert_yaxis()
    axes.set(xlabel="valence", ylabel="arousal")
    axes.set_xticks(range(n), levels)
    axes.set_yticks(range(n), levels, rotation=90, va="center")


def confusion(regions: RegionReading) -> Markup:
    """The confusion matrix of the region branch."""
    label = "Share of the frames of each true region that is read as each region"
    return svg("confusion", label, *CONFUSION_PX, _confusion, regions.confusion, regions.grid)


def _confusion(figure: Figure, counts: Int64[np.ndarray, "R R"], grid: Grid) -> None:
    axes = single_axes(figure)
    n = counts.sum(axis=1, keepdims=True)
    _cells(axes, counts / np.maximum(n, 1), 1.0, size=10)
    names, n_levels = region_names(grid), len(grid.levels)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for between in np.arange(n_levels, len(names), n_levels) - 0.5:
        axes.axvline(between, color=INK, lw=0.8)
        axes.axhline(between, color=INK, lw=0.8)
    axes.set(xlabel="region of most weight", ylabel="region of the truth")


def _cells(axes: Axes, shares: Float64[np.ndarray, "Y X"], most: float, size: int) -> None:
    """Draw a cell per share, in percent, with row 0 at the top."""
    n_rows, n_columns = shares.shape
    y, x = np.mgrid[:n_rows, :n_columns]
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    axes.add_collection(
        PolyCollection(
            [*(centres[:, None] + corners)],
            array=shares.ravel(),
            norm=Normalize(0, most),
            cmap=SHADES,
            edgecolors=FAINT,
            linewidths=1,
        ),
        autolim=False,
    )
    for (row, column), share in np.ndenumerate(shares):
        if share >= LEAST_SHOWN:
            axes.text(
                column,
                row,
                f"{100 * share:.0f}" if size < 12 else f"{100 * share:.1f} %",
                ha="center",
                va="center",
                size=size,
                color="black" if share < LIGHT_BELOW * most else "white",
            )
    axes.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5), aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
