"""Video and audio for test files, and the sizes of the seeded encoders."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 44_100  # of the audio in test files

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}
TINY_AST = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_length": 128,
}


def draw_frames(n_frames: int, seed: int = 0, side_px: int = 64) -> np.ndarray:
    """Moving colours with fine detail (T, H, W, 3), different in each frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side_px, 0:side_px] / side_px
    phase = rng.uniform(0, 6, 3) + np.arange(n_frames)[:, None] * 0.7
    waves = [np.sin(5 * x + 3 * c * y + phase[:, c, None, None]) for c in range(3)]
    detail = rng.uniform(-60, 60, (side_px // 2, side_px // 2, 1)).repeat(2, 0).repeat(2, 1)
    return np.clip(127 + 70 * np.stack(waves, axis=-1) + detail, 0, 255).astype(np.uint8)


def tone(seconds: float, seed: int = 0) -> np.ndarray:
    """A changing, voice-like mixture of tones (S,)."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch = 150 + 60 * np.sin(2 * np.pi * rng.uniform(0.3, 1.5) * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    loud = 0.3 + 0.2 * np.sin(2 * np.pi * 2.3 * t)
    voice = sum(np.sin(k * phase) / k for k in range(1, 8))
    return (loud * voice * 0.2 + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


def write_video(
    path: Path,
    *,
    time_s: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    sound_starts_s: float = 0.0,
    frames: np.ndarray | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write an H.264 video with given timestamps, and AAC audio if samples are given."""
    time_s = np.arange(50) / 25 if time_s is None else time_s
    frames = draw_frames(len(time_s)) if frames is None else frames
    tick = Fraction(1, 10_000)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        if path.suffix != ".avi":
            video.codec_context.time_base = tick
        audio = (
            container.add_stream("aac", rate=RATE_HZ, layout="mono") if sound is not None else None
        )
        for k, (picture, at_s) in enumerate(zip(frames, time_s, strict=True)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if path.suffix != ".avi":
                frame.time_base, frame.pts = tick, round(at_s / tick)
            else:
                frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            block = av.AudioFrame.from_ndarray(
                sound[None].astype(np.float32), format="fltp", layout="mono"
            )
            block.rate, block.pts = RATE_HZ, round(sound_starts_s * RATE_HZ)
            block.time_base = Fraction(1, RATE_HZ)
            container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path
