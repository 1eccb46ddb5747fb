"""A video file with sound, encoded frame by frame: H.264 and AAC, in mp4 or AVI."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

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


def _tick_s(plan: VideoPlan) -> Fraction:
    return Fraction(1, VARIABLE_TICKS_HZ) if plan.case.variable else 1 / plan.case.rate


def frame_times_s(plan: VideoPlan, seed: int) -> Float64[np.ndarray, "T"]:
    """The presentation time of each frame in seconds, from 0."""
    if not plan.case.variable:
        return np.arange(round(plan.seconds * plan.case.rate)) * float(_tick_s(plan))
    rng = stream(seed, RENDERED_BRANCH, 1, plan.index, 3)
    step = VARIABLE_TICKS_HZ / plan.case.rate
    n_drawn = int(plan.seconds * plan.case.rate)
    durations = np.where(
        rng.random(n_drawn) < HELD_SHARE, rng.integers(2, HELD_MOST + 1, n_drawn), 1
    )
    steps = np.round(durations * float(step)).astype(int) + rng.integers(0, TICK_JITTER, n_drawn)
    ticks = np.concatenate([[0], np.cumsum(steps)[:-1]])
    return ticks[ticks < plan.seconds * VARIABLE_TICKS_HZ] * float(_tick_s(plan))


@contextmanager
def video_file(
    path: Path, plan: VideoPlan, sound: Float32[np.ndarray, "S"] | None
) -> Iterator[Callable[[UInt8[np.ndarray, "H W 3"], float], None]]:
    """Yield a function that writes the next frame, presented at a time in seconds.

    It also writes the sound up to that time; the rest of the sound follows at the end.
    """
    tick_s, samples = _tick_s(plan), np.zeros(0, np.float32) if sound is None else _upsample(sound)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=plan.case.rate)
        video.width, video.height = plan.size_px
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = video.time_base = tick_s
        video.options = {**X264, "bf": "2" if plan.case.avi else "0"}
        audio = None
        if sound is not None:
            audio = out.add_stream("aac", rate=SOUND_HZ, layout="mono")
            audio.bit_rate = SOUND_BITS_PER_S
        n_written = 0

        def write_sound(until_s: float) -> None:
            nonlocal n_written
            while audio and n_written < min(len(samples), until_s * SOUND_HZ):
                piece = samples[None, n_written : n_written + AAC_SAMPLES]
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                frame.sample_rate, frame.time_base = SOUND_HZ, Fraction(1, SOUND_HZ)
                frame.pts = n_written
                n_written += piece.shape[1]
                out.mux(audio.encode(frame))

        def write_frame(pixels: UInt8[np.ndarray, "H W 3"], time_s: float) -> None:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time_s / tick_s), tick_s
            out.mux(video.encode(frame))
            write_sound(time_s)

        yield write_frame
        out.mux(video.encode(None))
        write_sound(float("inf"))
        if audio:
            out.mux(audio.encode(None))


def _upsample(sound: Float32[np.ndarray, "S"]) -> Float32[np.ndarray, "S3"]:
    """The sound at `SOUND_HZ`, clipped below full scale."""
    n = len(sound) * UPSAMPLE
    fine = np.fft.irfft(np.fft.rfft(sound), n) * UPSAMPLE
    return np.clip(fine, -0.98, 0.98).astype(np.float32)
