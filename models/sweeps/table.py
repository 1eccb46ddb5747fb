"""The tables of sweeps and grids: the trials by score, with their settings."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from features.canonical_json import JsonObject
from models.ablation.table import TableRow, number, span
from models.metrics.intervals import LEVEL

OF_ABLATIONS = ("group", "row")
"""Columns of a `TableRow` that a trial has no use for."""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One trial: a line of the table."""

    name: str
    state: Literal["complete", "pruned", "failed"]
    params: JsonObject
    """The settings that it changes, by key; none in the default."""
    scores: TableRow
    """On val, compared with the first trial that is named; empty if the trial did not complete."""
    score: float | None = None
    """By which the trials are sorted: mean over the seeds."""
    epochs: int = 0
    """That it was trained, of its first seed."""

    @property
    def difference(self) -> float | None:
        """Of the averaged predictions to those of the trial that all are compared with."""
        return self.scores.difference


def by_score(rows: Sequence[SweepRow]) -> tuple[SweepRow, ...]:
    """Return the rows from the best to the worst; pruned and failed ones are last.

    Of equal ones the first stays first.
    """
    order = ("complete", "pruned", "failed")
    return tuple(
        sorted(rows, key=lambda row: (order.index(row.state), -(row.score or 0), -row.epochs))
    )


def keys_of_rows(rows: Sequence[SweepRow]) -> tuple[str, ...]:
    """Return the keys that the rows change, in their order."""
    return tuple(dict.fromkeys(key for row in rows for key in row.params))


def value_text(row: SweepRow, key: str) -> str:
    """Return the value of a key as YAML has it, numbers with four digits; empty if it has none."""
    if key not in row.params:
        return ""
    value = row.params[key]
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def sweep_csv(rows: Sequence[SweepRow]) -> str:
    """The rows as CSV, with all digits and with empty cells for None."""
    keys, lines = keys_of_rows(rows), []
    for row in rows:
        values = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in row.params.items()
        }
        scores = {k: v for k, v in asdict(row.scores).items() if k not in OF_ABLATIONS}
        first = {"trial": row.name, "state": row.state, "score": row.score, "epochs": row.epochs}
        lines.append(first | {key: values.get(key) for key in keys} | scores)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def sweep_markdown(rows: Sequence[SweepRow], reference: str, notes: Sequence[str]) -> str:
    """The table as Markdown, with a paragraph per note; others are compared with `reference`."""
    keys = keys_of_rows(rows)
    columns = ("score", "of the average", f"to {reference}", "p", "seeds", "epochs")
    head = ["trial", *keys, *columns]
    text = [f"| {' | '.join(head)} |", "|---" * (1 + len(keys)) + "|--:" * len(columns) + "|"]
    for row in rows:
        scores = row.scores
        bold = "**" if scores.differs else ""
        cells = (
            row.name,
            *(value_text(row, key).replace("|", "\\|") for key in keys),
            number(row.score) if row.state == "complete" else row.state,
            number(scores.averaged) + span(scores.averaged_low, scores.averaged_high),
            f"{bold}{number(scores.difference, '+.3f')}{bold}"
            + span(scores.difference_low, scores.difference_high, "+.3f"),
            number(scores.p_holm),
            str(scores.n_seeds),
            str(row.epochs),
        )
        text.append(f"| {' | '.join(cells)} |")
    return "\n\n".join(["\n".join(text), *notes]) + "\n"


def score_note(reference: str, name: str, *, is_inner: bool) -> str:
    """Return what the columns are; `reference` stands for the trial that all are compared with."""
    score = "of the people that train.select=inner holds out" if is_inner else "of val"
    return (
        f"score: mean CCC {score}, mean over the seeds. of the average: val mean CCC of the "
        f"predictions averaged over the seeds. to {reference}: that minus that of {name}. "
        f"Intervals: {100 * LEVEL:.0f} % over subjects (bootstrap; of the difference, paired). p: "
        "two-sided, corrected by Holm's method for the number of differences. A difference is bold "
        f"if p is below {1 - LEVEL:.2f}."
    )


def selection_note(rows: Sequence[SweepRow], *, is_inner: bool) -> str:
    """Return how far the score of the first row can be trusted, which is the best of all."""
    n = sum(row.state != "failed" for row in rows)
    if is_inner:
        return (
            f"{rows[0].name} is the best of {n} on the training subjects that train.select=inner "
            "holds out. Their score is too high, as they chose it; the columns of val are not, as "
            "val chose nothing."
        )
    return (
        f"{rows[0].name} is the best of {n} by the labels of val, on which it is scored. The best "
        f"of {n} is partly the luckiest of {n}: its score, its interval and its p are too good, "
        "the more so the more trials there are and the fewer people val has. Score it on a split "
        "that chose nothing, or choose by training subjects: train.select=inner."
    )
