"""Aff-Wild2: finds annotations, videos and crops in the folders of any release."""

import os
import re
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from features.clip import Clip, Split
from features.config_errors import describe
from features.datasets.base import ClipReport, DatasetConfig, DatasetIndex
from features.errors import InputError, MediaError
from features.manifest.labels import Labels, is_constant, read_labels
from features.media.crops import CROP_NAME, crop_files, is_system_file
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.media.video import Probe
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm"}
CHALLENGE = re.compile(r"VA_.*|Valence_Arousal_.*", re.IGNORECASE)  # folder of the task
SPLIT_FOLDERS: tuple[Split, ...] = ("train", "val", "test")  # prefixes of the names
SECOND_PERSON = re.compile(r"_(left|right)$")  # on annotation and crops, not on the video
SAMPLE_HEADER = "image_location,valence,arousal"
ALIGNED = "cropped_aligned"
ORIGINAL_CLIPS = {"train": 356, "val": 76, "test": 162}
Item = TypeVar("Item")


class AffWild2Config(DatasetConfig):
    """Aff-Wild2, or a data set with the same files."""

    kind: Literal["affwild2"] = "affwild2"
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH
    """Maximum difference of rows and frames; a clip with a larger one is left out."""

    def index(self, base: Path) -> DatasetIndex:
        """Return the clips with paths relative to `base`, as `DatasetConfig.index` says."""
        root, base = self.root.resolve(), base.resolve()
        if not root.is_dir():
            raise InputError(f"there is no folder {self.root}; give the one that holds Aff-Wild2")
        if not root.is_relative_to(base):
            raise InputError(
                f"the manifest must be in {root} or a folder above it, because its paths are "
                f"relative; {base} is neither"
            )
        scan = _scan_folder(root)
        if not scan.annotations and not scan.test_rows:
            raise InputError(
                f"{self.root} holds no annotation: expected text files below a folder such as "
                "VA_Estimation_Challenge/Train_Set"
            )
        return _index_clips(scan, base, self.max_length_mismatch)


@dataclass(frozen=True, slots=True)
class _FolderScan:
    """The files of a data set by name, without the extension."""

    annotations: dict[str, tuple[Split, Path]]
    videos: dict[str, Path]
    crops: dict[str, Path]
    test_rows: dict[str, int]
    """Rows of each clip in the sample submission."""
    notes: tuple[str, ...]


def _scan_folder(root: Path) -> _FolderScan:
    annotations: dict[str, list[tuple[Split, Path]]] = defaultdict(list)
    videos: dict[str, list[Path]] = defaultdict(list)
    crops: dict[str, list[Path]] = defaultdict(list)
    test_rows: dict[str, int] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_system_file(name))
        parent = Path(folder)
        split = _split_of(parent)
        if any(CROP_NAME.fullmatch(name) for name in names):
            crops[parent.name].append(parent)
            continue
        for name in sorted(names):
            path = parent / name
            if is_system_file(name):
                continue
            if path.suffix.lower() in VIDEO_SUFFIXES:
                videos[path.stem].append(path)
            elif path.suffix.lower() == ".txt" and split:
                annotations[path.stem].append((split, path))
            elif path.suffix.lower() == ".txt":
                test_rows |= _sample_rows(path)
    notes: list[str] = []
    return _FolderScan(
        {name: _first_of(name, paths, notes) for name, paths in annotations.items()},
        {name: _first_of(name, paths, notes) for name, paths in videos.items()},
        {name: _first_of(name, sorted(paths, key=_rank), notes) for name, paths in crops.items()},
        test_rows,
        tuple(notes),
    )


def _split_of(folder: Path) -> Split | None:
    """Return the split of a folder of annotations; None for any other folder."""
    if not CHALLENGE.fullmatch(folder.parent.name):
        return None
    return next((s for s in SPLIT_FOLDERS if folder.name.lower().startswith(s)), None)


def _rank(folder: Path) -> tuple[bool, str]:
    """Return the sort key of a crop folder: aligned crops come first."""
    return not any(part.startswith(ALIGNED) for part in folder.parts), str(folder)


def _first_of(name: str, items: list[Item], notes: list[str]) -> Item:
    """Return the first of the items with one name; if there are others, add a note."""
    if len(items) > 1:
        notes.append(f"{name} exists {len(items)} times; {items[0]} is used")
    return items[0]


def _sample_rows(path: Path) -> dict[str, int]:
    """Return the rows per clip of a sample submission; nothing for another file."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        if next(lines, "").strip().lower() != SAMPLE_HEADER:
            return {}
        counts: dict[str, int] = defaultdict(int)
        for line in lines:
            if "/" in line:
                counts[line.split("/", 1)[0]] += 1
        return dict(counts)


def _index_clips(scan: _FolderScan, base: Path, max_length_mismatch: int) -> DatasetIndex:
    """Return a clip for each annotation and each test name, or the reason to leave it out."""
    clips: list[Clip] = []
    reports: list[ClipReport] = []
    left_out: dict[str, str] = {}
    notes = list(scan.notes)
    splits: dict[str, Split] = dict.fromkeys(scan.test_rows, "test")
    splits |= {name: split for name, (split, _) in scan.annotations.items()}
    with closing(
        Decoder(DEFAULT_LIMITS)
    ) as decoder:  # in its own process, since containers are not trusted
        for name, split in sorted(splits.items()):
            try:
                clip, report = _clip(name, split, scan, base, max_length_mismatch, notes, decoder)
            except ValidationError as error:
                left_out[name] = describe(error, Clip)
            except (InputError, MediaError) as error:
                left_out[name] = str(error)
            else:
                clips.append(clip)
                reports.append(report)
    annotated_videos = {_video_name(name, scan.videos) for name in splits}
    notes += [
        f"video without annotation: {n}" for n in sorted(scan.videos.keys() - annotated_videos)
    ]
    notes += [
        f"crop folder without annotation: {n}" for n in sorted(scan.crops.keys() - splits.keys())
    ]
    return DatasetIndex(tuple(clips), tuple(reports), left_out, tuple(notes), ORIGINAL_CLIPS)


def _video_name(name: str, videos: dict[str, Path]) -> str:
    """Return the name of a clip's video: without `_left` or `_right`, unless it has one itself."""
    return name if name in videos else SECOND_PERSON.sub("", name)


def _clip(
    name: str,
    split: Split,
    scan: _FolderScan,
    base: Path,
    max_length_mismatch: int,
    notes: list[str],
    decoder: Decoder,
) -> tuple[Clip, ClipReport]:
    """Return one clip and its report; the message of an error is the reason to leave it out."""
    subject = _video_name(name, scan.videos)
    video, crops = scan.videos.get(subject), scan.crops.get(name)
    if video is None:
        raise InputError("it is annotated, but its video is missing")
    probe = decoder.probe(video)
    path = scan.annotations[name][1] if name in scan.annotations else None
    labels = read_labels(path) if path else None
    if labels is not None and split == "test":
        notes.append(f"{name}: labels of a test clip are placeholders and are ignored")
        labels, path = None, None
    elif labels is not None and is_constant(labels):
        notes.append(f"{name}: every row has the same label; is it a placeholder?")
    report = _report(name, split, labels, scan.test_rows.get(name, 0), probe, crops)
    if report.n_rows and abs(report.difference) > max_length_mismatch:
        raise InputError(
            f"{report.n_rows} rows, but {report.n_frames} frames ({report.difference:+d}); at most "
            f"{max_length_mismatch} apart are accepted: is this the video that was annotated? "
            "Allow more with --max-length-mismatch N, here, and with max_length_mismatch=N of "
            "the stages"
        )
    if crops is None:
        notes.append(f"{name}: no crops; whole frames are encoded")
    clip = Clip(
        id=name,
        video=_relative(video, base),
        frames=_relative(crops, base) if crops else None,
        labels=_relative(path, base) if path else None,
        split=split,
        subject=subject,
        fps=probe.mean_fps or None,
    )
    return clip, report


def _report(
    name: str,
    split: Split,
    labels: Labels | None,
    n_sample_rows: int,
    probe: Probe,
    crops: Path | None,
) -> ClipReport:
    numbers = set(crop_files(crops)) if crops else set()
    annotated = [k for k, valid in enumerate(labels.valid, 1) if valid] if labels else []
    return ClipReport(
        clip=name,
        split=split,
        n_rows=len(labels.valid) if labels else n_sample_rows,
        n_annotated=len(annotated),
        n_frames=probe.n_frames,
        n_crops=len(numbers),
        n_annotated_without_crop=sum(k not in numbers for k in annotated) if crops else 0,
        fps=probe.mean_fps,
        variable_rate=probe.variable_rate,
        has_sound=probe.has_audio,
    )


def _relative(path: Path, base: Path) -> str:
    return path.resolve().relative_to(base).as_posix()
