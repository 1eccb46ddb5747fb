"""The sound of a clip, as audio encoders read it."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
from jaxtyping import Float16, Float64

from features.clip import Source, Track
from features.encoders.base import tracks_of
from features.media.audio import AudioEnd
from features.media.decoder import Decoder
from features.media.samples import Block

NO_SOUND = "the clip has no sound"


class ClipSound:
    """The sound of a clip, mono at one rate; what is unusual is known after the last block."""

    def __init__(self, source: Source, decoder: Decoder, rate_hz: int) -> None:
        self._source, self._decoder, self._rate_hz = source, decoder, rate_hz
        self._end = AudioEnd(None, 0)

    def blocks(self) -> Iterator[Block]:
        """Yield the samples; each block is valid until the next.

        Yields none if the clip has no sound. Raises `MediaError` if it cannot be decoded.
        """
        source = self._source
        path = source.audio or source.video
        if path is None:
            return
        beside = source.video if source.audio else None
        audio = self._decoder.audio(path, self._rate_hz, tracks_of(source), beside)
        with closing(audio) as items:
            for item in items:
                if isinstance(item, AudioEnd):
                    self._end = item
                else:
                    yield item

    @property
    def start_s(self) -> float | None:
        """The time of the first sample on the clip's clock; None if there is no sound."""
        start_s = self._end.start_s
        return None if start_s is None else start_s + self._source.audio_offset_s

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return self._end.n_samples / self._rate_hz

    @property
    def note(self) -> str | None:
        """What is unusual about the sound, in words."""
        return NO_SOUND if self._end.start_s is None else self._end.note


def sound_track(values: Float16[np.ndarray, "T D"], time_s: Float64[np.ndarray, "T"]) -> Track:
    """A track in which every row is valid: silence is sound."""
    return Track(values, time_s, np.ones(len(values), bool))
