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
from features.manifest.labels import is_constant, read_labels
from features.media.crops import CROP_NAME, crop_files, is_system_file
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
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
        self.manifest_path(root, base)
        scan = _scan_folder(root)
        if not scan.annotations and not scan.test_rows:
            raise InputError(
                f"{self.root} holds no annotation: expected text files below a folder such as "
                "VA_Estimation_Challenge/Train_Set"
            )
        with closing(Decoder(DEFAULT_LIMITS)) as decoder:  # containers are not trusted
            return _Indexer(self, scan, base, decoder).index()


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
        if any(CROP_NAME.fullmatch(name) for name in names):
            crops[parent.name].append(parent)
            continue
        for name in sorted(name for name in names if not is_system_file(name)):
            path = parent / name
            if path.suffix.lower() in VIDEO_SUFFIXES:
                videos[path.stem].append(path)
            elif path.suffix.lower() == ".txt":
                if split := _split_of(parent):
                    annotations[path.stem].append((split, path))
                else:
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


@dataclass(frozen=True, slots=True)
class _Indexer:
    """Makes a clip of each annotation and of each name in the sample submission."""

    config: AffWild2Config
    scan: _FolderScan
    base: Path
    decoder: Decoder

    def index(self) -> DatasetIndex:
        clips: list[Clip] = []
        reports: list[ClipReport] = []
        left_out: dict[str, str] = {}
        scan, notes = self.scan, list(self.scan.notes)
        splits: dict[str, Split] = dict.fromkeys(scan.test_rows, "test")
        splits |= {name: split for name, (split, _) in scan.annotations.items()}
        for name, split in sorted(splits.items()):
            try:
                clip, report = self._clip(name, split, notes)
            except ValidationError as error:
                left_out[name] = describe(error, Clip)
            except (InputError, MediaError) as error:
                left_out[name] = str(error)
            else:
                clips.append(clip)
                reports.append(report)
        videos = scan.videos.keys() - {self._video_name(name) for name in splits}
        notes += [f"video without annotation: {name}" for name in sorted(videos)]
        crops = sorted(scan.crops.keys() - splits.keys())
        notes += [f"crop folder without annotation: {name}" for name in crops]
        return DatasetIndex(tuple(clips), tuple(reports), left_out, tuple(notes), ORIGINAL_CLIPS)

    def _video_name(self, name: str) -> str:
        """Return the name of a clip's video: without `_left` or `_right`, unless it has one."""
        return name if name in self.scan.videos else SECOND_PERSON.sub("", name)

    def _clip(self, name: str, split: Split, notes: list[str]) -> tuple[Clip, ClipReport]:
        """Return one clip and its report; the message of an error is the reason to leave it out."""
        scan, subject = self.scan, self._video_name(name)
        video, crops = scan.videos.get(subject), scan.crops.get(name)
        if video is None:
            raise InputError("it is annotated, but its video is missing")
        probe = self.decoder.probe(video)
        path = scan.annotations[name][1] if name in scan.annotations else None
        labels = read_labels(path) if path else None
        if labels is not None and split == "test":
            notes.append(f"{name}: labels of a test clip are placeholders and are ignored")
            labels, path = None, None
        elif labels is not None and is_constant(labels):
            notes.append(f"{name}: every row has the same label; is it a placeholder?")
        numbers = set(crop_files(crops)) if crops else set()
        annotated = [k for k, valid in enumerate(labels.valid, 1) if valid] if labels else []
        report = ClipReport(
            clip=name,
            split=split,
            n_rows=len(labels.valid) if labels else scan.test_rows.get(name, 0),
            n_annotated=len(annotated),
            n_frames=probe.n_frames,
            n_crops=len(numbers),
            n_annotated_without_crop=sum(k not in numbers for k in annotated) if crops else 0,
            fps=probe.mean_fps,
            variable_rate=probe.variable_rate,
            has_sound=probe.has_audio,
        )
        allowed = self.config.max_length_mismatch
        if report.n_rows and abs(report.difference) > allowed:
            raise InputError(
                f"{report.n_rows} rows, but {report.n_frames} frames ({report.difference:+d}); at "
                f"most {allowed} apart are accepted: is this the video that was "
                "annotated? Allow more with --max-length-mismatch N, here, and with "
                "max_length_mismatch=N of the stages"
            )
        if crops is None:
            notes.append(f"{name}: no crops; whole frames are encoded")
        clip = Clip(
            id=name,
            video=self._relative(video),
            frames=self._relative(crops),
            labels=self._relative(path),
            split=split,
            subject=subject,
            fps=probe.mean_fps or None,
        )
        return clip, report

    def _relative(self, path: Path | None) -> str | None:
        return self.config.manifest_path(path, self.base) if path else None
