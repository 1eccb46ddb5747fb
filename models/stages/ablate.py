"""The stage `ablate`: variants of a head over several seeds, and the table of their scores."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.ablation.plan import ablation_cases, read_plan, selection_note
from models.ablation.table import Predictions, TableRow, ablation_markdown, as_csv, table_rows
from models.data.data_sets import Manifests, Stores, data_sets
from models.data.joined_sets import open_sets_of
from models.data.stream_names import Streams
from models.data.train_val import Splits, load_splits
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.folder import RunConfig
from models.stages.leave_one_set_out import LEAVE_ONE_SET_OUT, leave_one_set_out
from models.stages.trials import (
    Comparison,
    Trial,
    TrialResult,
    Workers,
    check_trials_folder,
    ends,
    predictions,
    run_trials,
    write_table,
)
from models.training.config import TrainConfig

Seeds = Annotated[int, Field(ge=1, le=100)]


class Ablation(Comparison[TableRow]):
    """The result of an ablation; the default is the first row."""

    stage = "ablate"
    file = "ablation"


def ablate(
    *,
    manifest: Manifests,
    store: Stores,
    run: Path,
    variants: str = "default",
    seeds: Seeds = 5,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    streams: Streams | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    workers: Workers | None = None,
    on_case: Callable[[str, int], None] | None = None,
) -> Ablation:
    """Train every variant of a plan from several seeds, and compare it with the default.

    `variants` is the name of a plan in configs/ablations, or a YAML file. The default is `head`.
    With `leave-one-set-out`, the head is trained on all but one of several data sets instead.
    Seeds count up from `train.seed`. Each training is a separate run in the folder
    `<run>/<variant>/seed-<k>`; finished ones are not trained again. `workers` trainings run
    at once, by default one per core, each with its share of the cores. One that fails is listed,
    and the others go on. Writes the table to `ablation.csv`, `ablation.md` and `ablation.html`.
    Raises as `train_head` does, and `InputError` if a variant is not a valid head.
    """
    keys = RunConfig(
        manifest=manifest,
        store=store,
        run=run,
        head=head,
        train=train,
        streams=streams,
        max_length_mismatch=max_length_mismatch,
    )
    check_trials_folder(run, "an ablation")
    if variants == LEAVE_ONE_SET_OUT:
        rows, trials, results, splits, selection = leave_one_set_out(keys, seeds, workers, on_case)
        return _written(run, rows, trials, results, splits, selection)
    plan, sets = read_plan(variants), open_sets_of(data_sets(manifest, store), streams)
    cases = ablation_cases(plan, head, train, tuple(sets.specs), sets.with_texts)
    splits = load_splits(manifest, store, streams, max_length_mismatch, train.label_maps)
    trials = [
        Trial.of(
            case, f"{case.name}, seed {seed}", case, keys, run / case.folder / f"seed-{seed}", seed
        )
        for seed in range(train.seed, train.seed + seeds)
        for case in cases
        if seed == train.seed or isinstance(case.model, tuple)  # a baseline draws no numbers
    ]
    results = run_trials(trials, workers, on_case)
    found = [
        Predictions(case.group, case.name, va) for case, va in predictions(trials, results).items()
    ]
    rows = table_rows(found, splits)
    return _written(run, rows, trials, results, splits, selection_note(cases))


def _written(
    run: Path,
    rows: tuple[TableRow, ...],
    trials: Sequence[Trial],
    results: Sequence[TrialResult],
    splits: Splits,
    selection: str,
) -> Ablation:
    """Write the table, and return the result."""
    from models.ablation.html import ablation_page  # imports matplotlib, which is slow

    html = ablation_page(rows, splits, selection)
    write_table(run, Ablation.file, as_csv(rows), ablation_markdown(rows, selection), html)
    return Ablation(run, rows, *ends(run, trials, results), splits.notes)
