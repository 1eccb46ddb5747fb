"""The tables of ablations and learning curves: scores, and differences to the default."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from jaxtyping import Float64

from models.ablation.conditions import Condition
from models.data.train_val import Splits
from models.metrics.ccc import VaConcordance
from models.metrics.intervals import (
    FEW_SUBJECTS,
    LEVEL,
    holm,
    interval_over_seeds,
    mean_difference,
    mean_over_draws,
    paired_difference,
    score_intervals,
)
from models.metrics.predict import Prediction, concordance
from models.metrics.scores import sums_by_subject

Va = Float64[np.ndarray, "N 2"]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of the table; its fields are the columns of the CSV.

    The score of a seed is the val CCC of one training. `averaged` is the CCC of the mean prediction
    of all seeds. None if there are too few seeds or subjects, or all trainings failed.
    """

    group: str
    row: str
    n_seeds: int
    """Trainings that did not fail; 1 for a baseline, which draws no random numbers."""
    ccc_valence: float | None = None
    """Mean over the seeds, as the next two."""
    ccc_arousal: float | None = None
    ccc_mean: float | None = None
    ccc_mean_low: float | None = None
    """95 % interval of the mean over seeds, as the next."""
    ccc_mean_high: float | None = None
    averaged: float | None = None
    """Mean CCC of the averaged predictions."""
    averaged_low: float | None = None
    """95 % interval over subjects, as the next."""
    averaged_high: float | None = None
    averaged_bca_low: float | None = None
    """The same by BCa, as the next; None if there are many subjects."""
    averaged_bca_high: float | None = None
    difference: float | None = None
    """`averaged` minus that of the default."""
    difference_low: float | None = None
    """95 % interval over subjects, paired, as the next."""
    difference_high: float | None = None
    difference_bca_low: float | None = None
    """The same by BCa, as the next; None if there are many subjects."""
    difference_bca_high: float | None = None
    p: float | None = None
    """Two-sided, of the hypothesis that the variant is worth what the default is."""
    p_holm: float | None = None
    """`p` corrected for the number of differences in the table (Holm, 1979)."""

    @property
    def differs(self) -> bool:
        """Whether the difference excludes zero, corrected for the number of differences."""
        return self.p_holm is not None and self.p_holm < 1 - LEVEL


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One line of the table; its fields are the columns of the CSV.

    Scores are val CCC, as means over draws. None if there are too few people to score on, or if
    all trainings failed.
    """

    people: int
    noise: float
    group: str
    row: str
    n_draws: int
    """Trainings that did not fail."""
    ccc_valence: float | None = None
    ccc_arousal: float | None = None
    ccc_mean: float | None = None
    ccc_mean_low: float | None = None
    """95 % interval over draws and people, as the next."""
    ccc_mean_high: float | None = None
    difference: float | None = None
    """Mean CCC minus that of the default on the same draws."""
    difference_low: float | None = None
    """95 % interval over draws and people, paired by both, as the next."""
    difference_high: float | None = None

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes zero."""
        low, high = self.difference_low, self.difference_high
        return low is not None and high is not None and not low <= 0 <= high


CAPTION = (
    f"Intervals: {100 * LEVEL:.0f} %; of the mean over seeds (Student's t), of the average over "
    "subjects (bootstrap, percentiles), of the difference over subjects (paired, percentiles, and "
    f"BCa if there are fewer than {FEW_SUBJECTS} subjects). p: two-sided, by the same resamples, "
    "corrected by Holm's method for the number of differences in the table. A difference is bold "
    f"if p is below {1 - LEVEL:.2f}."
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of the val split by the trainings of one variant."""

    group: str
    row: str
    va: Mapping[int, Va]
    """By seed or draw; those of trainings that failed are missing."""


def table_rows(variants: Sequence[Predictions], splits: Splits) -> tuple[TableRow, ...]:
    """A row per variant; the first variant is the default."""
    default = None
    if variants[0].va:
        default = people_sums(_averaged(variants[0]), splits)
    rows = [_table_row(each, splits, default) for each in variants]
    rows[0] = replace(rows[0], p=None)  # of the default with itself, which is no comparison
    return corrected_for_all(rows)


def corrected_for_all(rows: Sequence[TableRow]) -> tuple[TableRow, ...]:
    """Return the rows with their p corrected for the number of differences among them."""
    corrected = iter(holm([row.p for row in rows if row.p is not None]))
    return tuple(row if row.p is None else replace(row, p_holm=next(corrected)) for row in rows)


def curve_rows(
    variants: Sequence[tuple[Condition, Predictions]], splits: Splits
) -> tuple[CurveRow, ...]:
    """A row per variant and condition; the first variant of a condition is the default."""
    defaults: dict[Condition, dict[int, list[VaConcordance]]] = {}
    rows = []
    for condition, each in variants:
        sums = {draw: people_sums(va, splits) for draw, va in each.va.items()}
        default = defaults.setdefault(condition, sums)
        first = (condition.n_people, condition.noise, each.group, each.row, len(sums))
        if not sums:
            rows.append(CurveRow(*first))
            continue
        scores = [reduce(add, people).ccc() for people in sums.values()]  # D times V, A and mean
        interval = mean_over_draws(list(sums.values()))
        both = sorted(sums.keys() & default.keys())
        difference = mean_difference([sums[k] for k in both], [default[k] for k in both])
        ends = interval.ends("ccc_mean") if interval else {}
        ends |= difference.ends("difference") if difference else {}
        change = difference and difference.value
        rows.append(CurveRow(*first, *np.mean(scores, axis=0).tolist(), difference=change, **ends))
    return tuple(rows)


def people_sums(va: Va, splits: Splits) -> list[VaConcordance]:
    """Return the sums of each person of the val split."""
    return list(sums_by_subject(_prediction(va), splits.val, splits.subject_by_clip).values())


def _table_row(
    variant: Predictions, splits: Splits, default: list[VaConcordance] | None
) -> TableRow:
    if not variant.va:
        return TableRow(variant.group, variant.row, 0)
    scores = np.array(
        [concordance(_prediction(va), splits.val).ccc()[:2] for va in variant.va.values()]
    )  # (S, 2)
    over_seeds = interval_over_seeds(scores.mean(axis=1).tolist())
    averaged = _averaged(variant)
    subjects = people_sums(averaged, splits)
    intervals = score_intervals(subjects)
    difference = paired_difference(subjects, default) if default else None
    ends = over_seeds.ends("ccc_mean") if over_seeds else {}
    ends |= intervals.mean.ends("averaged") if intervals else {}
    ends |= difference.mean.ends("difference") if difference else {}
    return TableRow(
        variant.group,
        variant.row,
        len(variant.va),
        float(scores[:, 0].mean()),
        float(scores[:, 1].mean()),
        float(scores.mean()),
        averaged=concordance(_prediction(averaged), splits.val).ccc()[2],
        difference=difference and difference.mean.value,
        p=difference and difference.mean.p_value,
        **ends,
    )


def _averaged(variant: Predictions) -> Va:
    return np.mean([*variant.va.values()], axis=0)


def _prediction(va: Va) -> Prediction:
    """A prediction without interpolated rows, which do not change a score."""
    return Prediction(va, np.zeros(len(va), dtype=bool))


def as_csv(rows: Sequence[Any]) -> str:
    """The rows of a comparison as CSV, with all digits and with empty cells for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def ablation_markdown(rows: Sequence[TableRow], selection: str = "") -> str:
    """The table as Markdown, with a caption that `selection` ends."""
    columns = ("seeds", "valence", "arousal", "mean", "of the average", "to default", "BCa", "p")
    text = [f"|  | row | {' | '.join(columns)} |", "|---|---|" + "--:|" * len(columns)]
    group = ""
    for row in rows:
        bold = "**" if row.differs else ""
        cells = (
            row.group if row.group != group else "",
            row.row,
            str(row.n_seeds),
            number(row.ccc_valence),
            number(row.ccc_arousal),
            number(row.ccc_mean) + span(row.ccc_mean_low, row.ccc_mean_high),
            number(row.averaged) + span(row.averaged_low, row.averaged_high),
            f"{bold}{number(row.difference, '+.3f')}{bold}"
            + span(row.difference_low, row.difference_high, "+.3f"),
            span(row.difference_bca_low, row.difference_bca_high, "+.3f").strip(),
            number(row.p_holm),
        )
        group = row.group
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join([*text, "", f"{CAPTION} {selection}".strip()]) + "\n"


def curve_markdown(rows: Sequence[CurveRow], selection: str) -> str:
    """The table as Markdown; `selection` says how epochs were chosen."""
    head = ("people", "label noise", "", "row", "draws", "valence", "arousal", "mean", "to default")
    text = [f"| {' | '.join(head)} |", "|--:|--:|---|---|" + "--:|" * (len(head) - 4)]
    for row in rows:
        bold = "**" if row.differs else ""
        cells = (
            str(row.people),
            f"{row.noise:g}",
            row.group,
            row.row,
            str(row.n_draws),
            number(row.ccc_valence),
            number(row.ccc_arousal),
            number(row.ccc_mean) + span(row.ccc_mean_low, row.ccc_mean_high),
            f"{bold}{number(row.difference, '+.3f')}{bold}"
            + span(row.difference_low, row.difference_high, "+.3f"),
        )
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join([*text, "", selection]) + "\n"


def full_name(group: str, row: str) -> str:
    """Return the name of a variant, after that of its group if they differ."""
    return row if row == group else f"{group}: {row}"


def number(value: float | None, form: str = ".3f") -> str:
    """The formatted value; a dash for None."""
    return "\N{EN DASH}" if value is None else format(value, form)


def span(low: float | None, high: float | None, form: str = ".3f") -> str:
    """Return an interval in brackets; empty for None."""
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
