"""The stage `score-head`: predictions of one split, and their CCC by the official protocol."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from features.devices import torch_device
from features.durable import sha256_of, write_whole
from features.errors import InputError
from features.manifest import read_manifest
from features.spec import canonical
from features.timeline import RowsApart
from models.bank import Bank
from models.checkpoint import FILE, load_head, read_meta
from models.loading import (
    clips_of_split,
    constant_labels,
    digest_of_labels,
    load_bank,
    open_sets_of_head,
    read_all_labels,
    records_digest,
)
from models.prediction import Prediction, concordance, predict
from models.runs import read_config, write_json

SCORES = "scores.json"
CLIPS = "clips.json"
PREDICTIONS = "predictions.csv"
SUBMISSION = "submission.txt"
HEADER = ("clip", "frame", "time_s", "valence", "arousal")


@dataclass(frozen=True, slots=True)
class SplitScore:
    """The score of a split: its annotated frames, end to end."""

    ccc_valence: float
    ccc_arousal: float
    ccc_mean: float
    n_frames: int
    """Annotated frames."""
    n_clips: int
    n_interpolated: int
    """Frames without a face, predicted from their neighbours; annotated or not."""


@dataclass(frozen=True, slots=True)
class ClipScore:
    """One clip of the table: a diagnostic, never the score."""

    clip: str
    n_frames: int
    """Annotated frames; without any, the CCC are None."""
    n_interpolated: int
    ccc_valence: float | None
    ccc_arousal: float | None


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
    """What is odd about the labels."""


def score_head(
    *,
    run: Path,
    manifest: Path | None = None,
    store: str | None = None,
    split: str = "val",
    max_rows_apart: RowsApart | None = None,
    force: bool = False,
) -> ScoreResult:
    """Predict every row of a split, and score it where it is annotated.

    Into the run's folder go `predictions.csv`, `scores.json`, `clips.json` and, for the test
    split, `submission.txt`; what other splits left there stays. Manifest, store and
    `max_rows_apart` default to those the head was trained with. `SpecMismatch` where the store's
    features are others than the head's; `InputError` and `StoreError` where something else is
    missing.
    """
    meta = read_meta(run / FILE)
    config = read_config(run)
    listed = read_manifest(manifest or config.manifest)
    clips = clips_of_split(listed, split)
    sets = open_sets_of_head(store or config.store, meta.visual, meta.audio)
    labels = read_all_labels(listed, clips, required=False)
    notes = constant_labels(labels)
    apart = config.max_rows_apart if max_rows_apart is None else max_rows_apart
    key = hashlib.sha256(
        canonical(
            {
                "head": sha256_of(run / FILE),
                "visual": records_digest(sets, clips, "visual"),
                "audio": records_digest(sets, clips, "audio"),
                "labels": digest_of_labels(labels),
                "max_rows_apart": apart,
            }
        )
    ).hexdigest()
    if not force and (found := _present(run, split, key)):
        return replace(found, notes=notes)
    device = torch_device(config.train.device)
    bank = load_bank(sets, labels, apart).to(device)
    prediction = predict(
        load_head(run / FILE, device).head,
        bank,
        size=meta.window,
        stride=meta.stride,
        batch_size=config.train.batch_size,
    )
    score, table = _score(prediction, bank), tuple(_per_clip(prediction, bank))
    _write(run, split, key, bank, prediction, score, table)
    return ScoreResult("scored", run, split, score, table, notes)


def _score(prediction: Prediction, bank: Bank) -> SplitScore | None:
    """The score over all clips together."""
    sums = concordance(prediction, bank)
    if not sums.valence.n:
        return None
    valence, arousal = sums.valence.ccc(), sums.arousal.ccc()
    return SplitScore(
        valence,
        arousal,
        (valence + arousal) / 2,
        sums.valence.n,
        len(bank.clip_ids),
        int(prediction.interpolated.sum()),
    )


def _per_clip(prediction: Prediction, bank: Bank) -> Iterator[ClipScore]:
    """Each clip by itself."""
    for clip_id, span in bank.spans():
        sums = concordance(prediction, bank, span)
        n = sums.valence.n
        yield ClipScore(
            clip_id,
            n,
            int(prediction.interpolated[span].sum()),
            sums.valence.ccc() if n else None,
            sums.arousal.ccc() if n else None,
        )


def _present(run: Path, split: str, key: str) -> ScoreResult | None:
    """The result in the run's folder, if it was made from the same head, features and labels."""
    entry = _read_json(run / CLIPS).get(split)
    needed = (PREDICTIONS, SUBMISSION) if split == "test" else (PREDICTIONS,)
    if not isinstance(entry, dict) or entry.get("key") != key:
        return None
    if not all((run / name).is_file() for name in needed):
        return None
    score = _read_json(run / SCORES).get(split)
    table = _table(entry)
    if not table or (score is None and any(row.n_frames for row in table)):
        return None
    try:
        found = SplitScore(**score) if score else None
    except TypeError:
        return None  # of another vaflow: to be scored again
    return ScoreResult("present", run, split, found, table)


def _table(entry: dict[str, Any]) -> tuple[ClipScore, ...]:
    """The clips of an entry of `clips.json`; none where another vaflow wrote it."""
    try:
        return tuple(ClipScore(**row) for row in entry["clips"])
    except (KeyError, TypeError):
        return ()


def _write(
    run: Path,
    split: str,
    key: str,
    bank: Bank,
    prediction: Prediction,
    score: SplitScore | None,
    table: Sequence[ClipScore],
) -> None:
    """Write the files, each whole; `clips.json` comes last, for it says that all are there."""
    clips = _read_json(run / CLIPS)
    write_json(run / CLIPS, {name: entry for name, entry in clips.items() if name != split})
    before = {row.clip for row in _table(clips.get(split, {}))}
    _write_predictions(run / PREDICTIONS, bank, prediction, before)
    if split == "test":
        write_whole(run / SUBMISSION, _submission(bank, prediction).encode())
    scores = {name: entry for name, entry in _read_json(run / SCORES).items() if name != split}
    if score:
        scores[split] = asdict(score)
    write_json(run / SCORES, scores)
    entry = {"key": key, "clips": [asdict(row) for row in table]}
    write_json(run / CLIPS, clips | {split: entry})


def _rows(bank: Bank, prediction: Prediction) -> Iterator[tuple[str, int, float, float, float]]:
    """Clip, frame (from 1, as crops are numbered), time in seconds, valence, arousal."""
    va = prediction.va.tolist()
    time_s = bank.time_s.tolist()
    for clip_id, span in bank.spans():
        for frame, row in enumerate(range(span.start, span.stop), 1):
            yield clip_id, frame, time_s[row], *va[row]


def _write_predictions(path: Path, bank: Bank, prediction: Prediction, before: set[str]) -> None:
    """The rows of these clips, after those that the file has of other splits.

    `before` are the clips that the split had when it was scored before.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    gone = {*bank.clip_ids, *before, HEADER[0]}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as lines:
            writer.writerows(row for row in csv.reader(lines) if row and row[0] not in gone)
    for clip_id, frame, time_s, valence, arousal in _rows(bank, prediction):
        writer.writerow((clip_id, frame, f"{time_s:.6f}", f"{valence:.6f}", f"{arousal:.6f}"))
    write_whole(path, text.getvalue().encode())


def _submission(bank: Bank, prediction: Prediction) -> str:
    """The challenge's form: one line per frame, frames without a crop included.

    The rows are the video's frames; they are not compared with a sample submission.
    """
    lines = [
        f"{clip_id}/{frame:05d}.jpg,{valence:.6f},{arousal:.6f}\n"
        for clip_id, frame, _, valence, arousal in _rows(bank, prediction)
    ]
    return "image_location,valence,arousal\n" + "".join(lines)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of the run; empty where there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); delete it and score again") from None
    return value if isinstance(value, dict) else {}
