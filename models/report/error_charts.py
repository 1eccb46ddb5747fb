"""The charts of errors: arrows on the V/A plane, dots by subject and region, calibration."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from features.canonical_json import JsonObject
from models.plots.svg import AROUSAL, INK, LINES, PREDICTED, UNLABELLED, VALENCE, single_axes, svg
from models.regions.grid import Grid
from models.report.charts import AXIS, Chart, Series, base_layout
from models.report.errors import Arrow, GroupError
from models.report.figures import PLANE_PX, draw_regions
from models.report.fusion_weights import FusionWeights
from models.report.region_report import CalibrationBin

ARROWS = "error-arrows"  # the id of the figure
MOST_NAMES = 40  # in a chart by subject, so that it fits on a page of paper; the table has all
THIN, THICK = 0.8, 2.6  # points, of the arrow of the fewest and of the most frames
CLASSES = 3  # of widths of live arrows
SQUARE_PX = 400


def error_arrows(arrows: Sequence[Arrow], grid: Grid) -> Markup:
    """Return the plane with an arrow per cell, from the mean truth to the mean prediction."""
    label = "Mean errors over the valence-arousal plane, as arrows from truth to prediction"
    return svg(ARROWS, label, *PLANE_PX, _draw_arrows, arrows, grid)


def _draw_arrows(figure: Figure, arrows: Sequence[Arrow], grid: Grid) -> None:
    axes = single_axes(figure)
    draw_regions(axes, grid)
    for arrow, width in zip(arrows, _widths(arrows), strict=True):
        axes.annotate(
            "",
            arrow.predicted,
            arrow.truth,
            arrowprops={
                "arrowstyle": "-|>,head_width=0.16,head_length=0.3",
                "color": PREDICTED,
                "lw": width,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    axes.plot(*np.array([arrow.truth for arrow in arrows]).T, "o", color=INK, ms=2.5)


def _widths(arrows: Sequence[Arrow]) -> list[float]:
    """Return the width of each arrow in points: by the logarithm of its number of frames."""
    logarithms = np.log([arrow.n_frames for arrow in arrows])
    share = (logarithms - logarithms.min()) / max(float(np.ptp(logarithms)), 1e-9)
    return (THIN + (THICK - THIN) * share).tolist()


def live_arrows(arrows: Sequence[Arrow], grid: Grid) -> JsonObject:
    """Return the same figure as plotly.js takes it."""
    widths = np.array(_widths(arrows))
    place = ((widths - THIN) / (THICK - THIN) * CLASSES).astype(int).clip(0, CLASSES - 1)
    traces = [_live_trace(arrows, np.flatnonzero(place == k), k) for k in range(CLASSES)]
    cuts = [
        {"type": "line", f"{axis}0": cut, f"{axis}1": cut, f"{other}0": -1, f"{other}1": 1}
        | {"line": {"color": INK, "width": 1, "dash": "dash"}}
        for cut in grid.cuts
        for axis, other in ("xy", "yx")
    ]
    both: JsonObject = AXIS | {"range": [-1, 1], "dtick": 0.5}
    layout = base_layout(SQUARE_PX) | {
        "shapes": cuts,
        "showlegend": False,
        "xaxis": both | {"title": {"text": "valence"}, "constrain": "domain"},
        "yaxis": both | {"title": {"text": "arousal"}, "scaleanchor": "x"},
    }
    return {"data": [trace for trace in traces if trace["x"]], "layout": layout}


def _live_trace(arrows: Sequence[Arrow], chosen: np.ndarray, k: int) -> JsonObject:
    own = [arrows[n] for n in chosen.tolist()]
    said = [
        f"truth V {a.truth[0]:.2f}, A {a.truth[1]:.2f}<br>prediction V {a.predicted[0]:.2f}, "
        f"A {a.predicted[1]:.2f}<br>{a.n_frames:,} frames"
        for a in own
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [x for a in own for x in (a.truth[0], a.predicted[0], None)],
        "y": [y for a in own for y in (a.truth[1], a.predicted[1], None)],
        "text": [text for each in said for text in (each, each, "")],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": PREDICTED, "width": 1.2 + k},
        "marker": {
            "color": [INK, PREDICTED, PREDICTED] * len(own),
            "symbol": ["circle", "arrow", "circle"] * len(own),
            "size": [5, 11 + 2 * k, 0] * len(own),
            "angleref": "previous",
        },
    }


def error_chart(groups: Sequence[GroupError], name: str, what: str) -> Chart:
    """Return the root mean square errors of groups, a line each, beside those of a constant."""
    shown = groups[:MOST_NAMES]
    at = [float(k) for k in range(len(shown))]
    said = [
        f"{group.n_frames:,} labels, mean error V {group.bias[0]:+.2f}, A {group.bias[1]:+.2f}"
        for group in shown
    ]
    series = []
    for k, (name_of, colour, marker) in enumerate(
        (("valence", VALENCE, "s"), ("arousal", AROUSAL, "^"))
    ):
        errors = [group.rmse[k] for group in shown]
        constant = [group.rmse_constant[k] for group in shown]
        series += [
            Series(name_of, errors, at, colour, marker, "", said),
            Series(f"{name_of}, constant", constant, at, colour, "|", ""),
        ]
    most = max(value for each in series for value in each.x)
    return Chart(
        name,
        f"Root mean square error {what}",
        "root mean square error",
        "",
        tuple(series),
        y_names=tuple(group.name for group in shown),
        x_range=(0.0, 1.06 * most or 1.0),
    )


def calibration_chart(bins: Sequence[CalibrationBin]) -> Chart:
    """Return what the frames are like by the probability that the region branch gave."""
    at = [each.mean_probability for each in bins]
    said = [f"{each.n:,} pairs of a frame and a region" for each in bins]
    return Chart(
        "calibration",
        "Calibration of the region branch",
        "probability given",
        "mean label",
        (
            Series("soft label", at, [b.mean_label for b in bins], PREDICTED, "o", "-", said),
            Series("in the region", at, [b.share for b in bins], AROUSAL, "^", "--", said),
        ),
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal=True,
    )


def attention_chart(weights: FusionWeights) -> Chart:
    """Return the attention by lag, the mean over all rows."""
    series = tuple(
        Series(
            name,
            weights.lags_s.tolist(),
            rows.mean(axis=0).tolist(),
            LINES[k % len(LINES)],
            "os^Dv"[k % 5],
            ("-", "--", ":")[k % 3],
        )
        for k, (name, rows) in enumerate(weights.attention.items())
    )
    return Chart(
        "attention",
        "Attention by lag, the mean over all frames",
        "lag (s): later is positive",
        "share of the attention",
        series,
        y_range=(0.0, 1.08 * max(max(float(v or 0) for v in each.y) for each in series)),
    )


def gate_chart(weights: FusionWeights) -> Chart:
    """Return how often the gate gives each stream which weight: the share of the frames."""
    edges = np.linspace(0, 1, 21)
    middle = ((edges[:-1] + edges[1:]) / 2).tolist()
    series = tuple(
        Series(
            name,
            middle,
            (np.histogram(rows, edges)[0] / max(1, len(rows))).tolist(),
            (*LINES, UNLABELLED)[k % 7],
            "os^Dv"[k % 5],
            ("-", "--", ":")[k % 3],
        )
        for k, (name, rows) in enumerate(weights.gate.items())
    )
    return Chart(
        "gate",
        "Weights of the gate over all frames",
        "weight of the stream",
        "share of the frames",
        series,
        x_range=(0.0, 1.0),
    )
