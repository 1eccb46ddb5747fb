"""The stage `ablate`: variants of a head over several seeds, and the table of their scores."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from features.errors import InputError, VaflowError
from features.printable import printable
from features.system.files import check_writable, write_atomic
from features.system.parallel import map_in_processes, n_cores
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.ablation.plan import AblationCase, ablation_cases, read_plan, selection_note
from models.ablation.table import Predictions, TableRow, as_csv, as_markdown, table_rows
from models.baselines.predict import predict_baseline
from models.data.train_val import Splits, load_splits
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.folder import CONFIG, HEAD_FILE, PROVENANCE, VAL_PREDICTIONS, RunConfig
from models.runs.run_split import open_split, read_split
from models.runs.threads import share_cores
from models.stages.train_head import train_config
from models.training.config import TrainConfig

Seeds = Annotated[int, Field(ge=1, le=100)]
Workers = Annotated[int, Field(ge=1)]

CSV, MARKDOWN, PAGE = "ablation.csv", "ablation.md", "ablation.html"


@dataclass(frozen=True, slots=True)
class Ablation:
    """The result of an ablation."""

    run: Path
    lines: tuple[TableRow, ...]
    """The default is the first."""
    n_trained: int
    n_present: int
    """Trainings that were finished before."""
    failed: tuple[str, ...]
    """The run and the error of each training that failed."""
    notes: tuple[str, ...] = ()
    """Warnings about the labels."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of one training of an ablation."""

    va: Float64[np.ndarray, "N 2"] | None
    """Predictions of every row of the val split; None if the training failed."""
    trained: bool
    """False if the run was finished before."""
    failure: str = ""


def ablate(
    *,
    manifest: Path,
    store: str,
    run: Path,
    variants: str = "default",
    seeds: Seeds = 5,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    workers: Workers | None = None,
    on_case: Callable[[str, int], None] | None = None,
) -> Ablation:
    """Train every variant of a plan from several seeds, and compare it with the default.

    `variants` is the name of a plan in configs/ablations, or a YAML file. The default is `head`.
    Seeds count up from `train.seed`. Each training is a separate run in the folder
    `<run>/<variant>/seed-<k>`; finished ones are not trained again. `workers` trainings run
    at once, by default one per core, each with its share of the cores. A training that fails is
    listed, and the others go on. Writes the table to `ablation.csv`, `ablation.md` and
    `ablation.html`. Raises as `train_head` does, and `InputError` if a variant is not a valid head.
    """
    cases = ablation_cases(read_plan(variants), head, train)
    check_writable(run, "run")
    if any((run / name).exists() for name in (HEAD_FILE, PROVENANCE, CONFIG)):
        raise InputError(
            f"run = {run} is the folder of a trained head; an ablation has many of them: give it "
            "a folder of its own"
        )
    splits = load_splits(manifest, store, visual, audio, max_length_mismatch)
    if not splits.val.va_valid.any():
        raise InputError("no row of the val split is annotated: there is nothing to compare by")
    n_workers = workers or n_cores()
    jobs = [
        (
            case,
            RunConfig(
                run=run / case.folder / f"seed-{seed}",
                manifest=manifest,
                store=store,
                visual=visual,
                audio=audio,
                max_length_mismatch=max_length_mismatch,
                head=case.model[0],
                train=share_cores(case.model[1].model_copy(update={"seed": seed}), n_workers),
            ),
        )
        for seed in range(train.seed, train.seed + seeds)
        for case in cases
        if isinstance(case.model, tuple)
    ]
    results: list[TrialResult] = []
    done = map_in_processes(run_trial, [config for _, config in jobs], n_workers)
    for (case, config), result in zip(jobs, done, strict=True):
        results.append(result)
        if on_case:
            on_case(f"{case.name}, seed {config.train.seed}", len(jobs))
    predictions = _predictions(cases, jobs, results, splits)
    lines = table_rows(predictions, splits.val, splits.subject_by_clip)
    ablation = Ablation(
        run,
        lines,
        n_trained=sum(each.trained for each in results),
        n_present=sum(each.va is not None and not each.trained for each in results),
        failed=tuple(
            f"{config.run.relative_to(run)}: {each.failure}"
            for (_, config), each in zip(jobs, results, strict=True)
            if each.va is None
        ),
        notes=splits.notes,
    )
    from models.ablation.html import page  # imports matplotlib, which is slow

    selection = selection_note(cases)
    run.mkdir(parents=True, exist_ok=True)
    write_atomic(run / CSV, as_csv(lines).encode())
    write_atomic(run / MARKDOWN, printable(as_markdown(lines, selection)).encode())
    html = page(lines, splits.val, splits.subject_by_clip, selection)
    write_atomic(run / PAGE, printable(html).encode())
    return ablation


def run_trial(config: RunConfig) -> TrialResult:
    """Train a head, unless its run is finished, and predict the val split.

    An error is returned, not raised, so that other trials continue.
    """
    try:
        result = train_config(config)
        return TrialResult(_predict_val(config.run), result.state == "trained")
    except (VaflowError, OSError, RuntimeError) as error:  # torch raises RuntimeError out of memory
        return TrialResult(None, False, str(error))


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


def _predictions(
    cases: Sequence[AblationCase],
    jobs: Sequence[tuple[AblationCase, RunConfig]],
    results: Sequence[TrialResult],
    splits: Splits,
) -> list[Predictions]:
    """The predictions of each variant; baselines are fitted here, because that takes seconds."""
    predictions = []
    for case in cases:
        if isinstance(case.model, tuple):
            va = tuple(
                result.va
                for (of, _), result in zip(jobs, results, strict=True)
                if of is case and result.va is not None
            )
        else:
            prediction = predict_baseline(
                case.model, splits.train, splits.val, splits.subject_by_clip
            )
            va = (prediction.va,)
        predictions.append(Predictions(case.group, case.name, va))
    return predictions
