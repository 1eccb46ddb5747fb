"""Limits on decoding one file: a clip that exceeds one fails, and its error names the key."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.config import Config
from features.errors import MediaCode, MediaError

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DecodeLimits(Config):
    """Limits on decoding one file once. The defaults accept films of hours, and 8K.

    They change no feature value: a clip passes unchanged, or fails.
    """

    memory_mib: Annotated[int, Field(ge=128)] = 4096
    """Private memory of the decoding process (RLIMIT_DATA); about 70 MiB are its own code."""
    cpu_s: Count = 3600
    """Processor time of all threads of the decoding process."""
    wall_s: Seconds = 3600.0
    """Time spent waiting for the decoder; the decoder's waiting for the encoder does not count."""
    file_bytes: Count = 64 * 2**30
    """Size of the file."""
    pixels: Count = 8192 * 4320
    """Width times height of a frame or a crop."""
    frames: Count = 1_000_000
    """Frames of a video: nine hours at 30 fps."""
    duration_s: Seconds = 6 * 3600.0
    """Duration in the container's header, and the last timestamp in the file."""
    streams: Count = 64
    """Streams of a container, of any type."""


DEFAULT_LIMITS = DecodeLimits()


def check_bytes(path: Path, n_bytes: int, limits: DecodeLimits) -> None:
    """Raises `MediaError` if a file is too large."""
    if n_bytes > limits.file_bytes:
        raise limit_error(path, "limit-bytes", f"it has {n_bytes} bytes", "file_bytes", limits)


def check_frames(path: Path, n_frames: int, limits: DecodeLimits) -> None:
    """Raises `MediaError` if there are too many frames."""
    if n_frames > limits.frames:
        raise limit_error(
            path, "limit-frames", f"it has {n_frames} frames or more", "frames", limits
        )


def check_pixels(path: Path, width: int, height: int, limits: DecodeLimits) -> None:
    """Raises `MediaError` if an image has too many pixels."""
    if width * height > limits.pixels:
        reason = f"an image has {width} x {height} pixels"
        raise limit_error(path, "limit-pixels", reason, "pixels", limits)


def check_time(path: Path, time_s: float, limits: DecodeLimits) -> None:
    """Raises `MediaError` if a time exceeds the longest duration."""
    if time_s > limits.duration_s:
        raise limit_error(path, "limit-duration", f"it lasts {time_s:g} s", "duration_s", limits)


def limit_error(
    path: Path, code: MediaCode, reason: str, key: str, limits: DecodeLimits
) -> MediaError:
    """The error for an exceeded limit; it names the key `limits.<key>` to change."""
    allowed = str(limits.model_dump()[key]).removesuffix(".0")
    return MediaError(
        f"{path}: {reason}, more than limits.{key} = {allowed}; if the file is sound, give a "
        f"higher limits.{key}=...",
        code,
    )
