"""The page of a prediction folder: all videos, their people, and what the numbers mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from features.system.files import write_if_changed
from models.plots import svg as drawing
from models.plots.page import template
from models.prediction.record import PAGE, Record, VideoEntry

MINUS = "\N{MINUS SIGN}"


def write_page(output: Path, record: Record, card: Sequence[str]) -> None:
    """Write `index.html`, unless it is up to date."""
    entries = sorted(record.videos.values(), key=lambda entry: entry.name.casefold())
    page = template(Path(__file__).parent, "predictions.html.j2", number=number, clock=clock)
    text = page.render(
        title=output.resolve().name,
        predicted=[entry for entry in entries if entry.state == "predicted"],
        failed=[entry for entry in entries if entry.state == "failed"],
        links=links,
        made_with=record.made_with,
        card=card,
        colours=drawing,
    )
    write_if_changed(output / PAGE, text.encode())


def links(entry: VideoEntry) -> Mapping[str, str]:
    """Return the files of a video as URLs, by their suffix: `csv`, `svg`, `overlay.mp4`, ..."""
    return {name.removeprefix(f"{entry.name}."): quote(name) for name in entry.files}


def number(value: float) -> str:
    """A value with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", MINUS)


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
