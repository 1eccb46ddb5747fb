"""Trials: models that are trained in processes and predict the val split, for a comparison.

A stage that compares makes its trials, runs them, computes the rows of a table from their
predictions, and returns a `Comparison`.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from features.errors import InputError, VaflowError
from features.printable import printable
from features.system.files import check_writable, write_atomic
from features.system.parallel import map_in_processes, n_cores
from models.ablation.plan import AblationCase
from models.ablation.table import Va
from models.baselines import AnyBaselineConfig
from models.baselines.predict import predict_baseline
from models.data.data_sets import Manifests, Stores
from models.data.train_val import load_splits
from models.runs.folder import CONFIG, HEAD_FILE, LAST, PROVENANCE, TRAINING, RunConfig
from models.runs.run_split import open_split
from models.runs.threads import share_cores
from models.runs.val_predictions import val_predictions
from models.stages.train_head import train_head
from models.training.config import EpochResult, judged

Workers = Annotated[int, Field(ge=1)]
KeyT = TypeVar("KeyT", bound=Hashable)
RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Trial(Generic[KeyT]):
    """One model of a comparison."""

    key: KeyT
    """The row of the table; the trials of a row have different seeds."""
    name: str
    """For the progress."""
    config: RunConfig
    """Of a head; a baseline reads its data and leaves no files."""
    baseline: AnyBaselineConfig | None = None
    """Fitted instead of a head."""
    scored_on: tuple[Manifests, Stores] | None = None
    """The data sets whose val split a head predicts; None: those that it is trained on."""
    floors: tuple[float | None, ...] = ()
    """For 1, 2, ... epochs that have ended, the score below which the trial is pruned."""

    @classmethod
    def of(
        cls, key: KeyT, name: str, case: AblationCase, keys: RunConfig, run: Path, seed: int
    ) -> "Trial[KeyT]":
        """The trial of a variant from a seed in the folder `run`, on the data of `keys`."""
        head, train, baseline = keys.head, keys.train, None
        if isinstance(case.model, tuple):
            head, train = case.model
        else:
            baseline = case.model
        train = train.model_copy(update={"seed": seed})
        config = keys.model_copy(update={"run": run, "head": head, "train": train})
        return cls(key, name, config, baseline)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of one trial."""

    state: Literal["trained", "present", "fitted", "pruned", "failed"]
    """`present`: the head was finished before; `fitted`: a baseline; `pruned`: ended early."""
    va: Va | None = None
    """Predictions of every row of the val split; None if the trial was pruned or failed."""
    failure: str = ""
    epochs: tuple[EpochResult, ...] = ()
    """Of a head; those that ended before it was pruned."""
    kept: EpochResult | None = None
    """The epoch whose weights were kept."""


class Pruned(Exception):
    """Ends a training that is worse than others were."""


@dataclass(frozen=True, slots=True)
class Comparison(Generic[RowT]):
    """The table of a comparison, and how its trials ended."""

    stage: ClassVar[str]
    file: ClassVar[str]
    """Name of the files with the table, without their endings."""

    run: Path
    rows: tuple[RowT, ...]
    n_trained: int
    n_present: int
    """Trainings that were finished before."""
    failed: tuple[str, ...]
    """The run and the error of each trial that failed."""
    notes: tuple[str, ...] = ()
    """Warnings about the data."""


def check_trials_folder(run: Path, what: str) -> None:
    """Raise `InputError` if the folder cannot hold the runs of a comparison."""
    check_writable(run, "run")
    if any((run / name).exists() for name in (HEAD_FILE, PROVENANCE, CONFIG)):
        raise InputError(
            f"run = {run} is the folder of a trained head; {what} has many of them: give it "
            "a folder of its own"
        )


def run_trials(
    trials: Sequence[Trial],
    workers: int | None,
    on_trial: Callable[[str, int], None] | None = None,
    pool: ProcessPoolExecutor | None = None,
) -> list[TrialResult]:
    """Run the trials in `workers` processes, by default one per core; return their results.

    The processes are those of the `pool`, or new ones. Each has its share of the cores. A head that
    is finished is not trained again. A trial that fails is a result with the failure, and the
    others go on. `on_trial` is called with the name of each that has ended, and the number of all.
    """
    n_workers = workers or n_cores()
    run_one = partial(run_trial, n_at_once=n_workers)
    results: list[TrialResult] = []
    ended = map_in_processes(run_one, trials, n_workers, pool)
    for trial, result in zip(trials, ended, strict=True):
        results.append(result)
        if on_trial:
            on_trial(trial.name, len(trials))
    return results


def run_trial(trial: Trial, n_at_once: int = 1) -> TrialResult:
    """Train a head, unless its run is finished, or fit a baseline; predict the val split.

    It has its share of the cores if `n_at_once` run. An error is returned, not raised, so that
    other trials continue.
    """
    ended: list[EpochResult] = []

    def prune(epochs: Sequence[EpochResult]) -> None:
        ended[:] = epochs
        floor = trial.floors[len(epochs) - 1] if len(epochs) <= len(trial.floors) else None
        if floor is not None and max(map(judged, epochs)) < floor:
            raise Pruned

    train = share_cores(trial.config.train, n_at_once)
    config = trial.config.model_copy(update={"train": train})
    try:
        if trial.baseline:
            splits = load_splits(
                config.manifest,
                config.store,
                config.streams,
                config.max_length_mismatch,
                config.train.label_maps,
            )
            found = predict_baseline(
                trial.baseline,
                splits.train,
                splits.val,
                splits.subject_by_clip,
                splits.read_regions,
            )
            return TrialResult("fitted", found.va)
        result = train_head(**dict(config), on_next_epoch=prune)
        va = _predict_val(config.run, trial.scored_on)
        return TrialResult(result.state, va, epochs=result.epochs, kept=result.kept)
    except Pruned:
        (config.run / TRAINING / LAST).unlink(missing_ok=True)  # nothing goes on from it
        return TrialResult("pruned", epochs=tuple(ended))
    except (VaflowError, OSError, RuntimeError) as error:  # torch raises RuntimeError out of memory
        return TrialResult("failed", failure=str(error))


def predictions(
    trials: Sequence[Trial[KeyT]], results: Sequence[TrialResult]
) -> dict[KeyT, dict[int, Va]]:
    """Return the predictions of each row by seed; those of trials that failed are missing."""
    found: dict[KeyT, dict[int, Va]] = {}
    for trial, result in zip(trials, results, strict=True):
        by_seed = found.setdefault(trial.key, {})
        if result.va is not None:
            by_seed[trial.config.train.seed] = result.va
    return found


def ends(
    run: Path, trials: Sequence[Trial], results: Sequence[TrialResult]
) -> tuple[int, int, tuple[str, ...]]:
    """Return how the trials in the folder `run` ended: the fields of a `Comparison` about that."""
    states = Counter(result.state for result in results)
    failed = tuple(
        f"{trial.config.run.relative_to(run)}: {result.failure}"
        for trial, result in zip(trials, results, strict=True)
        if result.state == "failed"
    )
    return states["trained"], states["present"], failed


def write_table(run: Path, file: str, csv: str, markdown: str, html: str) -> None:
    """Write the table of a comparison to the folder `run`, in three formats."""
    run.mkdir(parents=True, exist_ok=True)
    for ending, text in (("csv", csv), ("md", printable(markdown)), ("html", printable(html))):
        write_atomic(run / f"{file}.{ending}", text.encode())


def _predict_val(run: Path, scored_on: tuple[Manifests, Stores] | None) -> Va:
    return val_predictions(open_split(run, *(scored_on or (None, None)), "val"))
