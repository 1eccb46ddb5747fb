"""The table of a learning curve: scores by number of people and label noise, with differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from models.ablation.conditions import Condition
from models.ablation.table import Predictions, number, people_sums, span
from models.data.train_val import Splits
from models.metrics.ccc import VaConcordance
from models.metrics.intervals import mean_difference, mean_over_draws


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


def curve_rows(
    variants: Sequence[tuple[Condition, Predictions]], splits: Splits
) -> tuple[CurveRow, ...]:
    """A row per variant and condition; the first variant of a condition is the default."""
    defaults: dict[Condition, dict[int, list[VaConcordance]]] = {}
    rows = []
    for condition, each in variants:
        sums = {draw: people_sums(va, splits) for draw, va in each.va.items()}
        rows.append(_row(condition, each, sums, defaults.setdefault(condition, sums)))
    return tuple(rows)


def _row(
    condition: Condition,
    variant: Predictions,
    sums: Mapping[int, list[VaConcordance]],
    default: Mapping[int, list[VaConcordance]],
) -> CurveRow:
    first = (condition.n_people, condition.noise, variant.group, variant.row, len(sums))
    if not sums:
        return CurveRow(*first)
    scores = [reduce(add, people).ccc() for people in sums.values()]  # D times V, A and mean
    valence, arousal, mean = np.mean(scores, axis=0).tolist()
    interval = mean_over_draws(list(sums.values()))
    both = sorted(sums.keys() & default.keys())
    difference = mean_difference([sums[k] for k in both], [default[k] for k in both])
    ends = interval.ends("ccc_mean") if interval else {}
    ends |= difference.ends("difference") if difference else {}
    change = difference and difference.value
    return CurveRow(*first, valence, arousal, mean, difference=change, **ends)


def as_markdown(rows: Sequence[CurveRow], selection: str) -> str:
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
