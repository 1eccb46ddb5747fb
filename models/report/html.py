"""The report as one HTML file without scripts or requests."""

from pathlib import Path

from models.metrics.intervals import FEW_SUBJECTS, LEVEL, RESAMPLES, SEED
from models.plots import svg as drawing
from models.plots.page import template
from models.report.content import Content
from models.report.figures import confusion, learning_curves, planes, region_grids
from models.report.region_report import MINUS, RegionReading
from models.report.timeline import is_wide, timeline


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
        curves=learning_curves(content.epochs, content.kept) if content.kept else (),
        planes=planes(content),
        regions=regions,
        no_regions=None if regions else content.regions,
        grids=region_grids(regions) if regions else (),
        confusion=confusion(regions) if regions else None,
        timeline=timeline,
        is_wide=is_wide,
        colours=drawing,
    )


def number(value: float | None, digits: int = 3) -> str:
    """The value with `digits` decimals and a typographic minus sign; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.{digits}f}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f} %"
