"""The stage `score-head`: predictions of one split, and their CCC by the official protocol."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from features.errors import InputError
from features.system.files import write_atomic
from features.timeline import LengthMismatch
from models.data.packed import PackedFeatures
from models.data.splits import constant_labels
from models.metrics.predict import Prediction
from models.metrics.scores import ClipScore, SplitScore, clip_scores, split_score
from models.runs.folder import REPORT, write_json
from models.runs.run_split import PredictedSplit, open_split, read_split
from models.submission.format import Sample, Submission, read_sample, rows_of_frames, rows_of_sample

SCORES = "scores.json"
CLIPS = "clips.json"
PREDICTIONS = "predictions.csv"
SUBMISSION = "submission.txt"
HEADER = ("clip", "frame", "time_s", "valence", "arousal")
REPORT_HEAD_BYTES = 2000  # of the report; the key of what it shows stands within


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """How a scoring ended."""

    state: Literal["scored", "present"]
    """`present`: nothing had changed since the split was scored, nothing was done."""
    run: Path
    split: str
    score: SplitScore | None
    """None where no frame of the split is annotated."""
    clips: tuple[ClipScore, ...]
    notes: tuple[str, ...] = ()
    """What is odd about labels and submission."""


def score_head(
    *,
    run: Path,
    manifest: Path | None = None,
    store: str | None = None,
    split: str = "val",
    max_length_mismatch: LengthMismatch | None = None,
    sample: Path | None = None,
    force: bool = False,
) -> ScoreResult:
    """Predict every row of a split, and score it where it is annotated.

    Into the run's folder go `predictions.csv`, `scores.json`, `clips.json`, for the test split
    `submission.txt`, and last, for an annotated split, `report.html`; what other splits left
    there stays, but the report is of one split. Manifest, store and `max_length_mismatch` default
    to those the head was trained with. `SpecMismatch` where the store's features are others than
    the head's; `InputError` and `StoreError` where something else is missing.

    `submission.txt` has the rows of the challenge's `sample` file in their order; without one a
    row per frame, and a note says so.
    """
    source = open_split(run, manifest, store, split, max_length_mismatch)
    key, notes = source.key(), constant_labels(source.labels)
    wanted = read_sample(sample) if sample and split == "test" else None
    if sample and not wanted:
        notes += (f"sample = {sample} is left aside: a submission is of the split 'test'",)
    digest = wanted.digest() if wanted else None
    found = None if force else _present(run, split, key, digest)
    if found and (found.score is None or _is_report_of(run / REPORT, key)):
        return replace(found, notes=notes + found.notes)
    reading = read_split(source)
    if found is None:
        score = split_score(reading.prediction, reading.bank, source.subject_of)
        table = tuple(clip_scores(reading.prediction, reading.bank))
        submission = _submission(reading, wanted) if split == "test" else None
        odd = source.caution + (submission.notes if submission else ())
        found = ScoreResult("scored", run, split, score, table, odd)
        _write(found, {"key": key, "sample": digest}, reading, submission)
    if found.score:
        from models.stages.report import write_report  # matplotlib: half a second

        write_report(reading, run / REPORT, key)
    return replace(found, notes=notes + found.notes)


def _present(run: Path, split: str, key: str, sample: str | None) -> ScoreResult | None:
    """The result in the run's folder, if it was made from the same head, features and labels.

    The submission must have been made from the sample of the same digest.
    """
    entry = _read_json(run / CLIPS).get(split)
    needed = (PREDICTIONS, SUBMISSION) if split == "test" else (PREDICTIONS,)
    if not isinstance(entry, dict) or (entry.get("key"), entry.get("sample")) != (key, sample):
        return None
    if not all((run / name).is_file() for name in needed):
        return None
    score = _read_json(run / SCORES).get(split)
    table = _table(entry)
    if not table or (score is None and any(row.n_frames for row in table)):
        return None
    try:
        found, notes = SplitScore(**score) if score else None, tuple(entry["notes"])
    except (KeyError, TypeError):
        return None  # of another vaflow: to be scored again
    return ScoreResult("present", run, split, found, table, notes)


def _table(entry: dict[str, Any]) -> tuple[ClipScore, ...]:
    """The clips of an entry of `clips.json`; none where another vaflow wrote it."""
    try:
        return tuple(ClipScore(**row) for row in entry["clips"])
    except (KeyError, TypeError):
        return ()


def _is_report_of(path: Path, key: str) -> bool:
    """Whether the report shows the split of this key, and not another or an older one."""
    try:
        with path.open("rb") as file:
            return key.encode() in file.read(REPORT_HEAD_BYTES)
    except FileNotFoundError:
        return False


def _submission(reading: PredictedSplit, sample: Sample | None) -> Submission:
    """In the rows of the sample, or without one a row per frame."""
    spans, va = dict(reading.bank.spans()), reading.prediction.va
    if sample is None:
        return rows_of_frames(spans, va)
    return rows_of_sample(sample, spans, va, reading.source.max_length_mismatch)


def _write(
    result: ScoreResult,
    made_from: dict[str, str | None],
    reading: PredictedSplit,
    submission: Submission | None,
) -> None:
    """Write the files, each whole; `clips.json` comes last, for it says that all are there."""
    run, split = result.run, result.split
    clips = _read_json(run / CLIPS)
    write_json(run / CLIPS, {name: entry for name, entry in clips.items() if name != split})
    before = {row.clip for row in _table(clips.get(split, {}))}
    _write_predictions(run / PREDICTIONS, reading.bank, reading.prediction, before)
    if submission:
        write_atomic(run / SUBMISSION, submission.text.encode())
    scores = {name: entry for name, entry in _read_json(run / SCORES).items() if name != split}
    if result.score:
        scores[split] = asdict(result.score)
    write_json(run / SCORES, scores)
    entry = {"notes": result.notes, "clips": [asdict(row) for row in result.clips]}
    write_json(run / CLIPS, clips | {split: made_from | entry})


def _rows(
    bank: PackedFeatures, prediction: Prediction
) -> Iterator[tuple[str, int, float, float, float]]:
    """Clip, frame (from 1, as crops are numbered), time in seconds, valence, arousal."""
    va = prediction.va.tolist()
    time_s = bank.time_s.tolist()
    for clip_id, span in bank.spans():
        for frame, row in enumerate(range(span.start, span.stop), 1):
            yield clip_id, frame, time_s[row], *va[row]


def _write_predictions(
    path: Path, bank: PackedFeatures, prediction: Prediction, before: set[str]
) -> None:
    """The rows of these clips, after those that the file has of other splits.

    `before` are the clips that the split had when it was scored before.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    gone = {*bank.clip_ids, *before}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            next(rows, None)  # the header
            writer.writerows(row for row in rows if row and row[0] not in gone)
    for clip_id, frame, time_s, valence, arousal in _rows(bank, prediction):
        writer.writerow((clip_id, frame, f"{time_s:.6f}", f"{valence:.6f}", f"{arousal:.6f}"))
    write_atomic(path, text.getvalue().encode())


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of the run; empty where there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); delete it and score again") from None
    return value if isinstance(value, dict) else {}
