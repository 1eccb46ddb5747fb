"""What is imported, as what, and how the files are read."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from features.encoder_kinds import MODALITY
from features.errors import InputError

KIND = re.compile(r"[a-z][a-z0-9]{0,39}")  # the name of a feature set begins with it
CLIP_COLUMN, TIME_COLUMN = "clip", "time"
NAMES_CLIPS = (".npz", ".h5", ".hdf5")
ARRAYS = (".npy", *NAMES_CLIPS)
MS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read."""

    clip: str | None = None
    """The clip of a file that names none; None: the name of the file without its suffix."""
    fps: float | None = None
    """Rows a second, from 0, or frames a second; None: the file has times."""
    times: Path | None = None
    """A .npy with the times of a .npy."""
    clip_column: str | None = None
    """None: `clip`, if the table has it; else it is of one clip."""
    time_column: str | None = None
    """None: `time`."""
    time_unit: Literal["s", "ms"] | None = None
    """Of the times in the file; None: s."""
    frame_column: str | None = None
    """The column of numbers of frames, which are times at the rate `fps`."""
    first_frame: int = 0
    """The number of the video's first frame."""
    valid_column: str | None = None
    """The column of 1 and 0; rows with 0 are not valid. None: all are valid."""
    drop: tuple[str, ...] = ()
    """Columns of a table that are no features."""

    def __post_init__(self) -> None:
        """Check what the options say together."""
        if self.fps is not None and not (0 < self.fps < float("inf")):
            raise InputError(f"--fps {self.fps:g}: give rows a second, above 0")
        if self.frame_column and self.fps is None:
            raise InputError("--frame-column needs the frames a second; give them with --fps")
        if self.first_frame and not self.frame_column:
            raise InputError("--first-frame is about --frame-column; give both, or leave it out")
        given = {
            "--times": self.times,
            "--time-column": self.time_column,
            "--time-unit": self.time_unit,
        }
        if self.fps is not None and (other := next((k for k, v in given.items() if v), None)):
            raise InputError(f"--fps and {other} both say when rows are; give one of them")

    @property
    def has_rate_alone(self) -> bool:
        """Whether rows are counted at a rate, and the file says nothing of their times."""
        return self.fps is not None and not self.frame_column

    @property
    def clock_column(self) -> str:
        """The column that times are read from, or numbers of frames."""
        return self.frame_column or self.time_column or TIME_COLUMN

    def seconds(self, given: np.ndarray) -> np.ndarray:
        """Return the seconds that the numbers in a file mean; what is no number stays."""
        if given.dtype.kind not in "fiu":
            return given
        if self.frame_column and self.fps is not None:
            return (given.astype(np.float64) - self.first_frame) / self.fps
        return given / MS_PER_S if self.time_unit == "ms" else given


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is imported, and as what; `InputError` if it cannot be."""

    files: tuple[Path, ...]
    kind: str
    modality: Literal["visual", "audio"]
    reading: ReadOptions = field(default_factory=ReadOptions)
    has_frame_rows: bool = False
    """Whether each row is a frame of the video, one after the other."""
    version: str | None = None
    """Of what made the features; those of another version are another feature set."""

    def __post_init__(self) -> None:
        """Check the kind, and what the files and the options say together."""
        if not KIND.fullmatch(self.kind):
            raise InputError(
                f"--kind {self.kind!r}: give a name of small letters and digits that begins with a "
                "letter, such as openface"
            )
        if self.kind in MODALITY:
            raise InputError(
                f"--kind {self.kind!r} is the kind of an encoder of vaflow; give the features a "
                "name of their own"
            )
        if self.has_frame_rows and self.modality != "visual":
            raise InputError("--frame-rows: rows of sound are no frames; leave it out")
        several = len(self.files) > 1
        for option, value in (("--clip", self.reading.clip), ("--times", self.reading.times)):
            if value is not None and several:
                raise InputError(
                    f"{option} is of one file, and there are {len(self.files)}; import a table or "
                    "an .npz of all clips, name each file after its clip, or import one file after "
                    "the other: they become one feature set"
                )
        for path in self.files:
            self._check_file(path)

    def _check_file(self, path: Path) -> None:
        suffix, reading = path.suffix.lower(), self.reading
        if reading.clip and suffix in NAMES_CLIPS:
            raise InputError(f"--clip: {path} names its clips itself; leave --clip out")
        if reading.times and suffix != ".npy":
            raise InputError(f"--times: {path} has times of its own; it is for .npy only")
        if reading.frame_column and suffix in ARRAYS:
            raise InputError(f"--frame-column: {path} is no table; give its times in seconds")
        if reading.valid_column and suffix == ".npy":
            raise InputError(
                f"--valid-column: {path} holds one array; write an .npz, with an array per clip"
            )
