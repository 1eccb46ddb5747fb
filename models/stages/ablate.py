"""The stage `ablate`: every row of a plan over several seeds, and the table of what they score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.errors import InputError
from features.system.files import check_writable, write_atomic
from features.system.parallel import map_in_processes, n_cores
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.ablation.plan import AblationCase, ablation_cases, read_plan
from models.ablation.table import Predictions, TableRow, as_csv, as_markdown, table_rows
from models.baselines.predict import predict_baseline
from models.data.train_val import Splits, load_splits
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.checkpoint import FILE
from models.runs.folder import CONFIG, PROVENANCE
from models.stages.ablation_trial import Trial, TrialResult, run_trial
from models.training.config import TrainConfig

Seeds = Annotated[int, Field(ge=1, le=100)]
Workers = Annotated[int, Field(ge=1)]

CSV, MARKDOWN, PAGE = "ablation.csv", "ablation.md", "ablation.html"


@dataclass(frozen=True, slots=True)
class Ablation:
    """How an ablation ended."""

    run: Path
    lines: tuple[TableRow, ...]
    n_trained: int
    n_present: int
    """Trainings whose runs were there already."""
    failed: tuple[str, ...]
    """A line on each training that did not end well."""
    notes: tuple[str, ...] = ()
    """What is odd about the labels."""


def ablate(
    *,
    manifest: Path,
    store: str,
    run: Path,
    rows: str = "default",
    seeds: Seeds = 5,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    workers: Workers | None = None,
    on_case: Callable[[str, int], None] | None = None,
) -> Ablation:
    """Train every row of the plan `rows` from several seeds, and compare it with the default.

    The default is `head` as given. Seeds count up from `train.seed`. Each training is a run of its
    own in the folder `<run>/<row>/seed-<k>`, so one that is there is not trained again. As many go
    on at once as there are cores, unless `workers` says. A training that fails is listed and the
    others go on. The table goes to `ablation.csv`, `ablation.md` and `ablation.html`. Errors as of
    `train_head`; `InputError` names a row that is no valid head.
    """
    cases = ablation_cases(read_plan(rows), head, train)
    _refuse_unless_ablation(run)
    splits = load_splits(manifest, store, visual, audio, max_length_mismatch)
    if not splits.val.va_valid.any():
        raise InputError("no row of the val split is annotated: there is nothing to compare by")
    n_workers = workers or n_cores()
    jobs = [
        (
            case,
            Trial(
                run=run / case.folder / f"seed-{seed}",
                manifest=manifest,
                store=store,
                visual=visual,
                audio=audio,
                max_length_mismatch=max_length_mismatch,
                head=case.model[0],
                train=_of_seed(case.model[1], seed, n_workers),
            ),
        )
        for seed in range(train.seed, train.seed + seeds)
        for case in cases
        if isinstance(case.model, tuple)
    ]
    found: list[TrialResult] = []
    for result in map_in_processes(run_trial, [member for _, member in jobs], n_workers):
        case, member = jobs[len(found)]
        found.append(result)
        if on_case:
            on_case(f"{case.name}, seed {member.train.seed}", len(jobs))
    lines = table_rows(_predictions(cases, jobs, found, splits), splits.val, splits.subject_of)
    ablation = Ablation(
        run,
        lines,
        n_trained=sum(each.trained for each in found),
        n_present=sum(each.va is not None and not each.trained for each in found),
        failed=tuple(
            f"{member.run.relative_to(run)}: {each.failure}"
            for (_, member), each in zip(jobs, found, strict=True)
            if each.va is None
        ),
        notes=splits.notes,
    )
    from models.ablation.html import page  # matplotlib: half a second

    run.mkdir(parents=True, exist_ok=True)
    write_atomic(run / CSV, as_csv(lines).encode())
    write_atomic(run / MARKDOWN, as_markdown(lines).encode())
    write_atomic(run / PAGE, page(ablation.lines, splits.val, splits.subject_of).encode())
    return ablation


def _refuse_unless_ablation(run: Path) -> None:
    """Raise where the runs cannot be put."""
    check_writable(run, "run")
    if any((run / name).exists() for name in (FILE, PROVENANCE, CONFIG)):
        raise InputError(
            f"run = {run} is the folder of a trained head; an ablation has many of them: give it "
            "a folder of its own"
        )


def _of_seed(train: TrainConfig, seed: int, n_workers: int) -> TrainConfig:
    """The config from another seed, with a fair share of the cores."""
    threads = train.threads or max(1, n_cores() // n_workers)
    return train.model_copy(update={"seed": seed, "threads": threads})


def _predictions(
    cases: Sequence[AblationCase],
    jobs: Sequence[tuple[AblationCase, Trial]],
    found: Sequence[TrialResult],
    splits: Splits,
) -> list[Predictions]:
    """What each row says of the val split; a baseline is learned here, for it takes seconds."""
    said = []
    for case in cases:
        if isinstance(case.model, tuple):
            own = [each.va for (of, _), each in zip(jobs, found, strict=True) if of is case]
            va = tuple(each for each in own if each is not None)
        else:
            prediction = predict_baseline(case.model, splits.train, splits.val, splits.subject_of)
            va = (prediction.va,)
        said.append(Predictions(case.group, case.name, va))
    return said
