"""The version of the decoder, which each quarantine entry records."""

from dataclasses import dataclass
from importlib.metadata import version

import av

from features.media.limits import DecodeLimits

DECODING = 1  # raised when the code decodes, or refuses, files that it did not before


@dataclass(frozen=True, slots=True)
class DecoderVersion:
    """The decoder, and its limits."""

    name: str
    """Versions of this package's decoding code and of its libraries."""
    limits: DecodeLimits | None = None
    """None matches any limits."""


def decoder_version(limits: DecodeLimits | None = None) -> DecoderVersion:
    """The decoder of this installation."""
    libraries = (f"PyAV {version('av')}", f"FFmpeg {av.ffmpeg_version_info}")
    name = ", ".join([f"decoding {DECODING}", *libraries, f"Pillow {version('pillow')}"])
    return DecoderVersion(name, limits)
