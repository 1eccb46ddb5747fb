"""The version of the decoder, which the quarantine keeps beside each entry."""

from dataclasses import dataclass
from importlib.metadata import version

import av

from features.media.limits import DecodeLimits

DECODING = 1  # raised when the code comes to decode, or to refuse, what it did not before


@dataclass(frozen=True, slots=True)
class DecoderVersion:
    """What decodes media, and within which limits."""

    name: str
    """Our own code, and the libraries that it calls."""
    limits: DecodeLimits | None = None
    """None for one who only asks: any will do."""


def decoder_version(limits: DecodeLimits | None = None) -> DecoderVersion:
    """What decodes here."""
    libraries = (f"PyAV {version('av')}", f"FFmpeg {av.ffmpeg_version_info}")
    name = ", ".join([f"decoding {DECODING}", *libraries, f"Pillow {version('pillow')}"])
    return DecoderVersion(name, limits)
