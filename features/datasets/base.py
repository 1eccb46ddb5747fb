"""The interface of a data set, and the index of its clips."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from features.canonical_json import JsonObject
from features.clip import Clip


class DatasetConfig(BaseModel, ABC):
    """The settings of a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    """The folder of the data set."""

    @abstractmethod
    def index(self, base: Path) -> "DatasetIndex":
        """Return the clips of the data set, with paths relative to the folder `base`.

        A clip that cannot be used is left out with a reason. Raises `InputError` if the folder does
        not hold the data set.
        """


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

    @property
    def difference(self) -> int:
        """Rows minus frames."""
        return self.n_rows - self.n_frames


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
        differences = Counter(f"{report.difference:+d}" for report in self.reports)
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
        }


def render_index(indexed: DatasetIndex) -> Sequence[str]:
    """Return the lines of the report for a person."""
    report = indexed.as_json()
    lines = ["found of expected:"]
    for name, counts in report["splits"].items():
        original = counts["clips_of_the_original"]
        total = f" (the whole data set has {original})" if original else ""
        lines.append(f"  {name}: {counts['clips']} clips{total}")
    for name, value in report["totals"].items():
        if isinstance(value, dict):
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
