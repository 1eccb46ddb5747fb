"""Audio of a media file, decoded alone or together with the video of the same container."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile

import av
import av.error
import numpy as np
from av.container import InputContainer
from jaxtyping import Float32

from features.errors import MediaError
from features.media.completeness import check_any_track, check_audio
from features.media.container import check_codec, open_container
from features.media.limits import check_time
from features.media.tracks import MediaTrack, MediaTracks, TrackNumbers, demux, joined

MAX_DRIFT_S = 0.010  # between samples and timestamps: one frame of the AST's spectrogram
BLOCK = 2**18  # samples: 16 s at 16 kHz, 1 MiB
IN_MEMORY_BYTES = 8 * 2**20  # of an `AudioBuffer`: two minutes at 16 kHz

Block = Float32[np.ndarray, "_"]


@dataclass(frozen=True, slots=True)
class AudioEnd:
    """The last item of decoded audio."""

    start_s: float | None
    """Presentation time of the first sample; None if the file has no audio."""
    n_samples: int
    note: str | None = None
    """What is unusual about the audio, in words."""


class AudioStream:
    """The audio track of an open container, decoded to mono at `rate_hz`.

    The samples stay within 10 ms of their timestamps: what was lost becomes silence, and what
    overlaps is dropped. So losses do not add up, and a clock that runs slow stays in step.
    """

    def __init__(self, container: InputContainer, tracks: MediaTracks, rate_hz: int) -> None:
        self._container, self._tracks, self._rate_hz = container, tracks, rate_hz
        self.stream = _stream_of(container, tracks)
        self._start_s: float | None = None
        self._resampler = self._new_resampler()
        self._format: tuple[str, str, int] | None = None
        self._pending: list[Block] = []
        self._blocks: list[Block] = []
        self._n_pending = self._n_samples = self._n_to_drop = 0
        self._n_damaged = self._n_silences = self._n_overlaps = 0
        self._end_s = 0.0  # of the samples so far, on the clock of the timestamps

    def feed(self, packet: av.Packet) -> None:
        """Decode the next packet of the track."""
        assert self.stream is not None
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
        """Decode what is left, and return the end. A track without a packet is no audio.

        Raises `MediaError` if less than 95 % of the duration in the container's header is there, or
        more than 5 % of the packets are damaged.
        """
        track = self._tracks.audio
        if self.stream is None or track is None:
            return AudioEnd(None, 0)
        if self._start_s is not None:
            self._add_resampled(self._resampler.resample(None))
        self._flush()
        if not len(track.packets.order) and not self.stream.frames:
            check_any_track(self._container, self._tracks)
            return AudioEnd(None, 0)
        check_audio(self._container, self._tracks, track, self._n_damaged)
        return AudioEnd(self._start_s or 0.0, self._n_samples, self._note(track))

    def _note(self, track: MediaTrack) -> str | None:
        silences, overlaps = self._n_silences, self._n_overlaps
        return joined(
            [
                self._tracks.clock_note,
                track.note,
                f"silence was inserted where audio is missing ({silences}x)" if silences else None,
                f"audio that overlaps was dropped ({overlaps}x)" if overlaps else None,
            ]
        )

    def _add_frame(self, frame: av.AudioFrame) -> None:
        tracks = self._tracks
        time_s = frame.time if frame.time is not None else self._end_s
        duration_s = frame.samples / frame.sample_rate
        check_time(tracks.path, time_s + duration_s - tracks.start_s, tracks.limits)
        frame_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._start_s is None:
            self._start_s = self._end_s = time_s
        drift_s = time_s - self._end_s
        if frame_format != self._format or abs(drift_s) > MAX_DRIFT_S:  # mono becomes stereo
            self._add_resampled(self._resampler.resample(None))
            self._resampler = self._new_resampler()
            self._format = frame_format
        if abs(drift_s) > MAX_DRIFT_S:
            self._follow(time_s)
        self._end_s += duration_s
        frame.pts = None  # or the resampler would fill the same gap again
        self._add_resampled(self._resampler.resample(frame))

    def _follow(self, time_s: float) -> None:
        """Insert silence up to a time, or drop as much of what comes next."""
        n_missing = round((time_s - (self._start_s or 0.0)) * self._rate_hz) - self._n_samples
        self._n_to_drop = max(0, -n_missing)
        if n_missing > 0:
            self._add_silence(n_missing)
            self._n_silences += 1
        else:
            self._n_overlaps += 1
        self._end_s = time_s

    def _add_resampled(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self._add_samples(frame.to_ndarray()[0])

    def _add_silence(self, n_samples: int) -> None:
        for start in range(0, n_samples, BLOCK):
            self._add_samples(np.zeros(min(BLOCK, n_samples - start), np.float32))

    def _add_samples(self, samples: Block) -> None:
        samples, n_dropped = samples[self._n_to_drop :], min(self._n_to_drop, len(samples))
        self._n_to_drop -= n_dropped
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


def _stream_of(container: InputContainer, tracks: MediaTracks) -> av.AudioStream | None:
    """The audio; `MediaError` if the file has some, and none that can be decoded."""
    if tracks.audio is None:
        for stream in container.streams.audio:
            check_codec(tracks.path, stream)
        return None
    stream = container.streams[tracks.audio.index]
    assert isinstance(stream, av.AudioStream)
    return stream


def decoded_audio(tracks: MediaTracks, rate_hz: int) -> Iterator[Block | AudioEnd]:
    """Yield the audio of a file, mono at `rate_hz`, in blocks; the last item is an `AudioEnd`.

    Raises `MediaError` if the file is not media, or not complete.
    """
    with open_container(tracks.path, tracks.limits) as container:
        audio = AudioStream(container, tracks, rate_hz)
        if tracks.audio is not None:
            for packet in demux(container, [tracks.audio]):
                audio.feed(packet)
                yield from audio.take_blocks()
        end = audio.finish()
        yield from audio.take_blocks()
    yield end


class AudioTap:
    """Decodes the audio of a container while its video is decoded, for one pass over the file.

    An error in the audio closes the tap and leaves the video alone: `end` stays None, and decoding
    the audio on its own raises the error. Without a rate nothing is decoded.
    """

    def __init__(self, tracks: MediaTracks, rate_hz: int | None) -> None:
        self.track = tracks.audio if rate_hz else None
        """The track whose packets it takes."""
        self.end: AudioEnd | None = None
        """Set once the audio is complete."""
        self._tracks, self._rate_hz = tracks, rate_hz
        self._audio: AudioStream | None = None

    def open(self, container: InputContainer) -> None:
        """Begin with a container of the file."""
        if self._rate_hz:
            with self._close_on_error():
                self._audio = AudioStream(container, self._tracks, self._rate_hz)

    def take_blocks(self) -> list[Block]:
        """The blocks decoded since the last call."""
        return self._audio.take_blocks() if self._audio else []

    def feed(self, packet: av.Packet) -> None:
        """Decode the next packet of the track."""
        if self._audio:
            with self._close_on_error():
                self._audio.feed(packet)

    def finish(self) -> None:
        """Decode what is left, and set the end."""
        if self._audio:
            with self._close_on_error():
                self.end = self._audio.finish()

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

    def __init__(self, video: Path, rate_hz: int, tracks: TrackNumbers) -> None:
        self.video, self.rate_hz, self.tracks = video, rate_hz, tracks
        self.end: AudioEnd | None = None
        """Set by the caller once the audio is complete."""
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it

    def holds(self, video: Path, rate_hz: int, tracks: TrackNumbers) -> bool:
        """Whether this is the complete audio of a video, at this rate and of these tracks."""
        is_same = (self.video, self.rate_hz, self.tracks) == (video, rate_hz, tracks)
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
