"""The page that holds the figures: HTML without a request and without a script."""

from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from models.metrics.intervals import FEW_SUBJECTS, LEVEL, RESAMPLES, SEED
from models.report import svg as drawing
from models.report.content import ClipCurves, Content
from models.report.figures import confusion, learning_curves, planes, region_grids
from models.report.region_report import RegionReading
from models.report.timeline import is_wide, timeline
from models.training.config import best_epoch

TEMPLATE = "report.html.j2"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class ClipCard:
    """One clip on the page."""

    anchor: str
    course: ClipCurves
    figure: Markup
    wide: bool


def page(content: Content, key: str) -> str:
    """The report as HTML. `key` names in its head what it shows; equal input, equal page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "percent": percent}
    cards = [_card(index, course) for index, course in enumerate(content.courses)]
    regions = content.regions if isinstance(content.regions, RegionReading) else None
    return environment.get_template(TEMPLATE).render(
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
        cards=cards,
        colours=drawing,
    )


def _card(index: int, course: ClipCurves) -> ClipCard:
    """The clip with its figure, under an id that is safe whatever the clip is called."""
    anchor = f"clip-{index + 1}"
    return ClipCard(anchor, course, timeline(course, anchor), is_wide(course))


def number(value: float | None, digits: int = 3) -> str:
    """The value with so many digits after the point and a true minus sign; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.{digits}f}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share as percent."""
    return f"{100 * value:.1f} %"
