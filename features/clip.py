"""Value types that stages exchange: a clip, the paths of its media, and a track of embeddings.

Axis letters in shapes (a file that uses others defines them):
    B  windows in a batch     T  steps in time      D  width of an embedding
    N  rows, points, items    L  tokens of a text   R  regions of the V/A plane
    C  channels   H, W  pixels   S  audio samples   M  mel bands
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from unicodedata import category

import numpy as np
from jaxtyping import Bool, Float16, Float32, Float64
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
RESERVED_IDS = ("zarr.json",)  # names of the feature store's own files
BLOCK = 1024  # rows
MAX_LAG_S = 60.0  # raters lag by 1 to 6 s (Mariooryad and Busso 2015): more is in other units

PATH_FIELDS = ("video", "frames", "labels", "audio")  # of a clip

Split = Literal["train", "val", "test"]


def _check_not_reserved(name: str) -> str:
    if name in RESERVED_IDS:
        raise ValueError(f"the id {name!r} is a name that the feature store uses itself")
    return name


def _id_from_number(name: Any) -> Any:
    return str(name) if isinstance(name, int) else name


def _check_path(path: str) -> str:
    if any(category(character) == "Cc" for character in path):
        raise ValueError(f"the path {path!r} has a control character; rename the file")
    try:
        path.encode(errors="surrogateescape")  # as file systems do: any bytes but NUL are a name
    except UnicodeEncodeError:
        raise ValueError(
            f"the path {path!r} has a character that no file name should have"
        ) from None
    if not path or ".." in path.split("/"):
        raise ValueError(
            f"the path {path!r} must be relative to the manifest's folder and stay inside it; "
            "write a path elsewhere as an absolute one"
        )
    return path


ClipId = Annotated[str, StringConstraints(pattern=ID_PATTERN), AfterValidator(_check_not_reserved)]
ClipIds = tuple[Annotated[ClipId, BeforeValidator(_id_from_number)], ...]
ClipPath = Annotated[str, AfterValidator(_check_path)]


class Clip(BaseModel):
    """One line of a manifest: one annotated person in one video.

    Paths are relative to the manifest's folder, or absolute and below a folder that the manifest
    allows. `frames` is a folder of face crops named
    `{k:05d}.jpg` (k from 1; crop k shows frame k). `audio` is null if the audio is a stream of the
    video; in a file of its own it starts together with the video's first frame, or
    `audio_offset_s` seconds later. `video_track` and `audio_track` choose among several tracks of
    a file, counted from 0 among those of their kind. `fps` is the constant rate that is used if the
    video's timestamps are unusable. `person` chooses among the people in a video without crops: 1,
    as null, is whose face covers the largest area over time. `label_lag_s` is how much later
    the labels are than what they rate, because raters need time to react.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ClipId
    video: ClipPath | None = None
    frames: ClipPath | None = None
    labels: ClipPath | None = None
    split: Split | None = None
    subject: Annotated[str, Field(min_length=1)] | None = None
    audio: ClipPath | None = None
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    video_track: Annotated[int, Field(ge=0)] | None = None
    audio_track: Annotated[int, Field(ge=0)] | None = None
    audio_offset_s: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    person: Annotated[int, Field(ge=1)] | None = None
    label_lag_s: Annotated[float, Field(ge=0, le=MAX_LAG_S)] = 0.0


@dataclass(frozen=True, slots=True)
class Source:
    """The media of one clip on this machine; labels are not part of it, since they may change."""

    clip_id: str
    video: Path | None
    frames: Path | None
    audio: Path | None
    fps: float | None
    video_track: int | None = None
    audio_track: int | None = None
    audio_offset_s: float = 0.0
    person: int | None = None
    read_faces: "Callable[[str], Track] | None" = field(default=None, compare=False)
    """Returns the clip's record in a feature set of faces; raises `MediaError` if it has none."""


@dataclass(frozen=True, slots=True)
class Track:
    """One modality of one clip: embeddings with their times."""

    values: Float16[np.ndarray, "T D"] | Float32[np.ndarray, "T D"]
    """0 if not valid; always finite. Embeddings are float16, places of faces float32."""
    time_s: Float64[np.ndarray, "T"]
    """Presentation time of each row on the video's clock, strictly increasing."""
    valid: Bool[np.ndarray, "T"]
    """False if the encoder had no input for the row."""

    @property
    def n_bytes(self) -> int:
        """Size of the arrays."""
        return self.values.nbytes + self.time_s.nbytes + self.valid.nbytes

    def __post_init__(self) -> None:
        """Raise `ValueError` unless lengths and values are as documented above."""
        n_rows = {len(self.values), len(self.time_s), len(self.valid)}
        if len(n_rows) != 1:
            raise ValueError(
                "values, time_s and valid must have one row per step; they have "
                f"{len(self.values)}, {len(self.time_s)} and {len(self.valid)}"
            )
        blocks = range(0, len(self.values), BLOCK)  # avoids a second array of the clip's length
        is_finite = all(np.isfinite(self.values[k : k + BLOCK]).all() for k in blocks)
        if not (is_finite and np.isfinite(self.time_s).all()):
            raise ValueError("values and time_s must be finite")
        not_later = np.flatnonzero(np.diff(self.time_s) <= 0)
        if len(not_later):
            raise ValueError(
                f"time_s must increase strictly; it does not at row {not_later[0] + 1}"
            )
        if np.any(self.values[~self.valid]):
            raise ValueError("values must be 0 where valid is false")
