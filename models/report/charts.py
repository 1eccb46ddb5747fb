"""Charts of lines and points, drawn twice: still as SVG for paper, and live by plotly.js."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from features.canonical_json import JsonObject
from features.printable import printable
from models.plots.svg import FAINT, INK, PAGE_FONT, single_axes, svg

CHART_PX = (380, 270)
NAME_PX, NAMES_MARGIN_PX = 19, 76  # the height of a chart with a name per line
LONGEST_NAME = 20  # characters, in a chart
LEAST_NAMES = 6  # for which there is room
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "|": "line-ns-open",
}
DASHES = {"-": "solid", "--": "dash", ":": "dot", "": "solid"}
MARKER_SIZE = 3.5  # points, of the still chart
AXIS: JsonObject = {
    "automargin": True,
    "gridcolor": FAINT,
    "linecolor": INK,
    "zerolinecolor": FAINT,
    "ticks": "outside",
    "tickcolor": INK,
}


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind, which differ from others in more than colour."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    """None leaves a gap."""
    colour: str
    marker: str = "o"
    """A key of `SYMBOLS`."""
    dash: str = "-"
    """A key of `DASHES`; empty if the points are not joined."""
    said: Sequence[str] = ()
    """What the live chart says of each point, beyond its values."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Series on common axes."""

    name: str
    """The id of its elements, unique in the page."""
    label: str
    """Read by screen readers."""
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    caption: str = ""
    y_names: Sequence[str] = ()
    """Of the values 0, 1, ... of y, from top to bottom."""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    kept_epoch: int | None = None
    """Marked by a line, if x is the epoch."""
    x_ticks: Sequence[tuple[float, str]] = field(default=())
    diagonal: bool = False
    """Whether x = y is drawn from 0 to 1."""

    @property
    def height_px(self) -> int:
        """Height of the still and of the live chart."""
        if not self.y_names:
            return CHART_PX[1]
        return NAMES_MARGIN_PX + NAME_PX * max(LEAST_NAMES, len(self.y_names))


def _short(name: str) -> str:
    """Return a name that leaves room for the chart: the table has it whole."""
    name = printable(name, layout="")
    return (
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def _literal(name: str) -> str:
    """Return a short name for matplotlib, which would read what is between $ as a formula."""
    return _short(name).replace("$", r"\$")


def _html(text: str) -> str:
    """Return a text as plotly.js takes it, which knows some tags and fields in percent braces."""
    return str(escape(text)).replace("%{", "% {")


def still(chart: Chart) -> Markup:
    """Return the chart as an SVG element."""
    return svg(chart.name, chart.label, CHART_PX[0], chart.height_px, _draw, chart)


def _draw(figure: Figure, chart: Chart) -> None:
    axes = single_axes(figure)
    axes.set(xlabel=chart.xlabel, ylabel=chart.ylabel)
    axes.grid(axis="x" if chart.y_names else "y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    for each in chart.series:
        values = [float("nan") if value is None else value for value in each.y]
        axes.plot(
            each.x,
            values,
            marker=each.marker,
            ls=each.dash or "none",
            color=each.colour,
            ms=MARKER_SIZE if len(values) < 100 else 0,
            mew=1.5 if each.marker == "|" else 0.5,
            label=_literal(each.name),
        )
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    if chart.x_range:
        axes.set_xlim(*chart.x_range)
    if chart.y_range:
        axes.set_ylim(*chart.y_range)
    if chart.x_ticks:
        axes.set_xticks([at for at, _ in chart.x_ticks], [text for _, text in chart.x_ticks])
    if chart.y_names:
        axes.set_yticks(range(len(chart.y_names)), [*map(_literal, chart.y_names)])
        axes.set_ylim(len(chart.y_names) - 0.5, -0.5)
    if chart.kept_epoch is not None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        _mark(axes, chart.kept_epoch)
    if len(chart.series) > 1:
        figure.legend(
            loc="outside upper left",
            ncols=2 if chart.y_names else 3,
            columnspacing=1.2,
            handlelength=1.6,
        )


def _mark(axes: Axes, at: int) -> None:
    """Draw a line at the epoch whose weights are kept, with its name beside it."""
    first, last = axes.get_xlim()
    axes.axvline(at, color=INK, lw=1, ls=":")
    left = at - first > last - at  # the side with more room
    axes.annotate(
        "kept",
        (at, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
    )


def live(chart: Chart) -> JsonObject:
    """Return the chart as plotly.js takes it: traces and layout."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers" if each.dash else "markers",
            "name": _html(_short(each.name)),
            "x": [*each.x],
            "y": [*each.y],
            "text": [*each.said] or None,
            "hovertemplate": _hover(chart, each),
            "line": {"color": each.colour, "dash": DASHES[each.dash], "width": 1.8},
            "marker": {
                "color": each.colour,
                "symbol": SYMBOLS[each.marker],
                "size": 7,
                "line": {"width": 2 if each.marker == "|" else 0, "color": each.colour},
            },
        }
        for each in chart.series
    ]
    shapes: list[JsonObject] = []
    dotted = {"color": INK, "width": 1, "dash": "dot"}
    x_axis: JsonObject = AXIS | {"title": {"text": chart.xlabel}}
    y_axis: JsonObject = AXIS | {"title": {"text": chart.ylabel}}
    layout = base_layout(chart.height_px) | {"xaxis": x_axis, "yaxis": y_axis}
    if chart.kept_epoch is not None:
        at = {"x0": chart.kept_epoch, "x1": chart.kept_epoch}
        shapes.append({"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": dotted} | at)
        x_axis |= {"tickformat": "d"}
    if chart.diagonal:
        ends = {"x0": 0, "y0": 0, "x1": 1, "y1": 1}
        shapes.append({"type": "line", "line": dotted} | ends)
    if chart.x_range:
        x_axis["range"] = [*chart.x_range]
    if chart.y_range:
        y_axis["range"] = [*chart.y_range]
    if chart.x_ticks:
        x_axis["tickvals"], x_axis["ticktext"] = (
            [each[k] for each in chart.x_ticks] for k in range(2)
        )
    if chart.y_names:
        y_axis["tickvals"] = [*range(len(chart.y_names))]
        y_axis["ticktext"] = [_html(_short(name)) for name in chart.y_names]
        y_axis["range"] = [len(chart.y_names) - 0.5, -0.5]
        layout["showlegend"] = False  # on a phone it would be wider than what is left for the chart
    return {"data": traces, "layout": layout | {"shapes": shapes}}


def base_layout(height_px: int) -> JsonObject:
    """Return what the live charts have in common."""
    return {
        "height": height_px,
        "margin": {"l": 8, "r": 10, "t": 58, "b": 8},
        "font": {"family": PAGE_FONT, "size": 12, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "showlegend": True,
    }


def _hover(chart: Chart, series: Series) -> str:
    """Return the template of the text that is shown at a point."""
    value = "%{x:.3f}" if chart.y_names else "%{y:.4g}"
    place = "%{y}" if chart.y_names else f"{chart.xlabel} %{{x:.3~g}}"
    more = "<br>%{text}" if series.said else ""
    return f"{_html(_short(series.name))} {value}<br>{place}{more}<extra></extra>"
