"""What a data set promises: a manifest of its clips, and a report of what was found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from features.canonical_json import JsonObject
from features.clip import Clip


class DatasetConfig(BaseModel):
    """Settings of a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    """The folder that holds it."""


@dataclass(frozen=True, slots=True)
class ClipReport:
    """What was found for one clip."""

    clip: str
    split: str | None
    n_rows: int
    """Rows of the annotation, or of the sample submission; 0 where there is neither."""
    n_annotated: int
    n_frames: int
    """Frames that the container lists."""
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
class Indexed:
    """The clips of a data set, with the report of found against expected."""

    clips: tuple[Clip, ...]
    reports: tuple[ClipReport, ...]
    left_out: dict[str, str]
    """Why each clip is not in the manifest."""
    notes: tuple[str, ...]
    """What is odd, but did no harm."""
    expected_clips: dict[str, int] = field(default_factory=dict)
    """Clips per split of the whole, original data set."""

    def as_json(self) -> JsonObject:
        """The whole report."""
        return {
            "splits": self._splits(),
            "totals": self._totals(),
            "clips": [{**asdict(r), "difference": r.difference} for r in self.reports],
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }

    def _splits(self) -> JsonObject:
        found = Counter(clip.split or "none" for clip in self.clips)
        names = list(dict.fromkeys([*self.expected_clips, *found]))
        return {
            name: {"clips": found[name], "clips_of_the_original": self.expected_clips.get(name)}
            for name in names
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


def render_index(indexed: Indexed) -> Sequence[str]:
    """The report for a person, line by line."""
    report = indexed.as_json()
    lines = ["found of expected:"]
    for name, counts in report["splits"].items():
        original = counts["clips_of_the_original"]
        of = f" (the whole data set has {original})" if original else ""
        lines.append(f"  {name}: {counts['clips']} clips{of}")
    for name, value in report["totals"].items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v}" for k, v in value.items())
        lines.append(f"  {name.replace('_', ' ')}: {value}")
    off = [r for r in indexed.reports if r.difference or r.variable_rate or not r.has_sound]
    if off:
        lines.append("clips that are not plain:")
    for r in off:
        lines.append(
            f"  {r.clip}: {r.n_rows} rows, {r.n_frames} frames ({r.difference:+d})"
            f"{', variable rate' if r.variable_rate else ''}{'' if r.has_sound else ', no sound'}"
        )
    lines += [f"note: {note}" for note in indexed.notes]
    lines += [f"left out: {clip}: {why}" for clip, why in indexed.left_out.items()]
    return lines
