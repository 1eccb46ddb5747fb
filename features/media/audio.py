"""The sound of a file, on the clock of its pictures, block by block."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.container
import av.error
import numpy as np
from jaxtyping import Float32

from features.errors import MediaError
from features.media.container import audio_stream, open_container
from features.media.limits import DEFAULT_LIMITS, DecodeLimits, check_time
from features.media.video import MIN_DECODED_SHARE

GAP_S = 0.05  # sound that jumps by more is placed anew; below it, jitter of timestamps
GUESSED_LENGTH = ("aac", "mp3")  # bare streams: their length is a guess by bit rate, and no promise
BLOCK = 2**18  # samples at a time: 16 s at 16 kHz, a megabyte

Block = Float32[np.ndarray, "_"]


class AudioStream:
    """The first sound track of an open container, mono at `rate_hz`, fed packet by packet.

    Gaps in the track are silence of the same length; where its timestamps go back it goes on, as
    the pictures do. What comes of a packet is handed to `emit`, in blocks.
    """

    def __init__(
        self,
        path: Path,
        container: av.container.InputContainer,
        rate_hz: int,
        limits: DecodeLimits,
        emit: Callable[[Block], None],
    ) -> None:
        self.start_s: float | None = None
        """Presentation time of the first sample; None where there is none yet."""
        self.stream = audio_stream(path, container)
        self._path, self._container, self._limits = path, container, limits
        self._rate_hz, self._emit = rate_hz, emit
        self._resampler = self._new_resampler()
        self._kind: tuple[str, str, int] | None = None
        self._waiting: list[Block] = []
        self._n_waiting = self._n_samples = 0
        self._n_packets = self._n_bytes = self._n_damaged = 0
        self._expected_s = self._end_s = 0.0

    def feed(self, packet: av.Packet) -> None:
        """Take the next packet of the container, of whatever track."""
        if packet.pts is not None and packet.time_base is not None:
            end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._end_s = max(self._end_s, end_s)
        if self.stream is None or packet.stream is not self.stream:
            return
        self._n_packets += 1
        self._n_bytes += packet.size
        try:
            frames = self.stream.decode(packet)
        except av.error.InvalidDataError:
            self._n_damaged += 1
            return
        for frame in frames:
            self._take(frame)

    def finish(self) -> bool:
        """Hand out the rest; whether there is sound: a track without a packet is none.

        Raises `MediaError` where less than 95 % of the promised length is there, or more than 5 %
        of the packets are damaged.
        """
        stream, container = self.stream, self._container
        if stream is None:
            return False
        if self.start_s is not None:
            self._put(self._resampler.resample(None))
        self._flush()
        promises = container.format.name not in GUESSED_LENGTH
        own_s = float((stream.duration or 0) * (stream.time_base or 0)) * promises
        whole_s = (container.duration or 0) / av.time_base * promises
        if not self._n_bytes and not stream.frames and self._end_s >= MIN_DECODED_SHARE * whole_s:
            return False  # in a file that is whole itself
        if own_s:
            got_s, promised_s = self._n_samples / self._rate_hz, own_s
        else:  # no length of its own in the container: go by where the file ends
            got_s, promised_s = self._end_s, whole_s
        if (
            got_s < MIN_DECODED_SHARE * promised_s
            or self._n_damaged > (1 - MIN_DECODED_SHARE) * self._n_packets
        ):
            raise MediaError(
                f"{self._path}: {got_s:.2f} of the {promised_s:.2f} seconds of sound that the "
                f"container promises are there, {self._n_damaged} of {self._n_packets} packets "
                "damaged: the file is truncated or damaged; replace it",
                "incomplete",
            )
        return True

    def _take(self, frame: av.AudioFrame) -> None:
        """Place a decoded frame."""
        time_s = frame.time if frame.time is not None else self._expected_s
        end_s = time_s + frame.samples / frame.sample_rate
        check_time(self._path, end_s, self._limits)
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self.start_s is None:
            self.start_s = time_s
        elif kind != self._kind or time_s - self._expected_s > GAP_S:
            self._put(self._resampler.resample(None))
            self._resampler = self._new_resampler()  # broadcasts change from mono to stereo
            if time_s - self._expected_s > GAP_S:
                self._silence(round((time_s - self.start_s) * self._rate_hz) - self._n_samples)
        self._kind, self._expected_s = kind, end_s
        frame.pts = None  # the resampler must not act on timestamps a second time
        self._put(self._resampler.resample(frame))

    def _put(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self._add(frame.to_ndarray()[0])

    def _silence(self, n_samples: int) -> None:
        for at in range(0, n_samples, BLOCK):
            self._add(np.zeros(min(BLOCK, n_samples - at), np.float32))

    def _add(self, samples: Block) -> None:
        self._n_samples += len(samples)
        self._n_waiting += len(samples)
        self._waiting.append(samples)
        if self._n_waiting >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._n_waiting:
            samples = np.concatenate(self._waiting)
            for at in range(0, len(samples), BLOCK):
                self._emit(samples[at : at + BLOCK])
        self._waiting, self._n_waiting = [], 0

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format="flt", layout="mono", rate=self._rate_hz)


def audio_blocks(
    path: Path, rate_hz: int, limits: DecodeLimits = DEFAULT_LIMITS
) -> Generator[Block, None, float | None]:
    """Yield the sound of a file, mono at `rate_hz`; return the time of its first sample.

    None where there is no sound. `MediaError` where the file is no media, or not whole.
    """
    ready: list[Block] = []
    with open_container(path, limits) as container:
        track = AudioStream(path, container, rate_hz, limits, ready.append)
        if track.stream is None:
            return None
        for packet in container.demux():
            track.feed(packet)
            yield from _taken(ready)
        there_is_sound = track.finish()
        yield from _taken(ready)
    return (track.start_s or 0.0) if there_is_sound else None


def _taken(ready: list[Block]) -> Iterator[Block]:
    """What is ready, taken out of the list."""
    yield from ready
    ready.clear()


class AudioTap:
    """What takes the sound out of a container that is read for its pictures.

    Where anything is wrong with it, it is given up: read alone, it says what.
    """

    def __init__(self, path: Path, rate_hz: int, limits: DecodeLimits) -> None:
        self._path, self._rate_hz, self._limits = path, rate_hz, limits
        self._track: AudioStream | None = None
        self._ready: list[Block] = []
        self._is_whole, self._start_s = False, None

    def beside(self, container: av.container.InputContainer) -> Callable[[av.Packet | None], None]:
        """What `decoded_frames` hands the packets to."""
        with self._giving_up():
            self._track = AudioStream(
                self._path, container, self._rate_hz, self._limits, self._ready.append
            )
        return self._feed

    def blocks(self) -> Iterator[list[Block]]:
        """What was heard since it was last asked for."""
        for block in self._ready:
            yield [block]
        self._ready.clear()

    def end(self) -> tuple[bool, float | None]:
        """Whether the sound was heard to its end, and the time of its first sample, if any."""
        return self._is_whole, self._start_s

    def _feed(self, packet: av.Packet | None) -> None:
        if self._track is None:
            return
        with self._giving_up():
            if packet is not None:
                self._track.feed(packet)
                return
            if self._track.finish():
                self._start_s = self._track.start_s or 0.0
            self._is_whole = True

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (MediaError, av.error.FFmpegError) as error:
            if isinstance(error, MemoryError):
                raise  # of the process, not of the file
            self._track = None
