"""Points: settings of a head that are tried from one or several seeds, for a sweep or a grid."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import ClassVar, Literal, TypeVar

from features.canonical_json import JsonObject
from models.ablation.plan import AblationCase
from models.ablation.table import Predictions, TableRow, table_rows
from models.data.train_val import Splits
from models.heads import AnyHeadConfig
from models.runs.folder import RunConfig
from models.stages.trials import Comparison, Trial, TrialResult, ends, run_trials, write_table
from models.sweeps.table import (
    SweepRow,
    by_score,
    score_note,
    selection_note,
    sweep_csv,
    sweep_markdown,
)
from models.training.config import TrainConfig, judged

Model = tuple[AnyHeadConfig, TrainConfig]


@dataclass(frozen=True, slots=True)
class PointComparison(Comparison[SweepRow]):
    """A comparison of points; its rows are from the best to the worst."""

    reference: ClassVar[str]
    """The first point, with which the others are compared, in the tables."""
    is_in_order: ClassVar[bool]
    """Whether the points learn from those before them, which the page then shows."""

    n_pruned: int = 0
    selection: str = ""
    """How far the score of the best can be trusted; empty if none completed."""


ComparisonT = TypeVar("ComparisonT", bound=PointComparison)


@dataclass
class Point:
    """Settings, and the trainings with them so far."""

    name: str
    folder: str
    """Inside that of the comparison."""
    params: JsonObject
    """What they change, by key."""
    model: Model | None = None
    """None if it cannot be trained, or was pruned before."""
    failure: str = ""
    """Why it cannot be trained."""
    floors: tuple[float | None, ...] = ()
    """Of the first seed, as of `Trial`."""
    curve: tuple[float, ...] = ()
    """The score after each epoch of the first seed."""
    trainings: list[tuple[Trial, TrialResult]] = field(default_factory=list)
    """One from each seed; no others after one that was pruned or failed."""

    @property
    def state(self) -> Literal["complete", "pruned", "failed"]:
        """How the trainings ended."""
        states = {result.state for _, result in self.trainings}
        if self.failure or "failed" in states:
            return "failed"
        return "pruned" if "pruned" in states or not states else "complete"

    def score(self, *, is_inner: bool) -> float | None:
        """Return the mean CCC of val, or of the people held out, as a mean over the seeds.

        That of a pruned point is the best until then. None if it failed.
        """
        if self.state == "pruned":
            return max(self.curve)
        kept = [result.kept for _, result in self.trainings if result.kept]
        if self.state == "failed":
            return None
        return mean(judged(each) if is_inner else each.ccc_mean for each in kept)


@dataclass(frozen=True, slots=True)
class PointRunner:
    """How points are trained: what they share, and the processes."""

    keys: RunConfig
    """Their data, and the folder of the comparison."""
    n_seeds: int
    """Seeds count up from that of a point."""
    has_seed_folders: bool
    """Whether each seed has a folder inside that of its point."""
    n_at_once: int
    pool: ProcessPoolExecutor
    n_trainings: int
    on_trial: Callable[[str, int], None] | None = None
    """Called with the name of each training that has ended, and `n_trainings`."""

    def run(self, points: Sequence[Point]) -> None:
        """Train the points from their first seed, then those that completed from the others."""
        for seeds in (range(1), range(1, self.n_seeds)):
            going = [
                (point, self._trial(point, point.model, seed))
                for seed in seeds
                for point in points
                if point.model and (not seed or point.state == "complete")
            ]
            trials = [trial for _, trial in going]
            results = run_trials(trials, self.n_at_once, self._count, self.pool)
            for (point, trial), result in zip(going, results, strict=True):
                point.trainings.append((trial, result))
                point.curve = point.curve or tuple(map(judged, result.epochs))

    def _trial(self, point: Point, model: Model, number: int) -> Trial[str]:
        seed = model[1].seed + number
        folder = self.keys.run / point.folder
        if self.has_seed_folders:
            folder /= f"seed-{seed}"
        case = AblationCase("", point.name, model)
        trial = Trial.of(point.name, f"{point.name}, seed {seed}", case, self.keys, folder, seed)
        return trial if number else replace(trial, floors=point.floors)

    def _count(self, name: str, _: int) -> None:
        if self.on_trial:
            self.on_trial(name, self.n_trainings)


def rows_of(points: Sequence[Point], splits: Splits, *, is_inner: bool) -> tuple[SweepRow, ...]:
    """Return the rows of the points from the best to the worst; all are paired with the first."""
    va = [
        {t.config.train.seed: r.va for t, r in each.trainings if r.va is not None}
        for each in points
    ]
    complete = [
        Predictions("", point.name, by_seed)
        for place, (point, by_seed) in enumerate(zip(points, va, strict=True))
        if point.state == "complete" or not place
    ]
    scores = {row.row: row for row in table_rows(complete, splits)}
    return by_score(
        [
            SweepRow(
                point.name,
                point.state,
                point.params,
                scores.get(point.name, TableRow("", point.name, 0)),
                point.score(is_inner=is_inner),
                len(point.curve),
            )
            for point in points
        ]
    )


def compared(
    kind: type[ComparisonT],
    title: str,
    run: Path,
    points: Sequence[Point],
    splits: Splits,
) -> ComparisonT:
    """Write the table of the points to the folder `run`, and return the comparison."""
    from models.sweeps.html import sweep_page  # imports matplotlib, which is slow

    models = [point.model for point in points if point.model]
    is_inner = all(train.select == "inner" for _, train in models)
    rows = rows_of(points, splits, is_inner=is_inner)
    trainings = [training for point in points for training in point.trainings]
    n_trained, n_present, failed = (
        ends(run, *zip(*trainings, strict=True)) if trainings else (0, 0, ())
    )
    failed += tuple(f"{point.name}: {point.failure}" for point in points if point.failure)
    selection = selection_note(rows, is_inner=is_inner) if rows[0].state == "complete" else ""
    columns = score_note(kind.reference, points[0].name, is_inner=is_inner)
    notes = [note for note in (columns, selection) if note]
    order = [point.name for point in points] if kind.is_in_order else []
    page = sweep_page(title, rows, order, kind.reference, notes)
    write_table(run, kind.file, sweep_csv(rows), sweep_markdown(rows, kind.reference, notes), page)
    n_pruned = sum(row.state == "pruned" for row in rows)
    return kind(run, rows, n_trained, n_present, failed, splits.notes, n_pruned, selection)
