"""Frame sampling: all frames of a video, every n-th, or a number per second."""

from collections.abc import Iterable, Iterator
from math import floor
from typing import Annotated, TypeVar

from pydantic import Field, model_validator

from features.canonical_json import JsonObject
from features.config import Config

ROUNDING_S = 1e-6  # a frame this early is on time: timestamps are rounded

Item = TypeVar("Item")


class Sampling(Config):
    """Every n-th frame, or the first frame at or after each of `fps` evenly spaced points a second.

    Points count from the first frame, in presentation time, so a variable frame rate is sampled
    evenly too. No frame is selected twice if frames are farther apart than points.
    """

    every: Annotated[int, Field(ge=1)] = 1
    """Every n-th frame is sampled; 1: all are."""
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """Frames sampled per second; null leaves it to `every`."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Sampling":
        if self.every > 1 and self.fps is not None:
            raise ValueError("every and fps (frames a second) both say which frames: leave one out")
        return self

    @classmethod
    def from_spec(cls, rows: object) -> "Sampling":
        """The sampling that `as_spec` wrote."""
        return cls.model_validate(rows) if isinstance(rows, dict) else EVERY_FRAME

    @property
    def is_every_frame(self) -> bool:
        """Whether no frame is left out."""
        return self.every == 1 and self.fps is None

    def as_spec(self) -> str | JsonObject:
        """The form kept in a `FeatureSpec`, which `from_spec` reads."""
        if self.is_every_frame:
            return "every frame"
        return {"every": self.every} if self.fps is None else {"fps": self.fps}

    def interval_s(self, frame_interval_s: float) -> float:
        """Seconds between sampled frames of a video with this frame interval."""
        if self.fps is None:
            return frame_interval_s * self.every
        return max(frame_interval_s, 1 / self.fps)

    def select(self, frames: Iterable[tuple[Item, float]]) -> Iterator[Item]:
        """Yield the sampled ones of frames given with their times in seconds."""
        last_s, step_s, elapsed_s, next_point = None, 0.0, 0.0, 0
        for index, (frame, time_s) in enumerate(frames):
            if last_s is not None:
                if time_s > last_s:
                    step_s = time_s - last_s
                elapsed_s += step_s  # if a timestamp goes back, repeat the last step
            last_s = time_s
            if self.fps is None:
                if index % self.every == 0:
                    yield frame
                continue
            point = floor((elapsed_s + ROUNDING_S) * self.fps)
            if point >= next_point:
                next_point = point + 1
                yield frame


EVERY_FRAME = Sampling()
