"""The stage `learning-curve`: scores by number of labelled people and by label noise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.errors import InputError
from features.manifest.manifest import read_manifest
from features.printable import printable
from features.system.files import write_atomic
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.ablation.conditions import Condition, TrainingSet, write_training_set
from models.ablation.curve_table import (
    CurveRow,
    DrawnPredictions,
    as_csv,
    as_markdown,
    curve_rows,
)
from models.ablation.plan import AblationCase, ablation_cases, read_plan, selection_note
from models.ablation.table import Va
from models.data.feature_sets import open_sets
from models.data.packed_cache import load_packed
from models.data.splits import clips_of_split, subject_by_clip
from models.data.train_val import load_splits
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.folder import RunConfig
from models.stages.trials import (
    Trial,
    TrialResult,
    Workers,
    check_trials_folder,
    failures,
    n_of,
    run_trials,
)
from models.training.config import TrainConfig

People = tuple[Annotated[int, Field(ge=2)], ...]
Noise = tuple[Annotated[float, Field(gt=0, le=2)], ...]
Draws = Annotated[int, Field(ge=1, le=100)]

CSV, MARKDOWN, PAGE = "learning_curve.csv", "learning_curve.md", "learning_curve.html"
OTHERS = Path("others")
"""As `train.unlabelled` of a variant: the train clips of the people that were not drawn."""


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The result of a learning curve."""

    run: Path
    rows: tuple[CurveRow, ...]
    """By condition; the default is the first of each."""
    n_trained: int
    n_present: int
    """Trainings that were finished before."""
    failed: tuple[str, ...]
    """The run and the error of each trial that failed."""
    notes: tuple[str, ...] = ()
    """Numbers of people that were left out, and warnings about the labels."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A trial and its place in the table."""

    condition: Condition
    case: AblationCase
    draw: int
    trial: Trial


def learning_curve(
    *,
    manifest: Path,
    store: str,
    run: Path,
    variants: str = "learning_curve",
    people: People = (2, 4, 8, 16),
    noise: Noise = (0.15, 0.3),
    draws: Draws = 5,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    workers: Workers | None = None,
    on_case: Callable[[str, int], None] | None = None,
) -> LearningCurve:
    """Train every variant of a plan on few people and on noisy labels, and score it on val.

    `people` are numbers of people of the train split; all of them are always a condition, too, and
    `noise` is added to the labels of all. Draws count up from `train.seed`: draw k is an order of
    the people, of which the first are taken, an error of a rater, and the seed of the trainings. A
    variant with `train: {unlabelled: others}` gets the clips of the people that were not drawn.
    Each training is a run in `<run>/<condition>/<variant>/draw-<k>`; finished ones are not trained
    again. The rest is as in `ablate`. Writes `learning_curve.csv`, `.md` and `.html`.
    """
    cases = ablation_cases(read_plan(variants), head, train)
    check_trials_folder(run, "a learning curve")
    if train.unlabelled == OTHERS:
        raise InputError(
            "train.unlabelled is 'others', which only a variant of the plan can have, as it says "
            "nothing of all people: give the default another manifest, or none"
        )
    splits = load_splits(manifest, store, visual, audio, max_length_mismatch)
    if not splits.val.va_valid.any():
        raise InputError("no row of the val split is annotated: there is nothing to compare by")
    content = read_manifest(manifest)
    n_all = len(set(subject_by_clip(clips_of_split(content, "train")).values()))
    everyone = Condition(0.0, n_all, is_all=True)
    conditions = [
        *(Condition(0.0, n, is_all=False) for n in sorted(set(people)) if n < n_all),
        everyone,
        *(Condition(std, n_all, is_all=True) for std in sorted(set(noise))),
    ]
    models = [case.model for case in cases]
    if any(isinstance(model, tuple) and model[1].unlabelled == OTHERS for model in models):
        # all draws share one packed file
        load_packed(open_sets(store, visual, audio), dict.fromkeys(splits.train.clip_ids))
    time_s = {clip_id: splits.train.time_s[span] for clip_id, span in splits.train.spans()}
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
    numbers = range(train.seed, train.seed + draws)
    jobs = [
        job
        for condition in conditions
        for draw in numbers
        for job in _jobs(
            condition,
            draw,
            cases,
            keys,
            TrainingSet(manifest)
            if condition == everyone
            else write_training_set(run, content, condition, draw, time_s),
        )
    ]
    trials = [job.trial for job in jobs]
    results = run_trials(trials, workers, on_case)
    rows = curve_rows(_predictions(jobs, results, numbers), splits.val, splits.subject_by_clip)
    curve = LearningCurve(
        run,
        rows,
        n_trained=n_of("trained", results),
        n_present=n_of("present", results),
        failed=failures(run, trials, results),
        notes=splits.notes + _left_out(people, n_all),
    )
    from models.ablation.curve_html import page  # imports matplotlib, which is slow

    selection = selection_note(cases)
    run.mkdir(parents=True, exist_ok=True)
    write_atomic(run / CSV, as_csv(rows).encode())
    write_atomic(run / MARKDOWN, printable(as_markdown(rows, selection)).encode())
    html = page(rows, splits.val, splits.subject_by_clip, selection)
    write_atomic(run / PAGE, printable(html).encode())
    return curve


def _left_out(people: Sequence[int], n_all: int) -> tuple[str, ...]:
    too_many = sorted({n for n in people if n >= n_all})
    if not too_many:
        return ()
    listed = ", ".join(map(str, too_many))
    return (f"people = {listed}: left out, as the train split shows {n_all}, who are all",)


def _jobs(
    condition: Condition,
    draw: int,
    cases: Sequence[AblationCase],
    keys: RunConfig,
    drawn: TrainingSet,
) -> Iterator[_Job]:
    """Yield the trials of a draw."""
    on_draw = keys.model_copy(update={"manifest": drawn.manifest})
    for case in cases:
        chosen = case
        if _is_the_same_in_every_draw(condition, case) and draw != keys.train.seed:
            continue
        if isinstance(case.model, tuple) and case.model[1].unlabelled == OTHERS:
            if drawn.others is None:
                continue
            head, train = case.model
            train = train.model_copy(update={"unlabelled": drawn.others})
            chosen = replace(case, model=(head, train))
        run = keys.run / condition.folder / case.folder / f"draw-{draw}"
        name = f"{condition}: {case.name}, draw {draw}"
        yield _Job(condition, case, draw, Trial.of(name, chosen, on_draw, run, draw))


def _is_the_same_in_every_draw(condition: Condition, case: AblationCase) -> bool:
    """Whether nothing is drawn: neither people, noise, nor the numbers of a training."""
    return condition.is_all and not condition.noise and not isinstance(case.model, tuple)


def _predictions(
    jobs: Sequence[_Job], results: Sequence[TrialResult], draws: Sequence[int]
) -> list[DrawnPredictions]:
    """The predictions by condition and variant, in the order of the jobs."""
    found: dict[tuple[str, str], DrawnPredictions] = {}
    va: dict[tuple[str, str], dict[int, Va]] = {}
    for job, result in zip(jobs, results, strict=True):
        place = job.condition.folder, job.case.folder
        by_draw = va.setdefault(place, {})
        found.setdefault(
            place, DrawnPredictions(job.condition, job.case.group, job.case.name, by_draw)
        )
        if result.va is not None:
            same = _is_the_same_in_every_draw(job.condition, job.case)
            by_draw.update(dict.fromkeys(draws if same else (job.draw,), result.va))
    return list(found.values())
