"""The overlay of a video: H.264 and AAC in MP4, every frame at its own time, sound in step.

The video is decoded as for the features, in a process of its own, and upright. It is decoded twice:
which frames are damaged, and when the sound begins, is known at the end.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np

from features.errors import MediaError
from features.media.audio import AudioEnd
from features.media.decoder import Decoder
from features.media.display import Image
from features.media.limits import DecodeLimits
from features.media.samples import Block
from features.system.files import replacing
from features.timeline import FrameTimes
from models.prediction.drawing import Layout, Overlay
from models.prediction.rows import PersonRows

TICK = Fraction(1, 90_000)  # seconds, of the presentation times
RATE_HZ = 48_000
SOUND_AHEAD_S = 1.0  # of the pictures, so that the muxer need not keep packets
ENCODING = {"preset": "veryfast", "crf": "21", "bf": "0"}
NOMINAL_FPS = 30  # for the encoder's buffers; times are those of the frames


def write_overlay(
    path: Path,
    video: Path,
    people: Sequence[PersonRows],
    region_words: Sequence[str],
    limits: DecodeLimits,
) -> None:
    """Write the overlay of a video, whole or not at all.

    Times are those of the source, later by the same for all if one is below 0. Raises `MediaError`
    if the video cannot be decoded, or if it is not the one that was predicted.
    """
    with closing(Decoder(limits)) as pictures, closing(Decoder(limits)) as sound:
        times, end = _last(pictures.frames(video, None)), _last(sound.audio(video, RATE_HZ))
        assert isinstance(times, FrameTimes)
        assert isinstance(end, AudioEnd)
        if len(times.time_s) != len(people[0].time_s):
            raise MediaError(
                f"{video} has {len(times.time_s)} frames now, and {len(people[0].time_s)} were "
                "predicted; run the same again",
                "unreadable",
            )
        start_s = min(0.0, float(times.time_s[0]), end.start_s or 0.0)
        frames = zip(times.rows.tolist(), _images(pictures.frames(video, None)), strict=True)
        blocks = _blocks(sound.audio(video, RATE_HZ))
        with (
            closing(blocks),
            replacing(path) as part,
            av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container,
        ):
            _Writer(container, people, region_words, end, start_s).write(
                frames, blocks, times.time_s
            )


def _last(items: Generator[Any, None, None]) -> Any:
    """The last item of decoded media."""
    item = None
    for item in items:  # noqa: B007
        pass
    return item


def _images(items: Generator[list[Image] | FrameTimes, None, None]) -> Iterator[Image]:
    with closing(items):
        for item in items:
            if isinstance(item, list):
                yield from item


def _blocks(
    items: Generator[Block | AudioEnd, None, None],
) -> Generator[Block, None, None]:
    with closing(items):
        for item in items:
            if not isinstance(item, AudioEnd):
                yield item


class _Writer:
    """Encodes and interleaves pictures and sound."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        people: Sequence[PersonRows],
        region_words: Sequence[str],
        end: AudioEnd,
        start_s: float,
    ) -> None:
        self._container, self._people, self._words = container, people, region_words
        self._start_s = start_s
        self._overlay: Overlay | None = None
        self._video = container.add_stream("libx264", rate=NOMINAL_FPS, options=ENCODING)
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = TICK
        self._sound = None
        self._n_samples = 0
        if end.start_s is not None and end.n_samples:
            self._sound = container.add_stream("aac", rate=RATE_HZ, layout="mono")
            self._n_samples = round((end.start_s - start_s) * RATE_HZ)

    def write(
        self,
        frames: Iterator[tuple[int, Image]],
        blocks: Iterator[Block],
        time_s: np.ndarray,
    ) -> None:
        """Write all frames, each with its row, and all sound."""
        for row, image in frames:
            at_s = float(time_s[row]) - self._start_s
            self._write_picture(image, row, at_s)
            self._write_sound(blocks, at_s + SOUND_AHEAD_S)
        self._write_sound(blocks, np.inf)
        for stream in (self._video, self._sound):
            if stream is not None:
                self._container.mux(stream.encode())

    def _write_picture(self, image: Image, row: int, at_s: float) -> None:
        if self._overlay is None:
            layout = Layout.of(image.shape[1], image.shape[0], len(self._people))
            self._overlay = Overlay(layout, self._people, self._words)
            self._video.width, self._video.height = layout.size
        frame = av.VideoFrame.from_ndarray(self._overlay.draw(image, row), format="rgb24")
        frame.pts, frame.time_base = round(at_s / TICK), TICK
        self._container.mux(self._video.encode(frame))

    def _write_sound(self, blocks: Iterator[Block], until_s: float) -> None:
        """Write blocks up to a time, or to the end."""
        while self._sound is not None and self._n_samples < until_s * RATE_HZ:
            block = next(blocks, None)
            if block is None:
                return
            frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
            frame.rate, frame.pts, frame.time_base = RATE_HZ, self._n_samples, Fraction(1, RATE_HZ)
            self._n_samples += len(block)
            self._container.mux(self._sound.encode(frame))
