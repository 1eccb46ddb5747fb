"""The stage `score-head`: predictions of a split, and their CCC by the official protocol."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from features.system.files import write_atomic
from features.timeline import LengthMismatch
from models.data.data_sets import Manifests, Stores
from models.data.packed import PackedFeatures
from models.data.splits import constant_labels
from models.metrics.predict import Prediction
from models.metrics.scores import (
    ClipScore,
    SplitScore,
    clip_scores,
    scores_by_set,
    split_score,
)
from models.runs.folder import CLIPS, PREDICTIONS, REPORT, SCORES, SUBMISSION, read_json, write_json
from models.runs.run_split import PredictedSplit, open_split, read_split
from models.submission.format import Submission, read_sample, rows_of_frames, rows_of_sample

HEADER = ("clip", "frame", "time_s", "valence", "arousal")
BY_SET = "_by_set"
"""What follows the name of a split in `scores.json` for the scores of its data sets."""
REPORT_HEAD_BYTES = 2000  # of the report, which contain its key
REMEDY = "delete it and score again"  # if a JSON file of an earlier scoring is damaged


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The result of a scoring."""

    state: Literal["scored", "present"]
    """`present` if nothing had changed since the split was scored and nothing was done."""
    run: Path
    split: str
    score: SplitScore | None
    """None if no frame of the split is annotated."""
    clips: tuple[ClipScore, ...]
    notes: tuple[str, ...] = ()
    """Warnings about the labels and the submission."""
    by_set: Mapping[str, SplitScore] = field(default_factory=dict)
    """The score of each of several data sets, on its own scale."""


def score_head(
    *,
    run: Path,
    manifest: Manifests | None = None,
    store: Stores | None = None,
    split: str = "val",
    max_length_mismatch: LengthMismatch | None = None,
    sample: Path | None = None,
    force: bool = False,
) -> ScoreResult:
    """Predict every row of a split, and score the annotated ones.

    Writes `predictions.csv`, `scores.json`, `clips.json`, for the test split `submission.txt`, and
    for an annotated split `report.html` to the run's folder. The entries of other splits are kept,
    but the report is of one split. Manifest, store and `max_length_mismatch` default to those of
    the training, and its device and threads are used. Raises `SpecMismatch` if the store has other
    features than the head reads, and `InputError` or `StoreError` if something else is missing.

    `submission.txt` has the rows of the challenge's `sample` file in its order. Without a sample it
    has a row per frame, and a note says so.
    """
    source = open_split(run, manifest, store, split, max_length_mismatch)
    key = source.key()
    notes = constant_labels(source.clips.labels) + source.clips.sets.notes
    rows = read_sample(sample) if sample and split == "test" else None
    if sample and not rows:
        notes += (f"sample = {sample} is left aside: a submission is of the split 'test'",)
    digest = rows.digest() if rows else None
    result = None if force else _read_finished(run, split, key, digest)
    if result and (result.score is None or _is_report_of(run / REPORT, key)):
        return replace(result, notes=notes + result.notes)
    predicted = read_split(source, regions=source.clips.is_annotated(split))
    if result is None:
        prediction, packed = predicted.prediction, predicted.packed
        score = split_score(prediction, packed, source.subject_by_clip)
        clips = tuple(clip_scores(prediction, packed))
        submission = None
        if split == "test":
            spans, limit = dict(packed.spans()), source.max_length_mismatch
            submission = (
                rows_of_sample(rows, spans, prediction.va, limit)
                if rows
                else rows_of_frames(spans, prediction.va)
            )
        own_notes = source.caution + (submission.notes if submission else ())
        by_set = scores_by_set(prediction, packed, source.subject_by_clip)
        result = ScoreResult("scored", run, split, score, clips, own_notes, by_set)
        _write(result, {"key": key, "sample": digest}, predicted, submission)
    if result.score:
        from models.stages.report import write_report  # imports matplotlib, which is slow

        write_report(predicted, result.score, result.clips, run / REPORT, key)
    return replace(result, notes=notes + result.notes)


def _read_finished(run: Path, split: str, key: str, sample: str | None) -> ScoreResult | None:
    """The result in the run's folder, if it has this key and its files are there.

    `sample` is the digest of the sample of the submission.
    """
    entry = read_json(run / CLIPS, REMEDY).get(split)
    needed = (PREDICTIONS, SUBMISSION) if split == "test" else (PREDICTIONS,)
    if not isinstance(entry, dict) or (entry.get("key"), entry.get("sample")) != (key, sample):
        return None
    if not all((run / name).is_file() for name in needed):
        return None
    scores, clips = read_json(run / SCORES, REMEDY), _clips_of(entry)
    score = scores.get(split)
    if not clips or (score is None and any(row.n_frames for row in clips)):
        return None
    try:
        read, notes = SplitScore(**score) if score else None, tuple(entry["notes"])
        sets = scores.get(f"{split}{BY_SET}", {}).items()
        by_set = {name: SplitScore(**each) for name, each in sets}
    except (KeyError, TypeError):
        return None  # of another version: score again
    return ScoreResult("present", run, split, read, clips, notes, by_set)


def _clips_of(entry: dict[str, Any]) -> tuple[ClipScore, ...]:
    """The clips of an entry of `clips.json`; none if another version wrote it."""
    try:
        return tuple(ClipScore(**row) for row in entry["clips"])
    except (KeyError, TypeError):
        return ()


def _is_report_of(path: Path, key: str) -> bool:
    try:
        with path.open("rb") as file:
            return key.encode() in file.read(REPORT_HEAD_BYTES)
    except FileNotFoundError:
        return False


def _write(
    result: ScoreResult,
    made_from: dict[str, str | None],
    predicted: PredictedSplit,
    submission: Submission | None,
) -> None:
    """Write the files, each whole; the entry in `clips.json` is written last, and commits them.

    It is removed first, so that a killed scoring is done again.
    """
    run, split = result.run, result.split
    clips = read_json(run / CLIPS, REMEDY)
    write_json(run / CLIPS, {name: entry for name, entry in clips.items() if name != split})
    before = {row.clip for row in _clips_of(clips.get(split, {}))}
    write_predictions(run / PREDICTIONS, predicted.packed, predicted.prediction, before)
    if submission:
        write_atomic(run / SUBMISSION, submission.text.encode())
    of_split = {split, f"{split}{BY_SET}"}
    scores = {
        name: entry
        for name, entry in read_json(run / SCORES, REMEDY).items()
        if name not in of_split
    }
    if result.score:
        scores[split] = asdict(result.score)
    if result.by_set:
        scores[f"{split}{BY_SET}"] = {name: asdict(each) for name, each in result.by_set.items()}
    write_json(run / SCORES, scores)
    entry = {"notes": result.notes, "clips": [asdict(row) for row in result.clips]}
    write_json(run / CLIPS, clips | {split: made_from | entry})


def write_predictions(
    path: Path, packed: PackedFeatures, prediction: Prediction, before: set[str]
) -> None:
    """Write the rows of these clips, after the file's rows of other clips.

    Rows of the clips in `before`, which the split had when it was last scored, are dropped too.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    replaced = {*packed.clip_ids, *before}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            next(rows, None)  # skip the header
            writer.writerows(row for row in rows if row and row[0] not in replaced)
    for clip_id, span in packed.spans():
        rows = zip(packed.time_s[span].tolist(), prediction.va[span].tolist(), strict=True)
        for frame, (time_s, va) in enumerate(rows, 1):  # counted from 1, as crops are
            writer.writerow((clip_id, frame, *(f"{value:.6f}" for value in (time_s, *va))))
    write_atomic(path, text.getvalue().encode())
