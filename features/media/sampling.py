"""Which frames of a video are looked at: all of them, every n-th, or so many a second (pure)."""

from collections.abc import Iterable, Iterator
from math import floor
from typing import Annotated, TypeVar

from pydantic import Field, model_validator

from features.canonical_json import JsonObject
from features.config import Config

ROUNDING_S = 1e-6  # a frame this little before its time is on time

Item = TypeVar("Item")


class Sampling(Config):
    """Every n-th frame, or the first at or after each of so many even points a second.

    The points count from the first frame, by presentation time, so that a variable rate does no
    harm; where frames are farther apart than points, each frame is taken once.
    """

    every: Annotated[int, Field(ge=1)] = 1
    """Every n-th frame is looked at; 1: all are."""
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """So many frames a second are looked at; null leaves it to `every`."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Sampling":
        if self.every > 1 and self.fps is not None:
            raise ValueError("every and fps (frames a second) both say which frames: leave one out")
        return self

    @property
    def takes_all(self) -> bool:
        """Whether no frame is left out."""
        return self.every == 1 and self.fps is None

    def as_spec(self) -> str | JsonObject:
        """What a feature set says of its rows."""
        if self.takes_all:
            return "every frame"
        return {"every": self.every} if self.fps is None else {"fps": self.fps}

    def apart_s(self, step_s: float) -> float:
        """How far apart the frames that are looked at lie, where frames lie `step_s` apart."""
        return step_s * self.every if self.fps is None else max(step_s, 1 / self.fps)

    def taken(self, frames: Iterable[tuple[Item, float]]) -> Iterator[Item]:
        """Those of the frames that are looked at; each comes with its time in seconds."""
        last_s, step_s, elapsed_s, next_point = None, 0.0, 0.0, 0
        for index, (frame, time_s) in enumerate(frames):
            if last_s is not None:
                if time_s > last_s:
                    step_s = time_s - last_s
                elapsed_s += step_s  # where timestamps fall back, time goes on
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


def of_spec(rows: object) -> Sampling:
    """What a feature set says of its rows, read back."""
    return Sampling.model_validate(rows) if isinstance(rows, dict) else EVERY_FRAME
