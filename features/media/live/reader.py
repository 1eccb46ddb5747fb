"""Reads a live stream in a thread: frames wait in a short queue, and are dropped if it is full."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import av.error
import numpy as np
from av.container import InputContainer
from jaxtyping import Float32

from features.errors import MediaError, VaflowError
from features.media.container import set_up_video
from features.media.display import FrameConverter, Image
from features.media.limits import DecodeLimits
from features.media.live.clock import LiveClock
from features.media.live.source import POLL_S, IsStopped, LiveSource, open_live
from features.media.packets import RESTARTING_CLOCKS
from features.media.samples import SampleStream
from features.media.tracks import streams_of

MAX_WAITING = 8  # frames: a third of a second of most videos, 50 MB of 1080p
MAX_BLOCKS = 256  # of sound, if nothing may be dropped
BLOCKS_PER_S = 20  # of sound: the delay that they add
STOP_S = 2.0  # after which a thread that hangs in a driver is left behind


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """A decoded frame."""

    number: int
    """In the stream, from 1; frames that were dropped are counted."""
    time_s: float
    """Presentation time, increasing."""
    image: Image | None
    """None if the frame is damaged."""
    decoded_at_s: float
    """On the clock `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class LiveSamples:
    """Consecutive samples of the sound."""

    start_s: float
    """Presentation time of the first sample of the stream."""
    samples: Float32[np.ndarray, "_"]


LiveItem = LiveFrame | LiveSamples


class LiveReader:
    """Decodes a source in a thread.

    With `drop`, the frame that waits longest is dropped if `MAX_WAITING` are waiting; sound is
    never dropped here. Without it, decoding waits. `rate_hz` is the rate of the samples; None
    decodes no sound. The stream ends early once `is_stopped`.
    """

    def __init__(
        self,
        source: LiveSource,
        rate_hz: int | None,
        limits: DecodeLimits,
        *,
        drop: bool,
        is_stopped: IsStopped = lambda: False,
    ) -> None:
        self._source, self._rate_hz, self._limits, self._drop = source, rate_hz, limits, drop
        self._is_stopped_outside = is_stopped
        self._frames: deque[LiveFrame] = deque()
        self._samples: deque[LiveSamples] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._has_ended = False
        self.has_sound = False
        """Known with the first item."""
        self.n_frames = self.n_dropped = self.n_damaged = 0
        self._clock: LiveClock | None = None
        self.error: VaflowError | None = None
        """Why the stream ended, if it is an error; set when the items have ended."""

    def items(self) -> Iterator[list[LiveItem]]:
        """Start, and yield what was decoded since the last time, until the stream ends.

        Call it once; the thread ends with the generator.
        """
        thread = threading.Thread(target=self._run, name="live reader", daemon=True)
        thread.start()
        try:
            while taken := self._take():
                yield taken
        finally:
            self._is_closed = True
            thread.join(STOP_S)

    def _is_stopped(self) -> bool:
        return self._is_closed or self._is_stopped_outside()

    @property
    def n_jumps(self) -> int:
        """How often the clock of the stream has jumped."""
        return self._clock.n_jumps if self._clock else 0

    def _take(self) -> list[LiveItem]:
        stopped_s: float | None = None
        with self._changed:
            while not (self._frames or self._samples or self._has_ended):
                self._changed.wait(POLL_S)
                if self._is_stopped():
                    stopped_s = stopped_s or time.monotonic()
                    if time.monotonic() - stopped_s > STOP_S:
                        break
            taken = [*self._frames, *self._samples]
            self._frames.clear()
            self._samples.clear()
            self._changed.notify_all()
            return taken

    def _put_frame(self, frame: LiveFrame) -> None:
        with self._changed:
            while len(self._frames) >= MAX_WAITING and not self._is_stopped():
                if self._drop:
                    self._frames.popleft()
                    self.n_dropped += 1
                else:
                    self._changed.wait(POLL_S)
            self._frames.append(frame)
            self._changed.notify_all()

    def _put_sound(self, sound: SampleStream) -> None:
        blocks = sound.take_blocks()
        with self._changed:
            while len(self._samples) >= MAX_BLOCKS and not (self._drop or self._is_stopped()):
                self._changed.wait(POLL_S)
            self._samples += [LiveSamples(sound.start_s or 0.0, block) for block in blocks]
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            with open_live(self._source, self._limits, self._is_stopped) as container:
                self._decode(container)
        except VaflowError as error:
            self.error = None if self._is_stopped() else error
        except Exception as error:  # whatever it is, the caller must not wait for ever
            self.error = MediaError(f"{self._source.path}: the decoder failed ({error})", "crashed")
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _decode(self, container: InputContainer) -> None:
        path, limits = self._source.path, self._limits
        video, audio = streams_of(path, container)
        if video is None:
            raise MediaError(f"{path} has no video that can be decoded; give one", "no-picture")
        set_up_video(path, video, limits, 1)  # more threads would hold back a frame each
        rate_hz = self._rate_hz
        sound = SampleStream(rate_hz, rate_hz // BLOCKS_PER_S) if rate_hz and audio else None
        self.has_sound = sound is not None
        self._clock = LiveClock(
            may_restart=container.format.name in RESTARTING_CLOCKS,
            from_zero=self._source.kind == "camera",  # whose clock is that of the machine
        )
        converter = FrameConverter(path, video.sample_aspect_ratio, limits)
        for packet in container.demux([video, audio] if sound and audio else [video]):
            if self._is_stopped():
                break
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self.n_damaged += 1
                continue
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    self.n_frames += 1
                    now_s, time_s = time.monotonic(), self._clock.video_s(frame.time)
                    image = None if frame.is_corrupt else converter.image(frame)
                    self._put_frame(LiveFrame(self.n_frames, time_s, image, now_s))
                elif sound and isinstance(frame, av.AudioFrame):
                    duration_s = frame.samples / frame.sample_rate
                    sound.add(frame, self._clock.audio_s(frame.time, duration_s))
                    self._put_sound(sound)
        if not self.n_frames and not self._is_stopped():
            raise MediaError(f"{path}: no frame decodes; give another source", "no-frames")
        if sound:
            sound.finish()
            self._put_sound(sound)
