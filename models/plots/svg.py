"""Matplotlib figures as SVG elements of one HTML page."""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Drawn = ParamSpec("Drawn")

# Okabe and Ito (2008): distinct with every kind of colour vision, and by lightness in grey
TRUTH = "#000000"
PREDICTED = "#0072B2"
VALENCE = "#0072B2"
AROUSAL = "#D55E00"
BAND = "#BFDBEC"  # a quarter of the colour of predictions, on white
NO_FACE = "#F0E442"
NO_SOUND = "#CC79A7"
UNLABELLED = "#999999"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FAINT = "#D0D0D0"
INK = "#333333"
SHADES = "Blues"  # one hue from white to dark: needs no colour vision

POINTS_PER_INCH = 72  # SVG user units of matplotlib: a figure of n / 72 inches is n px wide
SHRINKS_TO = 0.85  # of a figure's width; on a narrower page it scrolls
GROWS_TO = 1.3
DRAWN_FONT = "DejaVu Sans"  # comes with matplotlib, and is wider than what browsers use
PAGE_FONT = "system-ui, sans-serif"

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 12,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "font.family": DRAWN_FONT,
    "font.size": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "path.simplify": False,  # curves are downsampled before
    "svg.fonttype": "none",  # text, not outlines
    "svg.hashsalt": "vaflow",  # equal figures give equal bytes
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 11,
    "ytick.color": INK,
    "ytick.labelsize": 11,
}

_FRACTION = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"(^#|url\(#)([\w-]+)")
_POINT = r"(?: -?[\d.]+){2}"
_LINES = re.compile(rf"[ML]{_POINT}(?: L{_POINT})+")
_GEOMETRY = ("d", "x", "y", "width", "height")


def svg(
    name: str,
    label: str,
    width_px: int,
    height_px: int,
    draw: Callable[Concatenate[Figure, Drawn], None],
    *args: Drawn.args,
    **keys: Drawn.kwargs,
) -> Markup:
    """Return the figure that `draw(figure, ...)` draws as an SVG element.

    Each id in it begins with `name`, which must be unique in the page. Screen readers read `label`.
    Equal calls give equal text.
    """
    written = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_px / POINTS_PER_INCH, height_px / POINTS_PER_INCH))
        FigureCanvasSVG(figure)
        draw(figure, *args, **keys)
        figure.savefig(written, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(written.getvalue())
    _inline(root, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    least, most = round(SHRINKS_TO * width_px), round(GROWS_TO * width_px)
    root.attrib |= {
        "role": "img",
        "aria-label": label,
        "style": f"min-width:{least}px;max-width:{most}px",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def single_axes(figure: Figure) -> Axes:
    """Return the only axes of a figure, which fill it."""
    figure.set_layout_engine("constrained")
    return figure.subplots()


def _inline(root: ElementTree.Element, name: str) -> None:
    """Remove namespaces and what HTML does not need, and make ids unique in the page."""
    used = {
        identifier
        for element in root.iter()
        for value in element.attrib.values()
        for _, identifier in _REFERENCE.findall(value)
    }
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _attribute(_local(key), value, name)
            for key, value in element.attrib.items()
            if key != "id" or value in used
        }
        for child in list(element):
            if _local(child.tag) in ("metadata", "style"):  # a style would apply to the whole page
                element.remove(child)
        element.tail = None
        if element.tag not in ("text", "tspan"):
            element.text = None


def _attribute(key: str, value: str, name: str) -> str:
    """The attribute's value with the figure's name in its ids, and with two decimals."""
    if key == "id":
        return f"{name}-{value}"
    if key in _GEOMETRY:
        short = " ".join(_FRACTION.sub(lambda match: f"{float(match[0]):.2f}", value).split())
        # a line goes on without its letter; a report has hundreds of thousands of points
        return _LINES.sub(lambda match: match[0].replace(" L", ""), short) if key == "d" else short
    if key == "style":
        value = value.replace(f"'{DRAWN_FONT}'", PAGE_FONT)
    return _REFERENCE.sub(rf"\g<1>{name}-\g<2>", value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
