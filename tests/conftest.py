"""What tests share: small real media, and small seeded encoders of the real classes."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from small_media import RATE_HZ, TINY_AST, TINY_CLIP, draw_frames
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> dict[str, str]:
    """`model` and `pretrained` of a seeded CLIP, as local files."""
    folder = tmp_path_factory.mktemp("tiny_clip")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    torch.manual_seed(0)
    save_file(CLIP(**TINY_CLIP).state_dict(), folder / "tiny-clip.safetensors")
    return {
        "model": str(folder / "tiny-clip.json"),
        "pretrained": str(folder / "tiny-clip.safetensors"),
    }


@pytest.fixture(scope="session")
def tiny_ast(tmp_path_factory) -> str:
    """The folder of a seeded AST with windows of 1.28 s."""
    folder = tmp_path_factory.mktemp("tiny_ast")
    torch.manual_seed(0)
    ASTModel(ASTConfig(**TINY_AST)).save_pretrained(folder)
    ASTFeatureExtractor(max_length=TINY_AST["max_length"]).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make_video(tmp_path) -> Callable[..., Path]:
    """Write an H.264 video with given timestamps, and AAC sound if samples are given."""

    def make(
        name: str = "clip.mp4",
        *,
        time_s: np.ndarray | None = None,
        sound: np.ndarray | None = None,
        sound_starts_s: float = 0.0,
        frames: np.ndarray | None = None,
        options: dict[str, str] | None = None,
    ) -> Path:
        time_s = np.arange(50) / 25 if time_s is None else time_s
        frames = draw_frames(len(time_s)) if frames is None else frames
        tick = Fraction(1, 10_000)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options=options or {}) as container:
            video = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
            if not name.endswith(".avi"):
                video.codec_context.time_base = tick
            audio = (
                container.add_stream("aac", rate=RATE_HZ, layout="mono")
                if sound is not None
                else None
            )
            for k, (picture, at_s) in enumerate(zip(frames, time_s, strict=True)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                if not name.endswith(".avi"):
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

    return make


@pytest.fixture
def make_crops(tmp_path) -> Callable[..., Path]:
    """Write crops for the given frame numbers."""

    def make(numbers: list[int], name: str = "crops", seed: int = 0, side_px: int = 112) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        pictures = draw_frames(max(numbers), seed, side_px)
        for number in numbers:
            Image.fromarray(pictures[number - 1]).save(folder / f"{number:05d}.jpg", quality=95)
        return folder

    return make
