"""A video file with sound, encoded frame by frame: H.264 and AAC, in mp4 or AVI."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from features.synthetic.plan import VideoPlan
from features.synthetic.random_streams import RENDERED_BRANCH, stream
from features.synthetic.voice import SYNTH_HZ

UPSAMPLE = 3
SOUND_HZ = SYNTH_HZ * UPSAMPLE
AAC_SAMPLES = 1024  # in one frame of AAC
SOUND_BITS_PER_S = 64_000
VARIABLE_TICKS_HZ = 30_000  # clock of a video whose frame rate varies
HELD_SHARE, HELD_MOST = 0.08, 3  # share of frames that last longer at a variable rate; most steps
TICK_JITTER = 120  # ticks, 4 ms
X264 = {"preset": "superfast", "crf": "25", "threads": "1"}


def tick_s(plan: VideoPlan) -> Fraction:
    """The length of one tick of the video's clock."""
    return Fraction(1, VARIABLE_TICKS_HZ) if plan.case.variable else 1 / plan.case.rate


def frame_ticks(plan: VideoPlan, seed: int) -> np.ndarray:
    """The presentation time of each frame in ticks of the video's clock, from 0."""
    if not plan.case.variable:
        return np.arange(round(plan.seconds * plan.case.rate))
    rng = stream(seed, RENDERED_BRANCH, 1, plan.index, 3)
    step = VARIABLE_TICKS_HZ / plan.case.rate
    n_drawn = int(plan.seconds * plan.case.rate)
    durations = np.where(
        rng.random(n_drawn) < HELD_SHARE, rng.integers(2, HELD_MOST + 1, n_drawn), 1
    )
    steps = np.round(durations * float(step)).astype(int) + rng.integers(0, TICK_JITTER, n_drawn)
    ticks = np.concatenate([[0], np.cumsum(steps)[:-1]])
    return ticks[ticks < plan.seconds * VARIABLE_TICKS_HZ]


def frame_times_s(plan: VideoPlan, seed: int) -> Float64[np.ndarray, "T"]:
    """The presentation time of each frame in seconds."""
    return frame_ticks(plan, seed) * float(tick_s(plan))


class VideoFile:
    """Context manager that writes the frames of one video, and its sound up to their times."""

    def __init__(self, path: Path, plan: VideoPlan, sound: Float32[np.ndarray, "S"] | None) -> None:
        width, height = plan.size_px
        self._tick_s = tick_s(plan)
        self._out = av.open(str(path), "w")
        self._video = self._out.add_stream("libx264", rate=plan.case.rate)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = self._tick_s
        self._video.time_base = self._tick_s
        self._video.options = {**X264, "bf": "2" if plan.case.avi else "0"}
        self._audio = None
        self._sent = 0
        if sound is not None:
            self._audio = self._out.add_stream("aac", rate=SOUND_HZ, layout="mono")
            self._audio.bit_rate = SOUND_BITS_PER_S
            self._sound = _upsample(sound)

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._out.mux(self._video.encode(None))
            self._write_sound(float("inf"))
            if self._audio is not None:
                self._out.mux(self._audio.encode(None))
        self._out.close()

    def write(self, pixels: UInt8[np.ndarray, "H W 3"], time_s: float) -> None:
        """Write the next frame, presented at `time_s`, and the sound up to that time."""
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = round(time_s / self._tick_s)
        frame.time_base = self._tick_s
        self._out.mux(self._video.encode(frame))
        self._write_sound(time_s)

    def _write_sound(self, until_s: float) -> None:
        """Write the sound up to a time, in frames of `AAC_SAMPLES`."""
        if self._audio is None:
            return
        while self._sent < len(self._sound) and self._sent < until_s * SOUND_HZ:
            piece = self._sound[None, self._sent : self._sent + AAC_SAMPLES]
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate = SOUND_HZ
            frame.time_base = Fraction(1, SOUND_HZ)
            frame.pts = self._sent
            self._sent += piece.shape[1]
            self._out.mux(self._audio.encode(frame))


def _upsample(sound: Float32[np.ndarray, "S"]) -> Float32[np.ndarray, "S3"]:
    """The sound at `SOUND_HZ`, clipped below full scale."""
    n = len(sound) * UPSAMPLE
    fine = np.fft.irfft(np.fft.rfft(sound), n) * UPSAMPLE
    return np.clip(fine, -0.98, 0.98).astype(np.float32)
