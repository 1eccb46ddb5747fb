"""The interface of a data set, and the index of its clips."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from features.canonical_json import JsonObject
from features.clip import MAX_LAG_S, Clip
from features.datasets.images import FaceCrops, write_images
from features.errors import InputError
from features.manifest.labels import Labels, write_labels
from features.manifest.manifest import is_below, write_manifest

LabelClock = Literal["per frame", "ratings", "spans", "none"]


class DatasetConfig(BaseModel, ABC):
    """The settings of a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    """The folder of the data set."""
    allow_outside: tuple[Path, ...] = ()
    """Folders outside the manifest's whose files the manifest may name, by absolute paths."""

    label_lag_s: Annotated[float, Field(ge=0, le=MAX_LAG_S)] = 0.0
    """Seconds by which the raters lag, for all clips; raters need 1 to 6 s."""

    @abstractmethod
    def index(self, base: Path) -> "DatasetIndex":
        """Return the clips of the data set, with paths relative to the folder `base`.

        A clip that cannot be used is left out with a reason. Raises `InputError` if the folder does
        not hold the data set.
        """

    def manifest_path(self, path: Path, base: Path) -> str:
        """Return a path as a manifest in `base` names it; `InputError` if it may not name it.

        A link is named as it is, unless only what it points to is allowed.
        """
        for found in (Path(os.path.abspath(path)), path.resolve()):
            for folder in (Path(os.path.abspath(base)), base.resolve()):
                if found.is_relative_to(folder):
                    return found.relative_to(folder).as_posix()
            if is_below(str(found), allowed_folders(self.allow_outside)):
                return str(found)
        raise InputError(
            f"the manifest must be in {path if path.is_dir() else path.parent} or a folder above "
            f"it to name {path}, because its paths are relative to its folder; {base.resolve()} is "
            "neither; write it there, or allow the manifest to name absolute paths below a folder "
            "with --allow-outside ROOT"
        )


@dataclass(frozen=True, slots=True)
class ClipReport:
    """Counts of one clip."""

    clip: str
    split: str | None
    n_rows: int
    """Rows of the annotation, or else of the sample submission; 0 without either."""
    n_annotated: int
    n_frames: int
    """Frames according to the container."""
    n_crops: int
    n_annotated_without_crop: int
    fps: float
    variable_rate: bool
    has_sound: bool
    labels_are: LabelClock = "per frame"

    @property
    def difference(self) -> int:
        """Rows minus frames; 0 without labels, and for labels with times of their own."""
        return self.n_rows - self.n_frames if self.labels_are == "per frame" else 0


@dataclass(frozen=True, slots=True)
class DatasetIndex:
    """The clips of a data set, and a report on them."""

    clips: tuple[Clip, ...]
    reports: tuple[ClipReport, ...]
    left_out: dict[str, str]
    """Clips that are not in the manifest, with the reason."""
    notes: tuple[str, ...]
    """Remarks on clips and files; no clip is left out because of them."""
    expected_clips: dict[str, int] = field(default_factory=dict)
    """Number of clips in each split of the complete data set."""
    labels: dict[str, Labels] = field(default_factory=dict)
    """Labels by clip, for data sets whose own files are not label files of a manifest."""
    images: dict[str, Mapping[int, Path]] = field(default_factory=dict)
    """Images by clip and number of the frame, from 1, for data sets without videos."""
    crops: dict[str, FaceCrops] = field(default_factory=dict)
    """How the images of a clip are cut to their faces; those of others are used as they are."""

    def as_json(self) -> JsonObject:
        """Return the report as `index --json` prints it."""
        counts, expected = Counter(clip.split or "none" for clip in self.clips), self.expected_clips
        return {
            "splits": {
                name: {"clips": counts[name], "clips_of_the_original": expected.get(name)}
                for name in dict.fromkeys([*expected, *counts])
            },
            "totals": self._totals(),
            "clips": [{**asdict(r), "difference": r.difference} for r in self.reports],
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }

    def _totals(self) -> JsonObject:
        def total(name: str) -> int:
            return sum(getattr(report, name) for report in self.reports)

        rates = Counter(
            "variable" if report.variable_rate else f"{report.fps:.3f}".rstrip("0").rstrip(".")
            for report in self.reports
        )
        per_frame = [report for report in self.reports if report.labels_are == "per frame"]
        differences = Counter(f"{report.difference:+d}" for report in per_frame)
        clocks = Counter(report.labels_are for report in self.reports)
        by_clock = {} if clocks.keys() <= {"per frame"} else {"clips_by_labels": dict(clocks)}
        return {
            "clips": len(self.clips),
            "rows": total("n_rows"),
            "rows_annotated": total("n_annotated"),
            "frames": total("n_frames"),
            "crops": total("n_crops"),
            "rows_annotated_without_crop": total("n_annotated_without_crop"),
            "clips_without_sound": sum(not report.has_sound for report in self.reports),
            "clips_by_rows_minus_frames": dict(sorted(differences.items())),
            "clips_by_frame_rate": dict(sorted(rates.items())),
            **by_clock,
        }


def allowed_folders(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the folders as the first line of a manifest names them."""
    return tuple(os.path.abspath(folder) for folder in folders)


def write_index(output: Path, indexed: DatasetIndex, config: DatasetConfig) -> None:
    """Write the manifest, and beside it folders of labels and of images or their faces."""
    folder = output.with_name(f"{output.stem}.labels")
    if indexed.labels:
        folder.mkdir(parents=True, exist_ok=True)
    clips: list[Clip] = []
    for clip in indexed.clips:
        if clip.id in indexed.labels:
            path = folder / f"{clip.id}.csv"
            write_labels(path, indexed.labels[clip.id], decimals=None)
            clip = clip.model_copy(update={"labels": f"{folder.name}/{path.name}"})
        if clip.id in indexed.images:
            frames = output.with_name(f"{output.stem}.frames") / clip.id
            write_images(frames, indexed.images[clip.id], indexed.crops.get(clip.id))
            clip = clip.model_copy(update={"frames": f"{frames.parent.name}/{clip.id}"})
        if clip.labels:
            clip = clip.model_copy(update={"label_lag_s": config.label_lag_s})
        clips.append(clip)
    write_manifest(output, clips, allowed_folders(config.allow_outside))


def render_index(indexed: DatasetIndex) -> Sequence[str]:
    """Return the lines of the report for a person."""
    report = indexed.as_json()
    lines = ["found of expected:" if indexed.expected_clips else "found:"]
    for name, counts in report["splits"].items():
        original = counts["clips_of_the_original"]
        total = f" (the whole data set has {original})" if original else ""
        lines.append(f"  {name}: {counts['clips']} clips{total}")
    for name, value in report["totals"].items():
        if isinstance(value, dict):
            if not value:
                continue
            value = ", ".join(f"{k}: {v}" for k, v in value.items())
        lines.append(f"  {name.replace('_', ' ')}: {value}")
    unusual = [
        f"  {r.clip}: {r.n_rows} rows, {r.n_frames} frames ({r.difference:+d})"
        f"{', variable rate' if r.variable_rate else ''}{'' if r.has_sound else ', no sound'}"
        for r in indexed.reports
        if r.difference or r.variable_rate or not r.has_sound
    ]
    lines += ["unusual clips:", *unusual] if unusual else []
    lines += [f"note: {note}" for note in indexed.notes]
    lines += [f"left out: {clip}: {why}" for clip, why in indexed.left_out.items()]
    return lines
