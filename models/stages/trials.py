"""Trials: models that are trained in processes and predict the val split, for a comparison."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from features.errors import InputError, VaflowError
from features.system.files import check_writable, write_atomic
from features.system.parallel import map_in_processes, n_cores
from models.ablation.plan import AblationCase
from models.baselines import AnyBaselineConfig
from models.baselines.predict import predict_baseline
from models.data.train_val import load_splits
from models.runs.folder import CONFIG, HEAD_FILE, PROVENANCE, VAL_PREDICTIONS, RunConfig
from models.runs.run_split import open_split, read_split
from models.runs.threads import share_cores
from models.stages.train_head import train_config

Workers = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Trial:
    """One model of a comparison."""

    name: str
    """For the progress."""
    config: RunConfig
    """Of a head; a baseline reads its data and leaves no files."""
    baseline: AnyBaselineConfig | None = None
    """Fitted instead of a head."""

    @classmethod
    def of(cls, name: str, case: AblationCase, keys: RunConfig, run: Path, seed: int) -> "Trial":
        """The trial of a variant from a seed in the folder `run`, on the data of `keys`."""
        changes: dict[str, object] = {"run": run}
        if not isinstance(case.model, tuple):
            return cls(name, keys.model_copy(update=changes), case.model)
        head, train = case.model
        changes |= {"head": head, "train": train.model_copy(update={"seed": seed})}
        return cls(name, keys.model_copy(update=changes))


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of one trial."""

    state: Literal["trained", "present", "fitted", "failed"]
    """`present`: the head was finished before; `fitted`: a baseline."""
    va: Float64[np.ndarray, "N 2"] | None = None
    """Predictions of every row of the val split; None if the trial failed."""
    failure: str = ""


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
) -> list[TrialResult]:
    """Run the trials in `workers` processes, by default one per core; return their results.

    Each has its share of the cores. A head that is finished is not trained again. A trial that
    fails is a result with the failure, and the others go on. `on_trial` is called with the name of
    each that has ended, and the number of all.
    """
    n_workers = workers or n_cores()
    shared = [
        replace(
            trial,
            config=trial.config.model_copy(
                update={"train": share_cores(trial.config.train, n_workers)}
            ),
        )
        for trial in trials
    ]
    results: list[TrialResult] = []
    for trial, result in zip(trials, map_in_processes(run_trial, shared, n_workers), strict=True):
        results.append(result)
        if on_trial:
            on_trial(trial.name, len(trials))
    return results


def run_trial(trial: Trial) -> TrialResult:
    """Train a head, unless its run is finished, or fit a baseline; predict the val split.

    An error is returned, not raised, so that other trials continue.
    """
    config = trial.config
    try:
        if trial.baseline:
            return TrialResult("fitted", _predict_baseline(trial.baseline, config))
        result = train_config(config)
        return TrialResult(result.state, _predict_val(config.run))
    except (VaflowError, OSError, RuntimeError) as error:  # torch raises RuntimeError out of memory
        return TrialResult("failed", failure=str(error))


def n_of(state: str, results: Sequence[TrialResult]) -> int:
    """Return how many trials are in the state."""
    return sum(result.state == state for result in results)


def failures(run: Path, trials: Sequence[Trial], results: Sequence[TrialResult]) -> tuple[str, ...]:
    """Return the folder, relative to `run`, and the error of each trial that failed."""
    return tuple(
        f"{trial.config.run.relative_to(run)}: {result.failure}"
        for trial, result in zip(trials, results, strict=True)
        if result.state == "failed"
    )


def _predict_baseline(baseline: AnyBaselineConfig, config: RunConfig) -> Float64[np.ndarray, "N 2"]:
    splits = load_splits(
        config.manifest, config.store, config.visual, config.audio, config.max_length_mismatch
    )
    return predict_baseline(
        baseline, splits.train, splits.val, splits.subject_by_clip, splits.read_regions
    ).va


def _predict_val(run: Path) -> Float64[np.ndarray, "N 2"]:
    """Return the predictions of the val split, read from the run's folder if possible."""
    source = open_split(run, None, None, "val")
    key, path = source.key(), run / VAL_PREDICTIONS
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) == key:
                return file["va"]
    except (ValueError, KeyError, OSError, EOFError):
        pass  # missing or damaged: predicted again
    va = read_split(source).prediction.va
    archive = io.BytesIO()
    np.savez(archive, va=va, key=np.array(key))
    write_atomic(path, archive.getvalue())
    return va
