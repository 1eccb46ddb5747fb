"""Reports as files: one per run, of the split that was asked for last."""

from pathlib import Path

from features.errors import InputError
from features.system.files import write_atomic
from models.report.content import content_of
from models.report.html import page
from models.runs.folder import REPORT
from models.runs.run_split import PredictedSplit, open_split, read_split


def report(
    run: Path,
    *,
    split: str = "val",
    output: Path | None = None,
    manifest: Path | None = None,
    store: str | None = None,
    max_length_mismatch: int | None = None,
) -> Path:
    """Make the report of a scored or unscored run again; returns where it lies.

    That is `report.html` in the run's folder, or `output`. Manifest, store and
    `max_length_mismatch` default to those the head was trained with. Raises as `score_head` does, and `InputError`
    for a split without labels.
    """
    if output and not output.parent.is_dir():
        raise InputError(f"there is no folder {output.parent} to put the report in; make it first")
    if output and output.is_dir():
        raise InputError(f"{output} is a folder; name the file to put the report in")
    path = output or run / REPORT
    source = open_split(run, manifest, store, split, max_length_mismatch)
    write_report(read_split(source), path, source.key())
    return path


def write_report(reading: PredictedSplit, path: Path, key: str) -> None:
    """Write the report of a split at `path`, whole or not at all."""
    write_atomic(path, page(content_of(reading), key).encode())
