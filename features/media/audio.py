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

from features.errors import MediaError
from features.media.completeness import check_any_track, check_audio
from features.media.container import check_codec, open_container
from features.media.limits import check_time
from features.media.samples import Block, SampleStream
from features.media.tracks import MediaTracks, TrackNumbers, demux, joined

BLOCK = 2**18  # samples: 16 s at 16 kHz, 1 MiB
IN_MEMORY_BYTES = 8 * 2**20  # of an `AudioBuffer`: two minutes at 16 kHz


@dataclass(frozen=True, slots=True)
class AudioEnd:
    """The last item of decoded audio."""

    start_s: float | None
    """Presentation time of the first sample; None if the file has no audio."""
    n_samples: int
    note: str | None = None
    """What is unusual about the audio, in words."""


class AudioStream:
    """The audio track of an open container, decoded to mono at `rate_hz`; see `SampleStream`."""

    def __init__(self, container: InputContainer, tracks: MediaTracks, rate_hz: int) -> None:
        self._container, self._tracks = container, tracks
        self.stream = _stream_of(container, tracks)
        self._samples = SampleStream(rate_hz, BLOCK)
        self._n_damaged = 0

    def feed(self, packet: av.Packet) -> None:
        """Decode the next packet of the track."""
        assert self.stream is not None
        try:
            frames = self.stream.decode(packet)
        except av.error.InvalidDataError:
            self._n_damaged += 1
            return
        tracks = self._tracks
        for frame in frames:
            time_s = frame.time if frame.time is not None else self._samples.end_s
            end_s = time_s + frame.samples / frame.sample_rate
            check_time(tracks.path, end_s - tracks.start_s, tracks.limits)
            self._samples.add(frame, time_s)

    def take_blocks(self) -> list[Block]:
        """The blocks decoded since the last call."""
        return self._samples.take_blocks()

    def finish(self) -> AudioEnd:
        """Decode what is left, and return the end. A track without a packet is no audio.

        Raises `MediaError` if less than 95 % of the duration in the container's header is there, or
        more than 5 % of the packets are damaged.
        """
        track, samples = self._tracks.audio, self._samples
        if self.stream is None or track is None:
            return AudioEnd(None, 0)
        samples.finish()
        if not len(track.packets.order) and not self.stream.frames:
            check_any_track(self._container, self._tracks)
            return AudioEnd(None, 0)
        check_audio(self._container, self._tracks, track, self._n_damaged)
        note = joined([self._tracks.clock_note, track.note, *samples.notes()])
        return AudioEnd(samples.start_s or 0.0, samples.n_samples, note)


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
