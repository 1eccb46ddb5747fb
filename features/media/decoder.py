"""Decodes untrusted media in a process of its own, within limits.

A file that makes the process crash, hang or exceed a limit fails its own clip only: the process is
killed with its process group, and the next request starts another. The process cannot write files,
and ends when its parent ends. It is not a sandbox: it can read what its user can read.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from features.canonical_json import JsonObject
from features.media.alignment import AlignmentConfig
from features.media.audio import AudioBuffer, AudioEnd
from features.media.display import Image
from features.media.limits import DecodeLimits
from features.media.samples import Block
from features.media.sampling import EVERY_FRAME, Sampling
from features.media.tracks import BY_FILE, TrackNumbers
from features.media.video import Probe
from features.media.worker.client import SERVER, DecoderClient
from features.timeline import FrameTimes


class Decoder:
    """Decodes one file at a time, for one thread, through a process of its own.

    Every method raises `MediaError` if the media cannot be decoded within the limits. Iterators end
    with a record that is known only then; the arrays they yield are valid until the next item.
    """

    def __init__(self, limits: DecodeLimits, n_threads: int = 1, server: str = SERVER) -> None:
        self.limits = limits
        self.client = DecoderClient(limits, server)
        self._n_threads = n_threads
        self._audio_rate_hz: int | None = None
        self._audio: AudioBuffer | None = None

    def also_decode_audio(self, rate_hz: int | None) -> None:
        """From now on, decode the audio of each video along with it, for `audio` to return.

        None turns this off, and deletes the audio that is kept.
        """
        self._audio_rate_hz = rate_hz
        self._delete_audio()

    def frames(
        self,
        video: Path,
        fps: float | None,
        sampling: Sampling | None = EVERY_FRAME,
        tracks: TrackNumbers = BY_FILE,
    ) -> Generator[list[Image] | FrameTimes, None, None]:
        """Yield the sampled frames, some at a time; the last item has the time of every frame.

        `fps` is the declared rate, used if timestamps are missing. Without a sampling, only the
        times are yielded.
        """
        settings = None if sampling is None else sampling.model_dump(mode="json")
        yield from self._decode(video, fps, settings, tracks, None)

    def face_crops(
        self,
        video: Path,
        fps: float | None,
        sampling: Sampling,
        tracks: TrackNumbers,
        alignment: AlignmentConfig,
        landmarks_px: Float32[np.ndarray, "N 5 2"],
    ) -> Generator[list[Image] | FrameTimes, None, None]:
        """Yield the faces with these landmarks, some at a time; the last item is as of `frames`.

        The landmarks are those of the sampled frames that decode, in order; NaN where a frame has
        no face, and then it has no crop. The faces are cut out in the decoding process.
        """
        settings = sampling.model_dump(mode="json")
        cut = alignment.model_dump(mode="json")
        yield from self._decode(video, fps, settings, tracks, cut, landmarks_px=landmarks_px)

    def _decode(
        self,
        video: Path,
        fps: float | None,
        sampling: JsonObject | None,
        tracks: TrackNumbers,
        alignment: JsonObject | None,
        **arrays: np.ndarray,
    ) -> Generator[list[Image] | FrameTimes, None, None]:
        self._delete_audio()
        rate_hz = self._audio_rate_hz
        audio = self._audio = AudioBuffer(video, rate_hz, tracks) if rate_hz else None
        arguments = video, fps, sampling, rate_hz, tracks, self._n_threads, alignment
        with closing(self.client.request("decode_video", *arguments, **arrays)) as items:
            for item in items:
                if isinstance(item, FrameTimes) or (
                    isinstance(item, list) and item[0].dtype == np.uint8
                ):
                    yield item
                elif audio and isinstance(item, AudioEnd):
                    audio.end = item
                elif audio:
                    audio.add(item[0])

    def frame_times(
        self, video: Path, fps: float | None, tracks: TrackNumbers = BY_FILE
    ) -> FrameTimes:
        """The presentation time of every frame; decodes all of them to check the file."""
        [times] = self.frames(video, fps, None, tracks)
        assert isinstance(times, FrameTimes)
        return times

    def crops(self, paths: Sequence[Path]) -> Generator[list[Image], None, None]:
        """Yield the images of these files in order, some at a time."""
        if paths:
            yield from self.client.request("read_crops", list(paths))

    def probe(self, video: Path) -> Probe:
        """What the container of a video lists, without decoding."""
        [found] = self.client.request("probe_video", video)
        return found

    def audio(
        self, path: Path, rate_hz: int, tracks: TrackNumbers = BY_FILE, beside: Path | None = None
    ) -> Generator[Block | AudioEnd, None, None]:
        """Yield the audio of a file, mono at `rate_hz`; the last item is an `AudioEnd`.

        With a video `beside` an audio file, its times are on the clock of that video: both files
        start together.
        """
        if self._audio and self._audio.holds(path, rate_hz, tracks):
            yield from self._audio.items()
            return
        request = self.client.request("decode_audio", path, rate_hz, tracks, beside)
        with closing(request) as items:
            for item in items:
                yield item if isinstance(item, AudioEnd) else item[0]

    def changes(
        self, reading: str, files: Sequence[Path], tracks: TrackNumbers, beside: Path | None = None
    ) -> list[str]:
        """What differs for files since decoding 1, in words; `reading` as in `changes_since_1`."""
        [found] = self.client.request("changes_since_1", list(files), reading, tracks, beside)
        return found.reasons

    def _delete_audio(self) -> None:
        if self._audio:
            self._audio.close()
            self._audio = None

    def close(self) -> None:
        """End the process and wait for it. Call it from the thread that decodes."""
        self.client.close()
        self._delete_audio()
