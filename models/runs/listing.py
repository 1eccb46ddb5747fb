"""The runs below a folder. Imports no torch."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from features.errors import InputError, list_names
from models.runs.folder import CONFIG, ENSEMBLE, HEAD_FILE, LAST, METRICS, PROVENANCE, TRAINING
from models.runs.listed_run import DIMENSIONS, ListedRun, ListedScore, read_listed

STORE_FILE = "zarr.json"  # of a folder of features, which holds no run
REPEAT = re.compile(r"(seed|draw)-\d+")
"""The folders of the trainings of one variant of a comparison."""


def list_runs(folder: Path, *, each_training: bool = False) -> tuple[ListedRun, ...]:
    """Return the runs in a folder and below it, by name.

    Trainings in folders `seed-K` or `draw-K` of one folder are one item, unless `each_training`.
    What cannot be read is an item, too. Links to folders are not followed. Raises `InputError` if
    there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}; give the one that holds your runs, as in "
            "`vaflow runs data/runs`"
        )
    found = []
    for path, fault in _run_folders(folder):
        name = _name(path, folder)
        found.append(_damaged(name, path, fault) if fault else read_listed(path, name))
    return tuple(found if each_training else _by_variant(found, folder))


def _name(path: Path, folder: Path) -> str:
    return folder.resolve().name if path == folder else str(path.relative_to(folder))


def find_run(path: Path) -> ListedRun:
    """Return the run in a folder, or the trainings of a variant in folders `seed-K` below it.

    Raises `InputError` if there is none, or it cannot be read.
    """
    found = list_runs(path)
    run = next((run for run in found if run.path == path), None)
    if run is None:
        below = f"; below it are {list_names([each.name for each in found])}" if found else ""
        raise InputError(f"{path} is not the folder of a run{below}; `vaflow runs` lists all")
    if run.state == "damaged":
        raise InputError(f"{path}: {run.note}")
    return run


def _run_folders(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders of runs with an empty text, and unreadable folders with the reason."""
    try:
        with os.scandir(folder) as entries:
            inside = {each.name: each.is_dir(follow_symlinks=False) for each in entries}
    except OSError as error:
        yield folder, f"the folder cannot be read: {error.strerror}"
        return
    if STORE_FILE in inside:
        return
    is_training = any((folder / TRAINING / name).is_file() for name in (METRICS, LAST))
    is_run = bool(inside.keys() & {HEAD_FILE, ENSEMBLE}) or inside.keys() >= {PROVENANCE, CONFIG}
    if is_run or is_training:
        yield folder, ""
    for name in sorted(name for name, is_dir in inside.items() if is_dir):
        if not name.startswith(".") and not (name == TRAINING and is_training):
            yield from _run_folders(folder / name)


def _damaged(name: str, path: Path, fault: str) -> ListedRun:
    return ListedRun(name=name, path=path, kind="run", state="damaged", note=fault)


def _by_variant(runs: Sequence[ListedRun], folder: Path) -> Iterator[ListedRun]:
    """Yield the runs, with those of one variant as one."""
    variants: dict[Path, list[ListedRun]] = {}
    for run in runs:
        is_repeat = run.kind == "run" and REPEAT.fullmatch(run.path.name)
        variants.setdefault(run.path.parent if is_repeat else run.path, []).append(run)
    for path, trainings in variants.items():
        is_variant = any(run.path != path for run in trainings)
        yield _variant(_name(path, folder), path, trainings) if is_variant else trainings[0]


def _variant(name: str, path: Path, trainings: Sequence[ListedRun]) -> ListedRun:
    finished = [run for run in trainings if run.state == "finished"]
    rest = [f"{run.path.name}: {run.note}" for run in trainings if run.state != "finished"]
    states = {run.state for run in trainings}
    shown = finished or trainings
    seconds = [run.seconds for run in shown if run.seconds is not None]
    first = shown[0]
    is_one_code = len({(run.code, run.git_commit) for run in shown}) == 1
    known = [run.settings for run in trainings if run.settings]
    return replace(
        first,
        name=name,
        path=path,
        kind="trainings",
        state=next(state for state in ("damaged", "unfinished", "finished") if state in states),
        note="; ".join(rest),
        score=_mean_score([run.score for run in shown if run.score]),
        trainings=tuple(run.path for run in finished),
        epochs=max(run.epochs or 0 for run in shown),
        seconds=sum(seconds) if len(seconds) == len(shown) else None,
        git_commit=first.git_commit if is_one_code else None,
        code=first.code if is_one_code else None,
        is_same_code=first.is_same_code if is_one_code else None,
        settings={
            key: value
            for key, value in (known[0] if known else {}).items()
            if all(settings.get(key) == value for settings in known)
        },
    )


def _mean_score(scores: Sequence[ListedScore]) -> ListedScore | None:
    """The mean over trainings, with its intervals over them."""
    if len(scores) < 2:
        return scores[0] if scores else None
    from models.metrics.intervals import interval_over_seeds  # imports numpy

    means: dict[str, float] = {}
    for name in DIMENSIONS:
        values = [float(getattr(score, name)) for score in scores]
        means[name] = sum(values) / len(values)
        if interval := interval_over_seeds(values):
            means |= interval.ends(name)
    return ListedScore("trainings", **means)
