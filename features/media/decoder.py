"""Untrusted media, decoded in a process apart, within limits.

A file that makes that process crash, hang, or take too much costs its own clip: the process is
killed with its group, and another takes over. The process cannot write a file, and ends when the
one that started it ends. It is no sandbox: it may read what its user may read.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, TypeVar

import numpy as np

from features.media.audio import BLOCK, Block
from features.media.limits import DecodeLimits
from features.media.sampling import EVERY_FRAME, Sampling
from features.media.video import Probe
from features.media.worker import requests as reading
from features.media.worker.client import DecoderClient
from features.media.worker.requests import Image, VideoTimeline
from features.timeline import FrameTimes

IN_MEMORY_BYTES = 8 * 2**20  # two minutes at 16 kHz; what is longer goes to a file without a name


RecordT = TypeVar("RecordT")


class Decoder:
    """Reads media through a process of its own; one thing at a time, from one thread.

    Every method raises `MediaError` where the media cannot be read within the limits. Arrays that
    a generator yields are valid until the next are asked for.
    """

    def __init__(self, limits: DecodeLimits, n_threads: int = 1) -> None:
        self.limits = limits
        self.link = DecoderClient(limits, n_threads)
        self._keep_hz: int | None = None
        self._heard: AudioBuffer | None = None

    def begin(self) -> None:
        """Start the process, without waiting until it is ready."""
        self.link.begin()

    def keep_sound(self, rate_hz: int | None) -> None:
        """Have the sound of the videos to come read along with them, for `sound` to give."""
        self._keep_hz = rate_hz
        self._forget()

    def pictures(
        self, video: Path, fps: float | None, sampling: Sampling = EVERY_FRAME
    ) -> Generator[list[Image], None, FrameTimes]:
        """Yield the frames that are to be looked at; return the clock, with the row of each."""
        chosen = sampling.model_dump(mode="json")
        return (yield from self._watched(reading.video_frames, video, fps, chosen))

    def crops(self, paths: Sequence[Path]) -> Generator[list[Image], None, None]:
        """Yield the pictures of these files, in order."""
        yield from self.link.pieces(reading.crop_images, None, [str(path) for path in paths])

    def clock(self, video: Path, fps: float | None) -> FrameTimes:
        """When each frame of a video is shown; decodes all of it, which is what proves it whole."""
        return self._end_of(self._watched(reading.video_clock, video, fps))

    def probe(self, video: Path) -> Probe:
        """What the container of a video lists."""
        return self._whole(reading.video_probe, Probe, str(video))

    def sound(self, path: Path, rate_hz: int) -> Generator[Block, None, float | None]:
        """Yield the first sound track, mono at `rate_hz`; return the time of its first sample.

        None where there is no sound.
        """
        heard = self._heard
        if heard and heard.is_whole and (heard.video, heard.rate_hz) == (path, rate_hz):
            yield from heard.blocks()
            return heard.start_s
        arguments = (str(path), rate_hz)
        with closing(self.link.pieces(reading.audio_samples, None, *arguments)) as pieces:
            while True:
                try:
                    yield next(pieces)[0]
                except StopIteration as end:
                    return end.value

    def _watched(
        self, function: Callable, video: Path, fps: float | None, *more: Any
    ) -> Generator[list[Image], None, FrameTimes]:
        """The pictures that the process yields; sound between them is put aside."""
        self._forget()
        self._heard = heard = AudioBuffer(video, self._keep_hz) if self._keep_hz else None
        pieces = self.link.pieces(function, VideoTimeline, str(video), fps, *more, self._keep_hz)
        with closing(pieces):
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    found: VideoTimeline = end.value
                    break
                if piece[0].dtype == np.uint8:
                    yield piece
                elif heard:
                    heard.add(piece[0])
        if heard:
            heard.end(is_whole=found.heard, start_s=found.start_s)
        return found.clock()

    def _forget(self) -> None:
        """Let go of sound that was read along."""
        if self._heard:
            self._heard.close()
            self._heard = None

    def _whole(self, function: Callable, record: type[RecordT], *arguments: Any) -> RecordT:
        return self._end_of(self.link.pieces(function, record, *arguments))

    @staticmethod
    def _end_of(pieces: Generator[Any, None, RecordT]) -> RecordT:
        """What a generator returns that yields nothing."""
        with closing(pieces):
            try:
                next(pieces)
            except StopIteration as end:
                return end.value
        raise AssertionError("it yields; it should return alone")

    def stop(self) -> None:
        """End the process at once; whoever reads through it meets `Stopped`. From any thread."""
        self.link.stop()

    def close(self) -> None:
        """End the process, and wait for its end. From the thread that reads."""
        self.link.close()
        self._forget()


class AudioBuffer:
    """The sound of one video, block by block as it was decoded."""

    def __init__(self, video: Path, rate_hz: int) -> None:
        self.video = video
        self.rate_hz = rate_hz
        self.start_s: float | None = None
        """Presentation time of the first sample; None where there is no sound."""
        self.is_whole = False
        """Whether it was heard to its end."""
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it

    def add(self, block: Block) -> None:
        """Keep what comes next; where the disk is full nothing is kept."""
        if self._file.closed:
            return
        try:
            self._file.write(block.data)
        except OSError:
            self.close()

    def end(self, *, is_whole: bool, start_s: float | None) -> None:
        """That nothing more comes."""
        self.is_whole, self.start_s = is_whole and not self._file.closed, start_s

    def blocks(self) -> Iterator[Block]:
        """What was kept, from its beginning."""
        self._file.seek(0)
        while data := self._file.read(BLOCK * np.dtype(np.float32).itemsize):
            yield np.frombuffer(data, np.float32)

    def close(self) -> None:
        """Forget all of it."""
        self.is_whole = False
        self._file.close()
