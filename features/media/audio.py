"""Audio of a media file, decoded alone or together with the video of the same container."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile

import av
import av.container
import av.error
import numpy as np
from jaxtyping import Float32

from features.errors import MediaError
from features.media.container import audio_stream, open_container
from features.media.limits import DEFAULT_LIMITS, DecodeLimits, check_time
from features.media.video import MIN_DECODED_SHARE

MAX_GAP_S = 0.05  # a larger jump of the timestamps is filled with silence; a smaller one is jitter
ESTIMATED_DURATION = ("aac", "mp3")  # bare streams: FFmpeg estimates their duration by bit rate
BLOCK = 2**18  # samples: 16 s at 16 kHz, 1 MiB
IN_MEMORY_BYTES = 8 * 2**20  # of an `AudioBuffer`: two minutes at 16 kHz

Block = Float32[np.ndarray, "_"]


@dataclass(frozen=True, slots=True)
class AudioEnd:
    """The last item of decoded audio."""

    start_s: float | None
    """Presentation time of the first sample; None if the file has no audio."""
    n_samples: int


class AudioStream:
    """The first audio stream of an open container, decoded to mono at `rate_hz`.

    Gaps between timestamps become silence of the same length. Timestamps that go back are ignored,
    as they are in video.
    """

    def __init__(
        self,
        path: Path,
        container: av.container.InputContainer,
        rate_hz: int,
        limits: DecodeLimits,
    ) -> None:
        self.stream = audio_stream(path, container)
        self._path, self._container, self._limits = path, container, limits
        self._rate_hz = rate_hz
        self._start_s: float | None = None
        self._resampler = self._new_resampler()
        self._format: tuple[str, str, int] | None = None
        self._pending: list[Block] = []
        self._blocks: list[Block] = []
        self._n_pending = self._n_samples = 0
        self._n_packets = self._n_bytes = self._n_damaged = 0
        self._expected_s = self._end_s = 0.0

    def feed(self, packet: av.Packet) -> None:
        """Decode the next packet of the container; packets of other streams only count as time."""
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
            self._add_frame(frame)

    def take_blocks(self) -> list[Block]:
        """The blocks decoded since the last call."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def finish(self) -> AudioEnd:
        """Decode what is left, and return the end. A stream without a packet is no audio.

        Raises `MediaError` if less than 95 % of the duration in the container's header decoded, or
        more than 5 % of the packets are damaged.
        """
        stream, container = self.stream, self._container
        if stream is None:
            return AudioEnd(None, 0)
        if self._start_s is not None:
            self._add_resampled(self._resampler.resample(None))
        self._flush()
        is_exact = container.format.name not in ESTIMATED_DURATION
        stream_s = float((stream.duration or 0) * (stream.time_base or 0)) * is_exact
        file_s = (container.duration or 0) / av.time_base * is_exact
        file_is_complete = self._end_s >= MIN_DECODED_SHARE * file_s
        if not self._n_bytes and not stream.frames and file_is_complete:
            return AudioEnd(None, 0)
        if stream_s:
            decoded_s, expected_s = self._n_samples / self._rate_hz, stream_s
        else:  # the container has no duration of the stream, only its own
            decoded_s, expected_s = self._end_s, file_s
        if (
            decoded_s < MIN_DECODED_SHARE * expected_s
            or self._n_damaged > (1 - MIN_DECODED_SHARE) * self._n_packets
        ):
            raise MediaError(
                f"{self._path}: {decoded_s:.2f} of the {expected_s:.2f} seconds of audio that the "
                f"container promises are there, {self._n_damaged} of {self._n_packets} packets "
                "damaged: the file is truncated or damaged; replace it",
                "incomplete",
            )
        return AudioEnd(self._start_s or 0.0, self._n_samples)

    def _add_frame(self, frame: av.AudioFrame) -> None:
        time_s = frame.time if frame.time is not None else self._expected_s
        end_s = time_s + frame.samples / frame.sample_rate
        check_time(self._path, end_s, self._limits)
        has_gap = time_s - self._expected_s > MAX_GAP_S
        frame_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._start_s is None:
            self._start_s = time_s
        elif frame_format != self._format or has_gap:  # broadcasts change from mono to stereo
            self._add_resampled(self._resampler.resample(None))
            self._resampler = self._new_resampler()
            if has_gap:
                n_expected = round((time_s - self._start_s) * self._rate_hz)
                self._add_silence(n_expected - self._n_samples)
        self._format, self._expected_s = frame_format, end_s
        frame.pts = None  # or the resampler would fill the same gap again
        self._add_resampled(self._resampler.resample(frame))

    def _add_resampled(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self._add_samples(frame.to_ndarray()[0])

    def _add_silence(self, n_samples: int) -> None:
        for start in range(0, n_samples, BLOCK):
            self._add_samples(np.zeros(min(BLOCK, n_samples - start), np.float32))

    def _add_samples(self, samples: Block) -> None:
        self._n_samples += len(samples)
        self._n_pending += len(samples)
        self._pending.append(samples)
        if self._n_pending >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._n_pending:
            samples = np.concatenate(self._pending)
            starts = range(0, len(samples), BLOCK)
            self._blocks += [samples[start : start + BLOCK] for start in starts]
        self._pending, self._n_pending = [], 0

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format="flt", layout="mono", rate=self._rate_hz)


def decoded_audio(
    path: Path, rate_hz: int, limits: DecodeLimits = DEFAULT_LIMITS
) -> Generator[Block | AudioEnd, None, None]:
    """Yield the audio of a file, mono at `rate_hz`, in blocks; the last item is an `AudioEnd`.

    Raises `MediaError` if the file is not media, or not complete.
    """
    with open_container(path, limits) as container:
        audio = AudioStream(path, container, rate_hz, limits)
        if audio.stream is not None:
            for packet in container.demux():
                audio.feed(packet)
                yield from audio.take_blocks()
        end = audio.finish()
        yield from audio.take_blocks()
    yield end


class AudioTap:
    """Decodes the audio of a container while its video is decoded, for one pass over the file.

    An error in the audio closes the tap and leaves the video alone: `end` stays None, and decoding
    the audio on its own raises the error.
    """

    def __init__(self, path: Path, rate_hz: int | None, limits: DecodeLimits) -> None:
        self.end: AudioEnd | None = None
        """Set once the audio is complete."""
        self._path, self._rate_hz, self._limits = path, rate_hz, limits
        self._audio: AudioStream | None = None

    def packet_tap(
        self, container: av.container.InputContainer
    ) -> Callable[[av.Packet | None], None] | None:
        """What `decoded_frames` calls with each packet; None if no audio is wanted."""
        if self._rate_hz is None:
            return None
        with self._close_on_error():
            self._audio = AudioStream(self._path, container, self._rate_hz, self._limits)
        return self._feed

    def take_blocks(self) -> list[Block]:
        """The blocks decoded since the last call."""
        return self._audio.take_blocks() if self._audio else []

    def _feed(self, packet: av.Packet | None) -> None:
        if self._audio is None:
            return
        with self._close_on_error():
            if packet is None:
                self.end = self._audio.finish()
            else:
                self._audio.feed(packet)

    @contextmanager
    def _close_on_error(self) -> Iterator[None]:
        try:
            yield
        except (MediaError, av.error.FFmpegError) as error:
            if isinstance(error, MemoryError):
                raise  # the process is out of memory: not an error of the audio
            self._audio = None


class AudioBuffer:
    """The audio of one video, from an `AudioTap`; long audio is kept in a temporary file."""

    def __init__(self, video: Path, rate_hz: int) -> None:
        self.video = video
        self.rate_hz = rate_hz
        self.end: AudioEnd | None = None
        """Set by the caller once the audio is complete."""
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it

    def holds(self, video: Path, rate_hz: int) -> bool:
        """Whether this is the complete audio of a video, at this rate."""
        is_same = (self.video, self.rate_hz) == (video, rate_hz)
        return is_same and self.end is not None and not self._file.closed

    def add(self, block: Block) -> None:
        """Append a block; a full disk closes the buffer."""
        if self._file.closed:
            return
        try:
            self._file.write(block.data)
        except OSError:
            self.close()

    def items(self) -> Iterator[Block | AudioEnd]:
        """The blocks, and the end."""
        assert self.end is not None
        self._file.seek(0)
        while data := self._file.read(BLOCK * np.dtype(np.float32).itemsize):
            yield np.frombuffer(data, np.float32)
        yield self.end

    def close(self) -> None:
        """Delete the audio."""
        self._file.close()
