"""What differs between trained runs: their settings, and their scores on the same clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from os.path import commonpath
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from features.errors import InputError, list_names
from models.data.data_sets import Manifests, Stores
from models.metrics.ccc import VaConcordance
from models.metrics.intervals import (
    FEW_SUBJECTS,
    ScoreEstimates,
    holm,
    labels_differ,
    paired_difference,
    score_intervals,
)
from models.metrics.predict import Prediction, concordance
from models.runs.folder import METRICS
from models.runs.listed_run import SPLIT, ListedRun, read_epochs
from models.runs.listing import find_run
from models.runs.run_split import RunSplit, open_split
from models.runs.val_predictions import val_predictions
from models.training.config import EpochResult


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run, or the mean prediction of several trainings, on the clips that all have."""

    name: str
    """Path below the folder that all runs are in."""
    listed: ListedRun
    ccc: tuple[float, float, float]
    """Of valence, of arousal, and their mean."""
    intervals: ScoreEstimates | None
    """Over subjects; None if there is only one."""
    curves: tuple[tuple[EpochResult, ...], ...]
    """The epochs of each training; none of an ensemble, whose members have curves of their own."""
    difference: ScoreEstimates | None = None
    """To the first run, over subjects, paired; None for the first, or if there is one subject."""
    p_holm: float | None = None
    """p of the mean's difference, corrected for the number of differences (Holm, 1979)."""

    @property
    def n_trainings(self) -> int:
        """The number of trainings whose predictions are averaged."""
        return len(self.listed.trainings) or 1


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Runs on the same clips; the first is the reference."""

    runs: tuple[ComparedRun, ...]
    n_clips: int
    n_subjects: int
    n_labels: int
    settings: Mapping[str, tuple[JsonValue, ...]]
    """The keys that are not the same in all runs, with a value per run; `MISSING` if it has none"""
    notes: tuple[str, ...]
    """What limits the comparison."""


MISSING = "\N{EN DASH}"
OF_A_TRAINING = ("manifest", "train.seed")  # several trainings of a variant may differ in these


@dataclass(frozen=True, slots=True)
class _Predicted:
    """The sums of each annotated val clip of a run."""

    name: str
    listed: ListedRun
    by_clip: dict[str, VaConcordance]
    subjects: dict[str, str]
    manifest: Manifests
    caution: tuple[str, ...]


def compare_runs(
    paths: Sequence[Path], manifest: Manifests | None = None, store: Stores | None = None
) -> RunComparison:
    """Compare runs on the val clips that all have; the first is the reference.

    A path is the folder of a head, of an ensemble, or of a variant of a comparison with trainings
    from several seeds, whose predictions are averaged. Manifest and store default to those of each
    training. Raises `InputError` if the runs have no annotated val clip in common or the labels of
    one are not the same, and as `score_head` does.
    """
    if len(paths) < 2:
        raise InputError("a comparison needs two runs or more; give their folders")
    names = names_of(paths)
    predicted = [
        _predict(name, path, manifest, store) for name, path in zip(names, paths, strict=True)
    ]
    first = predicted[0]
    clips = [clip for clip in first.by_clip if all(clip in each.by_clip for each in predicted)]
    if not clips:
        raise InputError(
            "the runs have no annotated val clip in common: "
            + "; ".join(f"{each.name} has {list_names([*each.by_clip])}" for each in predicted)
            + "; compare runs of one data set, or give --manifest and --store to score all on it"
        )
    for each in predicted[1:]:
        _check_labels(first, each, clips)
    by_subject = [_by_subject(each, clips, first.subjects) for each in predicted]
    runs = [
        _compared(each, sums, by_subject[0] if k else None)
        for k, (each, sums) in enumerate(zip(predicted, by_subject, strict=True))
    ]
    n_subjects = len(by_subject[0])
    return RunComparison(
        runs=tuple(_corrected(runs)),
        n_clips=len(clips),
        n_subjects=n_subjects,
        n_labels=sum(sums.valence.n for sums in by_subject[0]),
        settings=_settings([each.listed for each in predicted]),
        notes=tuple(_notes(predicted, clips, n_subjects)),
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the paths below the innermost folder that all are in."""
    whole = [path.resolve() for path in paths]
    parent = commonpath([path.parent for path in whole])
    return [str(path.relative_to(parent)) for path in whole]


def _settings(runs: Sequence[ListedRun]) -> dict[str, tuple[JsonValue, ...]]:
    """The keys that are not the same in all runs, with a value per run."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    if any(run.trainings for run in runs):
        keys = {key: None for key in keys if key not in OF_A_TRAINING}
    rows = {key: tuple(run.settings.get(key, MISSING) for run in runs) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _predict(name: str, path: Path, manifest: Manifests | None, store: Stores | None) -> _Predicted:
    """Predict the val split with the run, or with each training of a variant."""
    listed = find_run(path)
    if not listed.trainings and listed.state == "unfinished":
        raise InputError(f"{path} is not finished: {listed.note}")
    sources = [open_split(run, manifest, store, SPLIT) for run in listed.trainings or (path,)]
    va = np.mean([val_predictions(source) for source in sources], axis=0)
    source = sources[0]
    packed = source.clips.load(source.max_length_mismatch)
    prediction = Prediction(va, np.zeros(len(va), dtype=bool))  # which rows decides no score
    sums = {clip: concordance(prediction, packed, span) for clip, span in packed.spans()}
    return _Predicted(
        name=name,
        listed=listed,
        by_clip={clip: each for clip, each in sums.items() if each.valence.n},
        subjects=source.subject_by_clip,
        manifest=source.manifest,
        caution=_cautions(sources),
    )


def _cautions(sources: Sequence[RunSplit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for source in sources for note in source.caution))


def _check_labels(first: _Predicted, other: _Predicted, clips: Sequence[str]) -> None:
    differ = [clip for clip in clips if labels_differ(first.by_clip[clip], other.by_clip[clip])]
    if differ:
        n, m = (each.by_clip[differ[0]].valence.n for each in (first, other))
        labels = f"{n} and {m} labels" if n != m else "other values"
        raise InputError(
            f"{first.name} and {other.name} have not the same labels ({list_names(differ)}: "
            f"{labels}), so that their CCC cannot be compared; give --manifest and --store to "
            "score all on the same"
        )


def _by_subject(
    run: _Predicted, clips: Sequence[str], subjects: Mapping[str, str]
) -> list[VaConcordance]:
    found: dict[str, list[VaConcordance]] = {}
    for clip in clips:
        found.setdefault(subjects[clip], []).append(run.by_clip[clip])
    return [reduce(add, sums) for sums in found.values()]


def _compared(
    run: _Predicted, sums: Sequence[VaConcordance], reference: Sequence[VaConcordance] | None
) -> ComparedRun:
    folders = run.listed.trainings or (run.listed.path,)
    curves = tuple(read_epochs(folder / METRICS)[0] for folder in folders)
    return ComparedRun(
        name=run.name,
        listed=run.listed,
        ccc=reduce(add, sums).ccc(),
        intervals=score_intervals(sums),
        curves=tuple(each for each in curves if each),
        difference=paired_difference(sums, reference) if reference else None,
    )


def _corrected(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    p_values = [(run.difference and run.difference.mean.p_value) for run in runs]
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [
        run if p is None else replace(run, p_holm=next(corrected))
        for run, p in zip(runs, p_values, strict=True)
    ]


def _notes(predicted: Sequence[_Predicted], clips: Sequence[str], n_subjects: int) -> list[str]:
    first, notes = predicted[0], []
    more = [(each.name, len(each.by_clip) - len(clips)) for each in predicted]
    if any(n for _, n in more):
        left_out = ", ".join(f"{n} of {name}" for name, n in more if n)
        notes.append(
            f"compared on the {len(clips)} val clips that all runs have; left out: {left_out}"
        )
    if any(each.manifest != first.manifest for each in predicted):
        notes.append(f"the manifests differ; subjects are those of the manifest of {first.name}")
    counts = {len(each.listed.trainings) or 1 for each in predicted}
    if len(counts) > 1:
        notes.append(
            "the mean prediction of several trainings usually scores higher than one training"
        )
    if n_subjects < 2:
        notes.append("all clips show one subject, so there are no intervals and no differences")
    elif n_subjects < FEW_SUBJECTS:
        notes.append(
            f"with {n_subjects} subjects, fewer than {FEW_SUBJECTS}, the intervals are rather too "
            "narrow"
        )
    notes += [f"{each.name}: {note}" for each in predicted for note in each.caution]
    notes += [f"{each.name}: {each.listed.note}" for each in predicted if each.listed.note]
    chosen = [each.name for each in predicted if each.listed.settings.get("train.select") == "val"]
    if chosen:
        notes.append(
            "the epoch was chosen on this very split, which makes the score too high: "
            + ", ".join(chosen)
        )
    return notes
