"""What decoding one clip may cost: beyond it the clip fails, and says so."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.config import Config
from features.errors import MediaCode, MediaError

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DecodeLimits(Config):
    """Limits of one reading of one file; generous: films of hours and frames of 8K pass.

    None of them decides a number of the features: a clip passes unchanged, or fails.
    """

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


DEFAULT_LIMITS = DecodeLimits()


def check_bytes(path: Path, n_bytes: int, limits: DecodeLimits) -> None:
    """`MediaError` where a file is larger than allowed."""
    if n_bytes > limits.file_bytes:
        raise limit_error(path, "limit-bytes", f"it has {n_bytes} bytes", "file_bytes", limits)


def check_frames(path: Path, n_frames: int, limits: DecodeLimits) -> None:
    """`MediaError` where there are more frames than allowed."""
    if n_frames > limits.frames:
        raise limit_error(
            path, "limit-frames", f"it has {n_frames} frames or more", "frames", limits
        )


def check_pixels(path: Path, width: int, height: int, limits: DecodeLimits) -> None:
    """`MediaError` where pictures are larger than allowed."""
    if width * height > limits.pixels:
        why = f"its pictures have {width} x {height} pixels"
        raise limit_error(path, "limit-pixels", why, "pixels", limits)


def check_time(path: Path, time_s: float, limits: DecodeLimits) -> None:
    """`MediaError` where something lies beyond the longest duration that is allowed."""
    if time_s > limits.duration_s:
        raise limit_error(path, "limit-duration", f"it lasts {time_s:g} s", "duration_s", limits)


def limit_error(
    path: Path, code: MediaCode, why: str, key: str, limits: DecodeLimits
) -> MediaError:
    """The error that a limit is passed, with the key that would raise it."""
    allowed = str(getattr(limits, key)).removesuffix(".0")
    return MediaError(
        f"{path}: {why}, more than limits.{key} = {allowed}; if the file is sound, give a higher "
        f"limits.{key}=...",
        code,
    )
