"""The stage `learning-curve`: scores by number of labelled people and by label noise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.errors import InputError
from features.manifest.manifest import read_manifest
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.ablation.conditions import Condition, write_training_set
from models.ablation.plan import AblationCase, ablation_cases, read_plan, selection_note
from models.ablation.table import CurveRow, Predictions, as_csv, curve_markdown, curve_rows
from models.data.data_sets import OneManifest
from models.data.feature_sets import open_sets
from models.data.packed_cache import load_packed
from models.data.splits import clips_of_split, subject_by_clip
from models.data.stream_names import Streams
from models.data.train_val import load_splits
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.folder import RunConfig
from models.stages.trials import (
    Comparison,
    Trial,
    Workers,
    check_trials_folder,
    ends,
    predictions,
    run_trials,
    write_table,
)
from models.training.config import TrainConfig

People = tuple[Annotated[int, Field(ge=2)], ...]
Noise = tuple[Annotated[float, Field(gt=0, le=2)], ...]
Draws = Annotated[int, Field(ge=1, le=100)]

OTHERS = Path("others")
"""As `train.unlabelled` of a variant: the train clips of the people that were not drawn."""


class LearningCurve(Comparison[CurveRow]):
    """The result of a learning curve; the default is the first row of each condition."""

    stage = "learning-curve"
    file = "learning_curve"


def learning_curve(
    *,
    manifest: OneManifest,
    store: str,
    run: Path,
    variants: str = "learning_curve",
    people: People = (2, 4, 8, 16),
    noise: Noise = (0.15, 0.3),
    draws: Draws = 5,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    streams: Streams | None = None,
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
    plan, sets = read_plan(variants), open_sets(store, streams)
    cases = ablation_cases(plan, head, train, tuple(sets.specs), sets.with_texts)
    check_trials_folder(run, "a learning curve")
    if train.unlabelled == OTHERS:
        raise InputError(
            "train.unlabelled is 'others', which only a variant of the plan can have, as it says "
            "nothing of all people: give the default another manifest, or none"
        )
    splits = load_splits(manifest, store, streams, max_length_mismatch)
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
        load_packed(sets, dict.fromkeys(splits.train.clip_ids))
    time_s = {clip_id: splits.train.time_s[span] for clip_id, span in splits.train.spans()}
    keys = RunConfig(
        manifest=manifest,
        store=store,
        run=run,
        head=head,
        train=train,
        streams=streams,
        max_length_mismatch=max_length_mismatch,
    )
    numbers = range(train.seed, train.seed + draws)
    trials = [
        trial
        for condition in conditions
        for draw in numbers
        for trial in _trials(
            condition,
            draw,
            cases,
            keys,
            (manifest, None)
            if condition == everyone
            else write_training_set(run, content, condition, draw, time_s),
        )
    ]
    results = run_trials(trials, workers, on_case)
    found = []
    for (condition, case), va in predictions(trials, results).items():
        if _is_the_same_in_every_draw(condition, case):
            va = {draw: each for draw in numbers for each in va.values()}
        found.append((condition, Predictions(case.group, case.name, va)))
    rows = curve_rows(found, splits)
    from models.ablation.html import curve_page  # imports matplotlib, which is slow

    selection = selection_note(cases)
    html = curve_page(rows, splits, selection)
    write_table(run, LearningCurve.file, as_csv(rows), curve_markdown(rows, selection), html)
    notes = splits.notes
    if too_many := sorted({n for n in people if n >= n_all}):
        listed = ", ".join(map(str, too_many))
        notes += (f"people = {listed}: left out, as the train split shows {n_all}, who are all",)
    return LearningCurve(run, rows, *ends(run, trials, results), notes)


def _trials(
    condition: Condition,
    draw: int,
    cases: Sequence[AblationCase],
    keys: RunConfig,
    drawn: tuple[Path, Path | None],
) -> Iterator[Trial[tuple[Condition, AblationCase]]]:
    manifest, others = drawn
    on_draw = keys.model_copy(update={"manifest": manifest})
    for case in cases:
        chosen = case
        if _is_the_same_in_every_draw(condition, case) and draw != keys.train.seed:
            continue
        if isinstance(case.model, tuple) and case.model[1].unlabelled == OTHERS:
            if others is None:
                continue
            head, train = case.model
            train = train.model_copy(update={"unlabelled": others})
            chosen = replace(case, model=(head, train))
        run = keys.run / condition.folder / case.folder / f"draw-{draw}"
        name = f"{condition}: {case.name}, draw {draw}"
        yield Trial.of((condition, case), name, chosen, on_draw, run, draw)


def _is_the_same_in_every_draw(condition: Condition, case: AblationCase) -> bool:
    """Whether nothing is drawn: neither people, noise, nor the numbers of a training."""
    return condition.is_all and not condition.noise and not isinstance(case.model, tuple)
