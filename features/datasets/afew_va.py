"""AFEW-VA: clips of films as images, with integer labels of each frame in a file of JSON.

Kossaifi et al., "AFEW-VA database for valence and arousal estimation in-the-wild", Image and Vision
Computing 65, 2017.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from features.clip import Split
from features.datasets.base import DatasetIndex
from features.datasets.entries import NO_SPLIT, DrawnSplitsConfig, Entry, index_entries
from features.datasets.images import N_LANDMARKS, FaceCrops, Landmarks, five_of_68
from features.errors import InputError, one_line
from features.manifest.labels import VA, Labels
from features.media.alignment import AlignmentConfig

LABELS = re.compile(r"\d{3}\.json")
IMAGE = re.compile(r"(\d{5})\.(?:png|jpg)", re.IGNORECASE)
FRAME = re.compile(r"\d{5}")
LARGEST = 10  # values are integers from -10 to 10
N_CLIPS = 600


class AfewVaConfig(DrawnSplitsConfig):
    """AFEW-VA, with a split by actor."""

    kind: Literal["afew-va"] = "afew-va"
    fps: Annotated[float, Field(gt=0, le=1000)] = 25.0
    """The rate of the frames. It is assumed, because images have no times."""
    alignment: AlignmentConfig | None = AlignmentConfig()
    """How faces are cut out of the images, by the landmarks of the labels; null: whole images."""

    def index(self, base: Path) -> DatasetIndex:
        """Return the clips that have labels and images."""
        files = _find_labels(self.root)
        clips: dict[str, dict[str, Any] | InputError] = {}
        for name, path in files.items():
            try:
                clips[name] = _read_json(path)
            except InputError as error:
                clips[name] = error  # raised again as the reason to leave it out
        subjects = {name: _subject(name, clip) for name, clip in clips.items()}
        notes = [
            f"{len(files)} of the {N_CLIPS} clips of the whole data set have labels",
            f"frames have no times and are taken at {self.fps:g} a second",
            "faces are cut out by the landmarks of the labels"
            if self.alignment
            else "images are encoded whole: alignment is null",
        ]
        splits = self.draw([*subjects.values()]) if self.has_shares else {}
        if not splits:
            notes.append(NO_SPLIT)
        entries = {
            name: partial(
                self._entry, files[name], clip, subjects[name], splits.get(subjects[name])
            )
            for name, clip in clips.items()
        }
        return index_entries(self, base, entries, notes)

    def _entry(
        self, path: Path, clip: dict[str, Any] | InputError, subject: str, split: Split | None
    ) -> Entry:
        if isinstance(clip, InputError):
            raise clip
        images = {
            int(match[1]) + 1: image  # frames count from 0, crops from 1
            for image in sorted(path.parent.iterdir())
            if (match := IMAGE.fullmatch(image.name))
        }
        if not images:
            raise InputError(
                f"{path.parent} holds no image such as 00000.png; the images lie beside {path.name}"
            )
        labels = _labels(path, clip, max(images))
        if self.alignment is None:
            return Entry(images, labels, split, subject, self.fps)
        landmarks_px = {k: points for k, points in _landmarks(path, clip) if k in images}
        if not landmarks_px:
            raise InputError(
                f"{path} has no landmarks of a frame with an image, by which faces are cut out; "
                "give alignment=null to encode whole images"
            )
        last = max(landmarks_px)  # frames behind it have no crop to end with
        n_rows = len(labels.va) - (max(images) - last)
        labels = Labels(labels.va[:n_rows], labels.valid[:n_rows])
        images = {k: image for k, image in images.items() if k <= last}
        crops = FaceCrops(self.alignment, landmarks_px)
        return Entry(images, labels, split, subject, self.fps, crops)


def _find_labels(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.json")):
        if not LABELS.fullmatch(path.name):
            continue
        if path.stem in found:
            raise InputError(
                f"{found[path.stem]} and {path} are labels of one clip; remove one of the two"
            )
        found[path.stem] = path
    if not found:
        raise InputError(
            f"{root} holds no labels such as 01/001/001.json; give the folder in which the "
            "archives of AFEW-VA were unpacked"
        )
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        clip = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); get it again") from None
    frames = clip.get("frames") if isinstance(clip, dict) else None
    if not isinstance(frames, dict) or not frames:
        raise InputError(f'{path} has no labels; expected {{"frames": {{"00000": {{...}}}}}}')
    return clip


def _subject(name: str, clip: dict[str, Any] | InputError) -> str:
    """Return the actor of a clip, or the clip if the file does not name one."""
    actor = clip.get("actor") if isinstance(clip, dict) else None
    return actor if isinstance(actor, str) and actor else f"clip {name}"


def _labels(path: Path, clip: Mapping[str, Any], n_images: int) -> Labels:
    rows: dict[int, tuple[float, float]] = {}
    for name, frame in clip["frames"].items():
        if not FRAME.fullmatch(name):
            raise InputError(
                f"{path}: the frame {name!r} is no number of five digits such as '00000'; is it "
                "another edition?"
            )
        valence, arousal = (_value(path, name, frame, dimension) for dimension in VA)
        rows[int(name)] = valence, arousal
    n_rows = max(n_images, max(rows) + 1)
    va, valid = np.zeros((n_rows, 2)), np.zeros(n_rows, dtype=bool)
    va[list(rows)], valid[list(rows)] = list(rows.values()), True
    return Labels(va / LARGEST, valid)


def _landmarks(path: Path, clip: Mapping[str, Any]) -> Iterator[tuple[int, Landmarks]]:
    """Yield the landmarks of each frame that has them, by its number from 1."""
    for name, frame in clip["frames"].items():
        if not (given := frame.get("landmarks")):
            continue
        try:
            points = np.asarray(given, dtype=np.float32)
        except (TypeError, ValueError):
            points = np.zeros(0, np.float32)
        if points.shape != (N_LANDMARKS, 2):
            raise InputError(
                f"{path}, frame {name}: landmarks are not {N_LANDMARKS} points (x, y); is it "
                "another edition? alignment=null encodes whole images"
            )
        if (found := five_of_68(points)) is not None:
            yield int(name) + 1, found


def _value(path: Path, name: str, frame: Any, dimension: str) -> float:
    value = frame.get(dimension) if isinstance(frame, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(
            f"{path}, frame {name}: {dimension} = {value!r} is no number; a frame has both values"
        )
    if not float(value).is_integer() or abs(value) > LARGEST:
        raise InputError(
            f"{path}, frame {name}: {dimension} = {value:g}, but values are integers from "
            f"-{LARGEST} to {LARGEST}: is it an edition whose values are scaled already? then use "
            "the data set `table`"
        )
    return float(value)
