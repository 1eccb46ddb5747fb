"""The stage `ablate`: variants of a head over several seeds, and the table of their scores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.errors import InputError
from features.printable import printable
from features.system.files import write_atomic
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.ablation.plan import ablation_cases, read_plan, selection_note
from models.ablation.table import Predictions, TableRow, as_csv, as_markdown, table_rows
from models.data.train_val import load_splits
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.folder import RunConfig
from models.stages.trials import (
    Trial,
    Workers,
    check_trials_folder,
    failures,
    n_of,
    run_trials,
)
from models.training.config import TrainConfig

Seeds = Annotated[int, Field(ge=1, le=100)]

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
    """The run and the error of each trial that failed."""
    notes: tuple[str, ...] = ()
    """Warnings about the labels."""


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
    at once, by default one per core, each with its share of the cores. One that fails is listed,
    and the others go on. Writes the table to `ablation.csv`, `ablation.md` and `ablation.html`.
    Raises as `train_head` does, and `InputError` if a variant is not a valid head.
    """
    cases = ablation_cases(read_plan(variants), head, train)
    check_trials_folder(run, "an ablation")
    splits = load_splits(manifest, store, visual, audio, max_length_mismatch)
    if not splits.val.va_valid.any():
        raise InputError("no row of the val split is annotated: there is nothing to compare by")
    keys = RunConfig(
        manifest=manifest,
        store=store,
        run=run,
        head=head,
        train=train,
        visual=visual,
        audio=audio,
        max_length_mismatch=max_length_mismatch,
    )
    jobs = [
        (
            case,
            Trial.of(
                f"{case.name}, seed {seed}", case, keys, run / case.folder / f"seed-{seed}", seed
            ),
        )
        for seed in range(train.seed, train.seed + seeds)
        for case in cases
        if seed == train.seed or isinstance(case.model, tuple)  # a baseline draws no numbers
    ]
    results = run_trials([trial for _, trial in jobs], workers, on_case)
    predictions = [
        Predictions(
            case.group,
            case.name,
            tuple(
                result.va
                for (of, _), result in zip(jobs, results, strict=True)
                if of is case and result.va is not None
            ),
        )
        for case in cases
    ]
    lines = table_rows(predictions, splits.val, splits.subject_by_clip)
    ablation = Ablation(
        run,
        lines,
        n_trained=n_of("trained", results),
        n_present=n_of("present", results),
        failed=failures(run, [trial for _, trial in jobs], results),
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
