"""The artifacts of a run as table rows and as Markdown with a Mermaid chart."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import jinja2

from features.extraction.outcome import Outcome
from features.maintenance.status import Status
from features.printable import printable
from models.stages.score_head import ScoreResult

MAX_ROWS = 200  # the page renders all of them at once
MAX_LETTERS = 300  # of a detail; the log has all of it
ANGLES = str.maketrans("<>", "\u2039\u203a")
WORST_FIRST = ("failed", "quarantined", "extracted", "present")

# Fill and text colour are both set, so that the chart is legible on light and dark pages. The
# text of each node also says what its colour means.
LOOKS = {
    "done": "fill:#d9efdf,stroke:#2f7d4a,color:#12331e",
    "part": "fill:#fdeec4,stroke:#a06f00,color:#3d2b00",
    "none": "fill:#f9d9d5,stroke:#ad3b2a,color:#45130b",
    "idle": "fill:#ececec,stroke:#8a8a8a,color:#333333,stroke-dasharray:4 3",
}


@dataclass(frozen=True, slots=True)
class SetCoverage:
    """The coverage of the manifest by one feature set."""

    name: str
    n_clips: int
    """Clips of the manifest."""
    n_complete: int
    others: Counter[str] = field(default_factory=Counter)
    """Number of clips in each state other than complete."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The progress of each stage; None if the stage was not run here."""

    n_clips: int
    """Clips of the manifest."""
    sets: tuple[SetCoverage, ...]
    training: str | None = None
    """A summary of the result."""
    score: str | None = None
    """A summary of the result."""
    report: Path | None = None


def set_coverage(status: Status, names: Iterable[str], n_clips: int) -> tuple[SetCoverage, ...]:
    """The coverage of `n_clips` clips by each feature set; 0 for a set that the store lacks."""
    coverage = []
    for name in names:
        states = Counter(clip.state for clip in status.clips if clip.spec == name)
        states = states or Counter({"missing": n_clips})
        n_complete = states.pop("complete", 0)
        coverage.append(SetCoverage(name, n_clips, n_complete, Counter(states)))
    return tuple(coverage)


def outcome_rows(outcomes: Sequence[Outcome], most: int = MAX_ROWS) -> list[dict[str, str]]:
    """A row per clip and feature set, failures first; after `most` rows, one that counts the rest.

    Outcomes of one state keep their order.
    """
    ranked = sorted(outcomes, key=lambda outcome: WORST_FIRST.index(outcome.state))
    rows = [
        {
            "clip": outcome.clip,
            "feature set": outcome.feature_set,
            "state": outcome.state,
            "reason": outcome.reason or "",
            "detail": _cell(outcome.detail or outcome.note or ""),
        }
        for outcome in ranked[:most]
    ]
    if rest := ranked[most:]:
        counted = [f"{len(list(few))} {s}" for s, few in groupby(rest, lambda each: each.state)]
        row = {"clip": f"and {len(rest)} more", "feature set": "", "state": "", "reason": ""}
        rows.append(row | {"detail": ", ".join(counted)})
    return rows


def mermaid(coverage: Coverage) -> str:
    """The stages from the index to the report as a Mermaid flowchart, each with its coverage."""
    lines, middle = ["flowchart LR"], []
    for node, look, words in _stages(coverage):
        text = "<br/>".join(filter(None, words)).replace("#", "#35;").replace('"', "#quot;")
        lines.append(f'    {node}["{text}"]:::{look}')
        if node.startswith("set"):
            middle.append(node)
    between = f" {' & '.join(middle)} -->" if middle else ""
    lines.append(f"    index -->{between} train --> score --> report")
    lines += [f"    classDef {look} {style}" for look, style in LOOKS.items()]
    return "\n".join(lines)


def picture_page(coverage: Coverage, manifest: Path, store: str) -> str:
    """The chart with its manifest and store, and the same as a table.

    The older of Prefect's two interfaces shows the source of a Mermaid chart instead.
    """
    stages = [words for _, _, words in _stages(coverage)]
    page = _PAGES.get_template("picture_page.md.j2")
    return page.render(manifest=str(manifest), store=store, chart=mermaid(coverage), stages=stages)


def report_page(result: ScoreResult, path: Path, host: str, url: str | None) -> str:
    """The score, and how to open the HTML report at `path` on `host`.

    A browser follows no `file://` link from a page of a server: without a `url`, the page shows
    the command that serves the report.
    """
    page = _PAGES.get_template("report_page.md.j2")
    return page.render(score=result.score, split=result.split, path=path, host=host, url=url)


def code(text: str) -> str:
    """The text as an inline code span, on one line."""
    text = " ".join(text.split())
    runs = "".join(letter if letter == "`" else " " for letter in text).split()
    fence = "`" * (1 + max(map(len, runs), default=0))
    pad = " " if runs else ""
    return f"{fence}{pad}{text}{pad}{fence}"


_PAGES = jinja2.Environment(  # Markdown, whose cells are made safe one by one
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    autoescape=False,
)
_PAGES.filters |= {"code": code, "quoted": shlex.quote}


def _stages(coverage: Coverage) -> Iterator[tuple[str, str, tuple[str, str, str, str]]]:
    """Yield node and look of each stage, and its row: name, feature set, done, lacking."""
    yield "index", "done", ("index", "", _clips(coverage.n_clips), "")
    for number, each in enumerate(coverage.sets):
        lacks = ", ".join(f"{n} {state}" for state, n in each.others.most_common())
        percent = 100 * each.n_complete // each.n_clips if each.n_clips else 100  # rounded down
        share = f"{each.n_complete} of {_clips(each.n_clips)} ({percent} %)"
        look = "part" if each.n_complete else "none"
        if each.n_complete == each.n_clips:
            look = "done"
        yield f"set{number}", look, ("extract-features", each.name, share, lacks)
    report = coverage.report.name if coverage.report else None
    for node, name, done in (
        ("train", "train-head", coverage.training),
        ("score", "score-head", coverage.score),
        ("report", "report", report),
    ):
        yield node, "done" if done else "idle", (name, "", done or "not run here", "")


def _clips(n: int) -> str:
    return f"{n} clip" if n == 1 else f"{n} clips"


def _cell(text: str) -> str:
    """The text on one line, shortened, and safe as Markdown.

    One of Prefect's interfaces renders a cell as Markdown and HTML: the name of a file must not
    become a link, or an image that is fetched.
    """
    text = printable(" ".join(text.split())).translate(ANGLES).replace("](", "] (")
    return text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 4] + " ..."
