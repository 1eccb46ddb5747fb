"""The report of a run as a file."""

from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError
from features.system.files import write_atomic
from models.data.data_sets import Manifests, Stores
from models.metrics.scores import ClipScore, SplitScore, clip_scores, split_score
from models.report.content import content_of
from models.report.html import page
from models.report.thumbnails import ThumbnailsOf
from models.runs.folder import REPORT
from models.runs.run_split import PredictedSplit, open_split, read_split


def report(
    run: Path,
    *,
    split: str = "val",
    output: Path | None = None,
    manifest: Manifests | None = None,
    store: Stores | None = None,
    max_length_mismatch: int | None = None,
    thumbnails: ThumbnailsOf = "crops",
    baselines: Path | None = None,
) -> Path:
    """Write the report of a split, to `report.html` in the run's folder or to `output`.

    Returns its path. Manifest, store and `max_length_mismatch` default to those of the training,
    and `baselines`, the scores that `vaflow run baselines output=FILE` wrote, to `baselines.json`
    of the run, if it exists.
    Raises as `score_head` does, and `InputError` for a split without labels.
    """
    if output and not output.parent.is_dir():
        raise InputError(
            f"there is no folder {output.parent} to put the report in; create it first"
        )
    if output and output.is_dir():
        raise InputError(f"{output} is a folder; name the file to put the report in")
    path = output or run / REPORT
    source = open_split(run, manifest, store, split, max_length_mismatch)
    predicted = read_split(source, regions=True)
    score = split_score(predicted.prediction, predicted.packed, source.subject_by_clip)
    clips = tuple(clip_scores(predicted.prediction, predicted.packed))
    write_report(predicted, score, clips, path, source.key(), thumbnails, baselines)
    return path


def write_report(
    split: PredictedSplit,
    score: SplitScore | None,
    clips: Sequence[ClipScore],
    path: Path,
    key: str,
    thumbnails: ThumbnailsOf = "crops",
    baselines: Path | None = None,
) -> None:
    """Write the report of a split with its scores, whole or not at all."""
    content = content_of(split, score, clips, thumbnails=thumbnails, baselines=baselines)
    write_atomic(path, page(content, key).encode())
