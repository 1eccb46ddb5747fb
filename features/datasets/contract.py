"""What every data set keeps, checked on a sample of it; for our own and for plug-ins."""

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from features.clip import PATH_FIELDS
from features.datasets.base import DatasetConfig, DatasetIndex, write_index
from features.errors import InputError
from features.manifest.labels import read_labels
from features.manifest.manifest import read_manifest
from features.plugins import Check, Rule, run_checks


def check_dataset(config: DatasetConfig) -> tuple[Check, ...]:
    """Check a data set whose `root` is a sample; the first broken rule is the last result.

    Raises what the data set itself raises, such as `InputError` if `root` does not hold a sample.
    """
    with TemporaryDirectory() as folder:
        anywhere = config.model_copy(update={"allow_outside": (Path("/"),)})
        return run_checks(_rules(anywhere, Path(folder)))


def _rules(config: DatasetConfig, folder: Path) -> Iterator[Rule]:
    indexed = config.index(folder)
    yield "the config, written as JSON and read again, is the same", lambda: _config(config)
    yield "every clip of the sample is indexed", lambda: _clips(indexed)
    yield "the report has a row per clip, in the same order", lambda: _reports(indexed)
    yield "a second index is the same", lambda: _repeats(indexed, config.index(folder))
    yield (
        "the manifest can be read, and its files are there",
        lambda: _files(config, indexed, folder / "m.jsonl"),
    )
    yield "a clip has labels", lambda: _labels(folder / "m.jsonl")
    yield (
        "an empty folder is refused with an InputError that names it",
        lambda: _empty(config, folder),
    )


def _config(config: DatasetConfig) -> str | None:
    copy = type(config).model_validate(config.model_dump(mode="json"))
    return None if copy == config else "a key has another value afterwards"


def _clips(indexed: DatasetIndex) -> str | None:
    if indexed.left_out:
        [(clip, why), *_] = indexed.left_out.items()
        return f"{clip} is left out: {why}"
    return None if indexed.clips else "there is no clip"


def _reports(indexed: DatasetIndex) -> str | None:
    names = [clip.id for clip in indexed.clips], [report.clip for report in indexed.reports]
    return None if names[0] == names[1] else f"clips are {names[0]}, reports {names[1]}"


def _repeats(indexed: DatasetIndex, again: DatasetIndex) -> str | None:
    if again.clips != indexed.clips or again.as_json() != indexed.as_json():
        return "it has other clips, or another report"
    if again.labels.keys() != indexed.labels.keys():
        return "it has labels of other clips"
    for clip, labels in indexed.labels.items():
        pairs = zip(astuple(labels), astuple(again.labels[clip]), strict=True)
        if not all(np.array_equal(one, other) for one, other in pairs):
            return f"the labels of {clip} are others"
    return None


def _files(config: DatasetConfig, indexed: DatasetIndex, path: Path) -> str | None:
    try:
        write_index(path, indexed, config)
        manifest = read_manifest(path)
    except InputError as error:
        return str(error)
    for clip in manifest.clips:
        written = {name: getattr(clip, name) for name in PATH_FIELDS}
        if not (clip.video or clip.frames or clip.audio):
            return f"{clip.id} has neither video, frames nor audio"
        for name, file in written.items():
            if file and not manifest.path(file).exists():
                return f"{clip.id}: {name} = {file!r} does not exist"
    return None


def _labels(path: Path) -> str | None:
    manifest = read_manifest(path)
    for clip in manifest.clips:
        try:
            if clip.labels and read_labels(manifest.path(clip.labels)).valid.any():
                return None
        except InputError as error:
            return str(error)
    return "no clip has a row that is annotated"


def _empty(config: DatasetConfig, folder: Path) -> str | None:
    empty = folder / "empty"
    empty.mkdir()
    try:
        config.model_copy(update={"root": empty}).index(folder)
    except InputError as error:
        return None if str(empty) in str(error) else f"the message does not name it: {error}"
    except Exception as error:
        return f"it raises {type(error).__name__} ({error})"
    return "it is indexed"
