"""The index of a data set's clips, from an entry for each: the part that data sets share."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import BeforeValidator, Field, ValidationError

from features.clip import Clip, Split
from features.config_errors import describe
from features.datasets.base import ClipReport, DatasetConfig, DatasetIndex, LabelClock
from features.datasets.images import FaceCrops
from features.errors import InputError, MediaError, list_names
from features.manifest.labels import NOT_NEGATIVE, ROUNDING_S, Labels, is_constant
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.media.video import Probe
from features.timeline import MAX_LENGTH_MISMATCH

VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mkv", ".mov", ".webm"))
AUDIO_SUFFIXES = frozenset((".wav", ".mp3", ".flac", ".m4a", ".ogg", ".aac", ".opus"))
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""The names that data sets have for a split, in lower case."""
LATE_S, LATE_SHARE = 2.0, 0.1  # that labels may go on after the video, as players and tools do
NO_VIDEO = Probe(0, 0.0, False, True)  # a file of sound
NO_SPLIT = "the data set has no split, which training needs; give val_share=0.2"


def _check_scale(scale: object) -> object:
    match scale:
        case (int() | float() as low, int() | float() as high) if low < high:
            return scale
    raise ValueError("a scale is [LOW,HIGH] with LOW < HIGH, such as [1,7]")


Scale = Annotated[tuple[float, float], BeforeValidator(_check_scale)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, slots=True)
class Entry:
    """The files, labels and split of one clip in a data set."""

    media: Path | Mapping[int, Path]
    """A file of video, or of sound; or the image of each frame, by its number from 1."""
    labels: Callable[[Probe], Labels] | Labels | None
    """Or what makes them when the frames of the video are known."""
    split: Split | None = None
    subject: str | None = None
    fps: float = 0.0
    """The frame rate, which only images need."""
    crops: FaceCrops | None = None
    """How images are cut to their faces; None: they are used as they are."""

    @property
    def numbers(self) -> Set[int]:
        """The numbers of the frames of which there is an image, and a face if it is cut out."""
        images = set() if isinstance(self.media, Path) else {*self.media}
        return images & {*self.crops.landmarks_px} if self.crops else images


class DrawnSplitsConfig(DatasetConfig):
    """The settings of a data set whose splits may be drawn."""

    val_share: Share = 0.0
    """The share of subjects that is drawn for val, if the data set has no split. A subject is what
    stays in one split: a person, or a recording if the person is not known."""
    test_share: Share = 0.0
    """Likewise, for test."""
    seed: int = 0
    """The seed of the draw."""

    @property
    def has_shares(self) -> bool:
        """Whether splits are to be drawn."""
        return bool(self.val_share or self.test_share)

    def draw(self, subjects: Sequence[str]) -> dict[str, Split]:
        """Return the split of each subject; raises as `draw_splits` does."""
        return draw_splits(subjects, self.val_share, self.test_share, self.seed)


def index_entries(
    config: DatasetConfig,
    base: Path,
    entries: Mapping[str, Callable[[], Entry]],
    notes: Sequence[str] = (),
    expected_clips: Mapping[str, int] | None = None,
) -> DatasetIndex:
    """Return the index of the entries; one that raises an error of input or media is left out."""
    clips: list[Clip] = []
    reports: list[ClipReport] = []
    labels: dict[str, Labels] = {}
    images: dict[str, Mapping[int, Path]] = {}
    crops: dict[str, FaceCrops] = {}
    left_out: dict[str, str] = {}
    found = list(notes)
    with closing(Decoder(DEFAULT_LIMITS)) as decoder:  # containers are not trusted
        for name, read in entries.items():
            try:
                entry = read()
                probe = _probe(entry, decoder)
                item = entry.labels(probe) if callable(entry.labels) else entry.labels
                report = _report(name, entry, item, probe)
                clip = _clip(config, base, name, entry, probe)
            except ValidationError as error:
                left_out[name] = describe(error, Clip)
            except (InputError, MediaError) as error:
                left_out[name] = str(error)
            else:
                clips.append(clip)
                reports.append(report)
                if not isinstance(entry.media, Path):
                    images[name] = entry.media
                if entry.crops:
                    crops[name] = entry.crops
                if item is not None:
                    labels[name] = item
                    if is_constant(item):
                        found.append(f"{name}: every row has the same label; is it a placeholder?")
    expected = dict(expected_clips or {})
    return DatasetIndex(
        tuple(clips), tuple(reports), left_out, tuple(found), expected, labels, images, crops
    )


def find_media(folder: Path, suffixes: frozenset[str] = MEDIA_SUFFIXES) -> dict[str, Path]:
    """Return the media below a folder by name without suffix.

    Raises `InputError` if there is no such folder, or if two files have one name.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give the one that holds the media")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(
                f"{found[path.stem]} and {path} have one name, {path.stem!r}: which one is meant? "
                "give the folder of one of them, or name media by their paths"
            )
        found[path.stem] = path
    return found


def to_unit_range(
    values: Float64[np.ndarray, "N"],
    scale: tuple[float, float],
    name_of: Callable[[int], str],
    remedy: str,
) -> Float64[np.ndarray, "N"]:
    """Return values on a scale mapped to [-1, 1]; NaN stays.

    Raises `InputError` for the first value outside, which `name_of` names by its index.
    """
    low, high = scale
    if len(outside := np.flatnonzero((values < low) | (values > high))):
        k = int(outside[0])
        raise InputError(
            f"{name_of(k)} = {values[k]:g} is outside its scale from {low:g} to {high:g}; if that "
            f"is not the range of the values, {remedy}; if there are two scales in one file, "
            "bring them to one"
        )
    return values if (low, high) == (-1, 1) else 2 * (values - low) / (high - low) - 1


def check_subjects(splits: Mapping[str, tuple[str, Split]], file: Path) -> None:
    """Raise `InputError` if a subject is in two splits; `splits` has both by clip."""
    clips: dict[str, dict[Split, str]] = defaultdict(dict)
    for clip, (subject, split) in splits.items():
        clips[subject].setdefault(split, clip)
    crossing = [subject for subject, by_split in clips.items() if len(by_split) > 1]
    if crossing:
        (one, a), (other, b) = list(clips[crossing[0]].items())[:2]
        raise InputError(
            f"{file}: subjects cross the splits ({list_names(crossing)}): "
            f"{crossing[0]!r} is in {one} with clip {a!r} and in {other} with clip {b!r}; a score "
            "on people of the training is too high: give each subject one split, have them drawn "
            "with columns.split=null val_share=0.2, or accept it with subjects_cross=true"
        )


def draw_splits(
    subjects: Sequence[str], val_share: float, test_share: float, seed: int
) -> dict[str, Split]:
    """Return the split of each subject; the shares are of subjects, and at least one trains.

    Raises `InputError` if a share is given and there are too few subjects.
    """
    names = sorted(set(subjects))
    n_val = max(1, round(val_share * len(names))) if val_share else 0
    n_test = max(1, round(test_share * len(names))) if test_share else 0
    if n_val + n_test >= len(names):
        raise InputError(
            f"{len(names)} subject{'' if len(names) == 1 else 's'} cannot be drawn into {n_val} "
            f"for val, {n_test} for test and at least one for train; give smaller shares, or more "
            "subjects"
        )
    drawn = np.random.default_rng(seed).permutation(names).tolist()
    splits: dict[str, Split] = dict.fromkeys(drawn, "train")
    splits.update(dict.fromkeys(drawn[:n_val], "val"))
    splits.update(dict.fromkeys(drawn[n_val : n_val + n_test], "test"))
    return splits


def safe_id(name: str) -> str:
    """Return a name with the characters that an id may not have replaced by `_`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")


def _probe(entry: Entry, decoder: Decoder) -> Probe:
    media = entry.media
    if not isinstance(media, Path):
        if not media:
            raise InputError("it has no image")
        return Probe(max(media), entry.fps, False, False)
    if not media.is_file():
        what = "is a folder, not a file" if media.is_dir() else "does not exist"
        raise InputError(f"{media} {what}; name a file of video or sound")
    if media.suffix.lower() in AUDIO_SUFFIXES:
        return NO_VIDEO
    return decoder.probe(media)


def _clip(config: DatasetConfig, base: Path, name: str, entry: Entry, probe: Probe) -> Clip:
    media: dict[str, str] = {}
    if isinstance(entry.media, Path):
        kind = "audio" if entry.media.suffix.lower() in AUDIO_SUFFIXES else "video"
        media[kind] = config.manifest_path(entry.media, base)
    else:  # links to them are written with the manifest, and named in it
        for folder in {image.parent for image in entry.media.values()}:
            config.manifest_path(folder, base)
    return Clip.model_validate(
        {
            "id": name,
            **media,
            "split": entry.split,
            "subject": entry.subject,
            "fps": probe.mean_fps or None,
        }
    )


def _report(name: str, entry: Entry, labels: Labels | None, probe: Probe) -> ClipReport:
    """Return the report of a clip; raises `InputError` if labels and video cannot belong."""
    kind: LabelClock = "per frame" if labels else "none"
    if labels is not None and labels.time_s is not None:
        kind = "ratings" if labels.end_s is None else "spans"
        if labels.time_s[0] < -ROUNDING_S:
            raise InputError(f"its first time is {labels.time_s[0]:g} s, negative; {NOT_NEGATIVE}")
    images = entry.numbers
    annotated = np.flatnonzero(labels.valid) + 1 if images and labels else ()
    report = ClipReport(
        clip=name,
        split=entry.split,
        n_rows=len(labels.va) if labels else 0,
        n_annotated=int(labels.valid.sum()) if labels else 0,
        n_frames=probe.n_frames,
        n_crops=len(images),
        n_annotated_without_crop=sum(int(k) not in images for k in annotated),
        fps=probe.mean_fps,
        variable_rate=probe.variable_rate,
        has_sound=probe.has_audio,
        labels_are=kind,
    )
    if labels is None or not probe.n_frames:
        return report
    if abs(report.difference) > MAX_LENGTH_MISMATCH:
        raise InputError(
            f"{report.n_rows} rows, but {report.n_frames} frames ({report.difference:+d}); at most "
            f"{MAX_LENGTH_MISMATCH} apart are accepted: is this the video that was annotated?"
        )
    duration_s = probe.n_frames / probe.mean_fps if probe.mean_fps else np.inf
    if labels.time_s is not None:
        last_s = float(labels.time_s[-1])
        if last_s > duration_s + max(LATE_S, LATE_SHARE * duration_s):
            raise InputError(
                f"its last label is at {last_s:g} s, but the video lasts {duration_s:.6g} s: is "
                "this the video that was annotated? if times are in ms, give time_unit=ms"
            )
    return report
