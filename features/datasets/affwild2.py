"""Aff-Wild2 as it lies on disk: annotations, videos and crops, wherever a release put them."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from features.clip import Clip, Split
from features.config_errors import describe
from features.datasets.base import ClipReport, DatasetConfig, Indexed
from features.errors import InputError, MediaError
from features.manifest.labels import Labels, is_constant, read_labels
from features.media.crops import CROP_NAME, crop_files
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.media.video import Probe
from features.timeline import MAX_ROWS_APART, RowsApart

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm"}
CHALLENGE = re.compile(r"VA_.*|Valence_Arousal_.*", re.IGNORECASE)  # the folder of the task
SPLIT_FOLDERS: tuple[Split, ...] = ("train", "val", "test")  # how their names begin
SECOND_PERSON = re.compile(r"_(left|right)$")  # on annotation and crops, not on the video
SAMPLE_HEADER = "image_location,valence,arousal"
ALIGNED = "cropped_aligned"
ORIGINAL_CLIPS = {"train": 356, "val": 76, "test": 162}


class AffWild2Config(DatasetConfig):
    """Aff-Wild2, or a set in its shape."""

    kind: Literal["affwild2"] = "affwild2"
    max_rows_apart: RowsApart = MAX_ROWS_APART
    """How far rows and frames of a clip may be apart before it is left out."""

    def index(self, base: Path) -> Indexed:
        """The clips, with paths relative to `base`; `InputError` where there is nothing."""
        root, base = self.root.resolve(), base.resolve()
        if not root.is_dir():
            raise InputError(f"there is no folder {self.root}; give the one that holds Aff-Wild2")
        if not root.is_relative_to(base):
            raise InputError(
                f"the manifest must lie in {root} or in a folder above it, for its paths are "
                f"relative; {base} is neither"
            )
        found = _scan_folder(root)
        if not found.annotations and not found.test_rows:
            raise InputError(
                f"{self.root} holds no annotation: expected text files below a folder such as "
                "VA_Estimation_Challenge/Train_Set"
            )
        return _index_clips(found, base, self.max_rows_apart)


@dataclass(frozen=True, slots=True)
class _FolderScan:
    """What lies below the root, by name."""

    annotations: dict[str, tuple[Split, Path]]
    videos: dict[str, Path]
    crops: dict[str, Path]
    test_rows: dict[str, int]
    notes: tuple[str, ...]


def _scan_folder(root: Path) -> _FolderScan:
    """Look at every folder below the root once."""
    annotations: dict[str, list[tuple[Split, Path]]] = defaultdict(list)
    videos: dict[str, list[Path]] = defaultdict(list)
    crops: dict[str, list[Path]] = defaultdict(list)
    test_rows: dict[str, int] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        here = Path(folder)
        split = _split_of(here)
        if any(CROP_NAME.fullmatch(name) for name in names):
            crops[here.name].append(here)
            continue
        for name in sorted(names):
            path = here / name
            if name.startswith("."):
                continue
            if path.suffix.lower() in VIDEO_SUFFIXES:
                videos[path.stem].append(path)
            elif path.suffix.lower() == ".txt" and split:
                annotations[path.stem].append((split, path))
            elif path.suffix.lower() == ".txt":
                test_rows |= _sample_rows(path)
    notes: list[str] = []
    return _FolderScan(
        {name: _first_of(name, found, notes) for name, found in annotations.items()},
        {name: _first_of(name, found, notes) for name, found in videos.items()},
        {name: _first_of(name, sorted(found, key=_rank), notes) for name, found in crops.items()},
        test_rows,
        tuple(notes),
    )


def _split_of(folder: Path) -> Split | None:
    """The split that a folder of annotations belongs to, by its own name and its parent's."""
    if not CHALLENGE.fullmatch(folder.parent.name):
        return None
    return next((s for s in SPLIT_FOLDERS if folder.name.lower().startswith(s)), None)


def _rank(folder: Path) -> tuple[bool, str]:
    """Aligned crops before others of the same name."""
    return not any(part.startswith(ALIGNED) for part in folder.parts), str(folder)


def _first_of(name: str, found: list, notes: list[str]):
    """The first of the things of one name; the others are noted."""
    if len(found) > 1:
        notes.append(f"{name} is there {len(found)} times; {found[0]} is used")
    return found[0]


def _sample_rows(path: Path) -> dict[str, int]:
    """Rows per clip of a sample submission; nothing where the file is none."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        if next(lines, "").strip().lower() != SAMPLE_HEADER:
            return {}
        counts: dict[str, int] = defaultdict(int)
        for line in lines:
            if "/" in line:
                counts[line.split("/", 1)[0]] += 1
        return dict(counts)


def _index_clips(found: _FolderScan, base: Path, max_rows_apart: int) -> Indexed:
    """A clip for each annotation and each test name, or the reason why there is none."""
    clips: list[Clip] = []
    reports: list[ClipReport] = []
    left_out: dict[str, str] = {}
    notes = list(found.notes)
    splits: dict[str, Split] = dict.fromkeys(found.test_rows, "test")
    splits |= {name: split for name, (split, _) in found.annotations.items()}
    with closing(Decoder(DEFAULT_LIMITS)) as decoder:  # containers are not trusted here either
        for name in sorted(splits):
            try:
                clip, report = _clip(
                    name, splits[name], found, base, max_rows_apart, notes, decoder
                )
            except ValidationError as error:
                left_out[name] = describe(error, Clip)
            except (InputError, MediaError) as error:
                left_out[name] = str(error)
            else:
                clips.append(clip)
                reports.append(report)
    notes += _unused("video", found.videos, {_media_name(n, found.videos) for n in splits})
    notes += _unused("crop folder", found.crops, set(splits))
    return Indexed(tuple(clips), tuple(reports), left_out, tuple(notes), ORIGINAL_CLIPS)


def _media_name(name: str, videos: dict[str, Path]) -> str:
    """The name of the video that shows a person: without `_left` or `_right`."""
    return name if name in videos else SECOND_PERSON.sub("", name)


def _unused(what: str, found: dict[str, Path], used: Iterable[str]) -> list[str]:
    unused = sorted(set(found) - set(used))
    return [f"{what} without annotation: {name}" for name in unused]


def _clip(
    name: str,
    split: Split,
    found: _FolderScan,
    base: Path,
    max_rows_apart: int,
    notes: list[str],
    decoder: Decoder,
) -> tuple[Clip, ClipReport]:
    """One clip and what was found for it; raises with the reason to leave it out."""
    video, crops = found.videos.get(_media_name(name, found.videos)), found.crops.get(name)
    if video is None:
        raise InputError("it is annotated, but its video is not there")
    listed = decoder.probe(video)
    labels, path = None, None
    if name in found.annotations:
        path = found.annotations[name][1]
        labels = read_labels(path)
    if labels is not None and split == "test":
        notes.append(f"{name}: labels of a test clip are placeholders and are left aside")
        labels, path = None, None
    elif labels is not None and is_constant(labels):
        notes.append(f"{name}: every row has the same label; is it a placeholder?")
    report = _report(name, split, labels, found.test_rows.get(name, 0), listed, crops)
    if report.n_rows and abs(report.difference) > max_rows_apart:
        raise InputError(
            f"{report.n_rows} rows, but {report.n_frames} frames ({report.difference:+d}); at most "
            f"{max_rows_apart} apart are accepted: is this the video that was annotated? Allow "
            "more with --max-rows-apart N, here, and with max_rows_apart=N of the stages"
        )
    if crops is None:
        notes.append(f"{name}: no crops; whole frames are encoded")
    clip = Clip(
        id=name,
        video=_inner(video, base),
        frames=_inner(crops, base) if crops else None,
        labels=_inner(path, base) if path else None,
        split=split,
        subject=_media_name(name, found.videos),
        fps=listed.mean_fps or None,
    )
    return clip, report


def _report(
    name: str,
    split: Split,
    labels: Labels | None,
    n_sample_rows: int,
    listed: Probe,
    crops: Path | None,
) -> ClipReport:
    numbers = set(crop_files(crops)) if crops else set()
    annotated = [k for k, valid in enumerate(labels.valid, 1) if valid] if labels else []
    return ClipReport(
        clip=name,
        split=split,
        n_rows=len(labels.valid) if labels else n_sample_rows,
        n_annotated=len(annotated),
        n_frames=listed.n_frames,
        n_crops=len(numbers),
        n_annotated_without_crop=sum(k not in numbers for k in annotated) if crops else 0,
        fps=listed.mean_fps,
        variable_rate=listed.variable_rate,
        has_sound=listed.has_audio,
    )


def _inner(path: Path, base: Path) -> str:
    return path.resolve().relative_to(base).as_posix()
