"""What decoding one clip may cost: beyond it the clip fails, and says so."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DecodeLimits(BaseModel):
    """Limits of one reading of one file; generous: films of hours and frames of 8K pass.

    None of them decides a number of the features: a clip passes unchanged, or fails.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_mib: Annotated[int, Field(ge=128)] = 4096
    """Private memory of the process that decodes (RLIMIT_DATA); its own code takes about 70."""
    cpu_s: Count = 3600
    """Processor time, that of all its threads together."""
    wall_s: Seconds = 3600.0
    """Time that is waited for the decoder; while it waits for the encoder, no time passes."""
    file_bytes: Count = 64 * 2**30
    """The largest file that is opened."""
    pixels: Count = 8192 * 4320
    """Width times height of a picture."""
    frames: Count = 1_000_000
    """Frames of a video: nine hours at 30 a second."""
    duration_s: Seconds = 6 * 3600.0
    """How long a container claims to be, and the last time that anything in it has."""
    streams: Count = 64
    """Tracks of a container, of whatever kind."""


GENEROUS = DecodeLimits()
