"""The table of an ablation: scores over seeds, and each row against the default."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from jaxtyping import Float64

from models.data.packed import PackedFeatures
from models.metrics.ccc import VaConcordance
from models.metrics.intervals import (
    Estimate,
    interval_over_seeds,
    paired_difference,
    score_intervals,
)
from models.metrics.predict import Prediction, concordance
from models.metrics.scores import sums_by_subject

Va = Float64[np.ndarray, "N 2"]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of the table; its fields are the columns of the CSV.

    The score of a seed is the val CCC of one training. The average is of the predictions of all
    seeds, scored once. None where there are too few seeds or subjects, or none was trained.
    """

    group: str
    row: str
    n_seeds: int
    """Trainings that ended well; 1 for a baseline, which draws nothing."""
    ccc_valence: float | None
    """Mean over the seeds; so are the next two."""
    ccc_arousal: float | None
    ccc_mean: float | None
    ccc_mean_low: float | None
    """95 % interval of the mean over seeds; so is the next."""
    ccc_mean_high: float | None
    averaged: float | None
    """Mean CCC of the averaged predictions."""
    averaged_low: float | None
    """95 % interval over subjects; so is the next."""
    averaged_high: float | None
    difference: float | None
    """`averaged` minus that of the default."""
    difference_low: float | None
    """95 % interval, paired, over subjects; so is the next."""
    difference_high: float | None

    @property
    def to_default(self) -> Estimate | None:
        """The difference with its interval, where there is one."""
        if self.difference is None or self.difference_low is None or self.difference_high is None:
            return None
        return Estimate(self.difference, self.difference_low, self.difference_high)

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        found = self.to_default
        return found is not None and not found.low <= 0 <= found.high


COLUMNS = tuple(field.name for field in fields(TableRow))


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the trainings of one row said of the val split."""

    group: str
    row: str
    va: tuple[Va, ...]
    """Of each seed."""


def table_rows(
    rows: Sequence[Predictions], val: PackedFeatures, subject_of: Mapping[str, str]
) -> tuple[TableRow, ...]:
    """The table, a line per row; the first row is the default."""

    def by_subject(va: Va) -> list[VaConcordance]:
        return list(sums_by_subject(_prediction(va), val, subject_of).values())

    default = by_subject(np.mean(rows[0].va, axis=0)) if rows[0].va else None
    return tuple(_line(row, val, by_subject, default) for row in rows)


def _line(
    row: Predictions,
    val: PackedFeatures,
    by_subject: Callable[[Va], list[VaConcordance]],
    default: list[VaConcordance] | None,
) -> TableRow:
    """One line."""
    if not row.va:
        return TableRow(row.group, row.row, 0, *[None] * (len(COLUMNS) - 3))
    each = [concordance(_prediction(va), val) for va in row.va]
    scores = np.array([[sums.valence.ccc(), sums.arousal.ccc()] for sums in each])  # (S, 2)
    over_seeds = interval_over_seeds(scores.mean(axis=1).tolist())
    averaged = np.mean(row.va, axis=0)
    subjects, whole = by_subject(averaged), concordance(_prediction(averaged), val)
    sure = score_intervals(subjects)
    apart = paired_difference(subjects, default) if default else None
    return TableRow(
        row.group,
        row.row,
        len(row.va),
        float(scores[:, 0].mean()),
        float(scores[:, 1].mean()),
        float(scores.mean()),
        over_seeds and over_seeds.low,
        over_seeds and over_seeds.high,
        (whole.valence.ccc() + whole.arousal.ccc()) / 2,
        sure and sure.mean.low,
        sure and sure.mean.high,
        apart and apart.mean.value,
        apart and apart.mean.low,
        apart and apart.mean.high,
    )


def _prediction(va: Va) -> Prediction:
    """As a prediction; which rows were interpolated changes no score."""
    return Prediction(va, np.zeros(len(va), dtype=bool))


def as_csv(lines: Sequence[TableRow]) -> str:
    """The lines to the last digit; an empty cell where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(line) for line in lines)
    return text.getvalue()


def as_markdown(lines: Sequence[TableRow]) -> str:
    """The lines as a table for a document."""
    head = ("", "row", "seeds", "valence", "arousal", "mean", "of the average", "to default")
    written = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(head) - 2)]
    group = ""
    for line in lines:
        sure = "**" if line.differs else ""
        cells = (
            line.group if line.group != group else "",
            line.row,
            str(line.n_seeds),
            number(line.ccc_valence),
            number(line.ccc_arousal),
            number(line.ccc_mean) + _span(line.ccc_mean_low, line.ccc_mean_high),
            number(line.averaged) + _span(line.averaged_low, line.averaged_high),
            f"{sure}{number(line.difference, '+.3f')}{sure}"
            + _span(line.difference_low, line.difference_high, "+.3f"),
        )
        group = line.group
        written.append(f"| {' | '.join(cells)} |")
    return "\n".join(written) + "\n"


def number(value: float | None, form: str = ".3f") -> str:
    """The value; a dash for None."""
    return "\N{EN DASH}" if value is None else format(value, form)


def _span(low: float | None, high: float | None, form: str = ".3f") -> str:
    """An interval in brackets; nothing for None."""
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
