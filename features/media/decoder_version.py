"""The version of the decoder, which each record and each quarantine entry has."""

from dataclasses import dataclass
from importlib.metadata import version

import av

from features.media.limits import DecodeLimits

# Raised when the code decodes files differently, or decodes or refuses others. `media/changes.py`
# tells whose records are stale. 2 (vaflow 0.2): one clock per file, upright frames and crops,
# square pixels, the track that a player shows
DECODING = 2


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
