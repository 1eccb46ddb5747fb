"""The report as one HTML file that asks for nothing."""

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup, escape

from features.printable import printable
from models.metrics.intervals import FEW_SUBJECTS, LEVEL, RESAMPLES, SEED
from models.plots import svg as drawing
from models.plots.page import template
from models.report.charts import Chart, live, still
from models.report.content import Content
from models.report.epochs import epoch_charts
from models.report.error_charts import (
    ARROWS,
    MOST_NAMES,
    attention_chart,
    calibration_chart,
    error_arrows,
    error_chart,
    gate_chart,
    live_arrows,
)
from models.report.figures import confusion, planes, region_grids
from models.report.fusion_weights import FusionWeights
from models.report.live import SCRIPT, live_data, plotly_script
from models.report.region_report import MINUS, RegionReading
from models.report.timeline import is_wide, timeline

END = "</body>"  # once in the page: all text from outside is escaped


def page(content: Content, key: str) -> str:
    """The report as HTML, with `key` in its head. Equal input gives an equal page.

    Its policy allows the two scripts of the page by their digests, and no other and no request.
    """
    regions = content.regions if isinstance(content.regions, RegionReading) else None
    weights = content.weights if isinstance(content.weights, FusionWeights) else None
    charts = _charts(content, regions, weights)
    scripts = plotly_script(), SCRIPT.read_text(encoding="utf-8")
    report = template(
        Path(__file__).parent, "report.html.j2", number=number, percent=percent, with_code=with_code
    )
    text = report.render(
        content=content,
        score=content.score,
        key=key,
        digests=[_digest(script) for script in scripts],
        level=round(100 * LEVEL),
        resamples=RESAMPLES,
        seed=SEED,
        few=content.score.n_subjects < FEW_SUBJECTS,
        charts={name: [(chart, still(chart)) for chart in group] for name, group in charts.items()},
        planes=planes(content),
        arrows=error_arrows(content.arrows, content.grid) if content.arrows else None,
        arrows_name=ARROWS,
        most_names=MOST_NAMES,
        regions=regions,
        no_regions=None if regions else content.regions,
        grids=region_grids(regions) if regions else (),
        confusion=confusion(regions) if regions else None,
        weights=weights,
        timeline=timeline,
        is_wide=is_wide,
        colours=drawing,
        has_pictures=any(course.thumbnails for course in content.curves),
        has_band=any(course.band is not None for course in content.curves),
    )
    drawn = {chart.name: live(chart) for group in charts.values() for chart in group}
    if content.arrows:
        drawn[ARROWS] = live_arrows(content.arrows, content.grid)
    data = f'<script type="application/json" id="report-data">{live_data(content, drawn)}</script>'
    inlined = "\n".join(f"<script>{script}</script>" for script in scripts)
    # scripts are not made printable: that would change them
    before, end, after = printable(text).rpartition(END)
    return f"{before}{data}\n{inlined}\n{end}{after}"


def _charts(
    content: Content, regions: RegionReading | None, weights: FusionWeights | None
) -> dict[str, list[Chart]]:
    """Return the charts by section."""
    charts: dict[str, list[Chart]] = {
        name: [] for name in ("epochs", "errors", "regions", "fusion")
    }
    if content.kept:
        kept = content.kept.index + 1
        charts["epochs"] += epoch_charts(content.epoch_values, kept, content.references)
    if content.by_subject:
        charts["errors"].append(error_chart(content.by_subject, "by-subject", "by subject"))
    if content.by_region:
        charts["errors"].append(
            error_chart(content.by_region, "by-region", "by region of the truth")
        )
    if regions and regions.calibration:
        charts["regions"].append(calibration_chart(regions.calibration))
    if weights and weights.gate:
        charts["fusion"].append(gate_chart(weights))
    if weights and weights.attention:
        charts["fusion"].append(attention_chart(weights))
    return charts


def _digest(script: str) -> str:
    """Return the digest of a script as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def number(value: float | None, digits: int = 3) -> str:
    """The value with `digits` decimals and a typographic minus sign; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.{digits}f}".replace("-", MINUS)


def with_code(text: str) -> Markup:
    """The text with what stands between backquotes as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if k % 2 else part for k, part in enumerate(parts)
    )


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f} %"
