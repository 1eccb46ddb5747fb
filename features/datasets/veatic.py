"""VEATIC: films and home videos with ratings of one person, a row per frame.

Ren et al., "VEATIC: Video-based Emotion and Affect Tracking in Context Dataset", WACV 2024.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from features.clip import Split
from features.datasets.base import DatasetConfig, DatasetIndex
from features.datasets.entries import (
    VIDEO_SUFFIXES,
    Entry,
    draw_splits,
    find_media,
    index_entries,
)
from features.errors import InputError
from features.manifest.labels import Labels
from features.timeline import MAX_LENGTH_MISMATCH

RATINGS = "rating_averaged"
VIDEO_FOLDERS = ("videos", "video")  # of the archive, and of the authors' code
RATING = re.compile(r"(\d+)_(valence|arousal)\.csv")
TRAIN_SHARE = 0.7  # of each video, from its start, in the official split
FIRST_PAIRED = 98  # from here on, 2k and 2k + 1 are the same frames with another person rated
N_CLIPS = 124


class VeaticConfig(DatasetConfig):
    """VEATIC, with the split of its authors or with one by video."""

    kind: Literal["veatic"] = "veatic"
    split: Literal["official", "video"] = "official"
    """official: the first 70 % of each video are trained on, so the people and scenes of a score
    are known from the training. video: whole videos are drawn."""
    held_out: Literal["val", "test"] = "val"
    """The split of the other 30 % of each video, or of the videos that are drawn."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The share of videos that is drawn, with split=video."""
    seed: int = 0
    """The seed of the draw."""

    def index(self, base: Path) -> DatasetIndex:
        """Return the clips; in the official split, a clip per part of a video."""
        ratings = _find_ratings(self.root)
        folder = next((f for name in VIDEO_FOLDERS if (f := self.root / name).is_dir()), None)
        if folder is None:
            raise InputError(
                f"{self.root} has no folder {' or '.join(VIDEO_FOLDERS)} beside {RATINGS}: is it "
                "an edition of frames only? the videos are needed"
            )
        videos = find_media(folder, VIDEO_SUFFIXES)
        notes = [f"{len(ratings)} of the {N_CLIPS} videos of the whole data set have ratings"]
        notes += [f"video without ratings: {name}" for name in sorted(videos.keys() - ratings)]
        subjects = {name: _subject(int(name)) for name in ratings}
        paired = sorted(name for name in ratings if subjects[name] != f"video-{name}")
        if paired:
            notes.append(
                f"{len(paired)} clips from {FIRST_PAIRED} on are pairs of the same frames with "
                "another person rated: a pair has one subject; say who is meant with `person`"
            )
        parts: dict[str, tuple[str, Split, tuple[float, float]]] = {}
        if self.split == "official":
            notes.append("the official split has every video in both splits: its scores are high")
            for name in ratings:
                parts[f"{name}-train"] = name, "train", (0.0, TRAIN_SHARE)
                parts[f"{name}-{self.held_out}"] = name, self.held_out, (TRAIN_SHARE, 1.0)
        else:
            drawn = draw_splits(list(subjects.values()), self.held_out_share, 0.0, self.seed)
            for name in ratings:
                split = drawn[subjects[name]]
                parts[name] = name, self.held_out if split == "val" else split, (0.0, 1.0)
        files = {name: videos.get(name, folder / f"{name}.mp4") for name in ratings}
        entries = {
            clip: partial(_entry, self.root / RATINGS, name, files[name], split, span)
            for clip, (name, split, span) in parts.items()
        }
        indexed = index_entries(self, base, entries, notes)
        return replace(indexed, notes=(*indexed.notes, *_uneven_pairs(indexed)))


def _find_ratings(root: Path) -> list[str]:
    """Return the ids with ratings, in the order of their numbers."""
    folder = root / RATINGS
    if not folder.is_dir():
        raise InputError(
            f"{root} has no folder {RATINGS}; give the one that holds it beside the videos"
        )
    found = {match[1] for path in folder.iterdir() if (match := RATING.fullmatch(path.name))}
    if not found:
        raise InputError(
            f"{folder} holds no file such as 0_valence.csv and 0_arousal.csv: is it another "
            "edition, such as one with a file per rater? the averaged ratings are needed"
        )
    return sorted(found, key=int)


def _subject(number: int) -> str:
    if number < FIRST_PAIRED:
        return f"video-{number}"
    return f"videos-{number // 2 * 2}-{number // 2 * 2 + 1}"


def _uneven_pairs(indexed: DatasetIndex) -> Iterator[str]:
    """Yield a note on each pair whose videos differ in length."""
    frames: dict[str, dict[str, int]] = defaultdict(dict)
    for clip, report in zip(indexed.clips, indexed.reports, strict=True):
        frames[clip.subject or ""][clip.video or ""] = report.n_frames
    for subject, by_video in frames.items():
        counts = list(by_video.values())
        if max(counts) - min(counts) > MAX_LENGTH_MISMATCH:
            yield (
                f"{subject} are taken for a pair, but have {' and '.join(map(str, counts))} "
                "frames: check that they show the same"
            )


def _entry(folder: Path, name: str, video: Path, split: Split, span: tuple[float, float]) -> Entry:
    paths = [folder / f"{name}_{dimension}.csv" for dimension in ("valence", "arousal")]
    columns = [_read_column(path) for path in paths]
    valence, arousal = columns
    if len(valence) != len(arousal):
        raise InputError(
            f"{paths[0]} has {len(valence)} rows and {paths[1].name} {len(arousal)}; both have one "
            "per frame: get the files again"
        )
    start, end = (int(share * len(valence)) for share in span)
    rows = np.arange(len(valence))
    valid = (rows >= start) & (rows < end)
    va = np.where(valid[:, None], np.stack(columns, axis=1), 0.0)
    return Entry(video, Labels(va, valid), split, _subject(int(name)))


def _read_column(path: Path) -> Float64[np.ndarray, "N"]:
    """Return the last column of a file without header, within [-1, 1]."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); both ratings are needed") from None
    values: list[float] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values.append(float(line.split(",")[-1]))
        except ValueError:
            raise InputError(
                f"{path}, line {number}: {line[:60]!r} does not end with a number"
            ) from None
        if not -1 <= values[-1] <= 1:
            raise InputError(
                f"{path}, line {number}: {values[-1]:g} is outside [-1, 1], the range of VEATIC: "
                "is it another edition?"
            )
    if not values:
        raise InputError(f"{path} has no row")
    return np.array(values)
