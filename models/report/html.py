"""The report as one HTML file without scripts or requests."""

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from models.metrics.intervals import FEW_SUBJECTS, LEVEL, RESAMPLES, SEED
from models.plots import svg as drawing
from models.plots.page import template
from models.report.content import ClipCurves, Content
from models.report.figures import confusion, learning_curves, planes, region_grids
from models.report.region_report import RegionReading
from models.report.timeline import is_wide, timeline
from models.training.config import best_epoch

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class ClipCard:
    """One clip on the page."""

    anchor: str
    curves: ClipCurves
    figure: Markup
    wide: bool


def page(content: Content, key: str) -> str:
    """The report as HTML, with `key` in its head. Equal input gives an equal page."""
    regions = content.regions if isinstance(content.regions, RegionReading) else None
    report = template(Path(__file__).parent, "report.html.j2", number=number, percent=percent)
    return report.render(
        content=content,
        score=content.score,
        key=key,
        level=round(100 * LEVEL),
        resamples=RESAMPLES,
        seed=SEED,
        few=content.score.n_subjects < FEW_SUBJECTS,
        curves=learning_curves(content.epochs) if content.epochs else (),
        kept=best_epoch(content.epochs) if content.epochs else None,
        planes=planes(content),
        regions=regions,
        no_regions=None if regions else content.regions,
        grids=region_grids(regions) if regions else (),
        confusion=confusion(regions) if regions else None,
        cards=[_card(index, curves) for index, curves in enumerate(content.curves)],
        colours=drawing,
    )


def _card(index: int, curves: ClipCurves) -> ClipCard:
    """The clip with its figure, under an HTML id that does not depend on the clip's name."""
    anchor = f"clip-{index + 1}"
    return ClipCard(anchor, curves, timeline(curves, anchor), is_wide(curves))


def number(value: float | None, digits: int = 3) -> str:
    """The value with `digits` decimals and a typographic minus sign; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.{digits}f}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f} %"
