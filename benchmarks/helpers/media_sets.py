"""Videos for benchmarks: H.264 and AAC, seeded, with texture that moves, so that decoding costs.

What is made already is not made again. No frame is twice in a video, for such are encoded once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32, Int16, UInt8

from features.clip import Clip
from features.manifest.manifest import read_manifest, write_manifest

MEDIA = Path("data/benchmarks/media")
RATE_HZ = 44_100
HEIGHTS = {360: 640, 720: 1280}  # pixels: height and width
PAN_PX = 2  # that the background moves from frame to frame
KEY_S = 10  # from one key frame to the next: where a video can be cut
GRAIN = 4.0  # grey levels, standard deviation: the noise of a camera
N_GRAINS = 7  # different noises that take turns
CRF = "23"  # x264's own default: what phones and the web write


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides what a video costs."""

    seconds: float
    fps: int = 30
    height: int = 360
    has_sound: bool = True

    @property
    def n_frames(self) -> int:
        """How many frames it has."""
        return round(self.seconds * self.fps)

    @property
    def name(self) -> str:
        """Of files of that shape."""
        return f"{self.height}p{self.fps}-{self.seconds:g}s"


def make_set(folder: Path, shape: Shape, n_clips: int, *, n_files: int | None = None) -> Path:
    """The manifest of so many clips of a shape; where there are fewer files, they take turns."""
    n_files = n_files or n_clips
    names = [f"{shape.name}-{seed}.mp4" for seed in range(n_files)]
    for seed, name in enumerate(names):
        if not (folder / name).exists():
            write_video(folder / name, shape, seed)
    manifest = folder / f"{shape.name}-{n_clips}-of-{n_files}.jsonl"
    clips = [Clip(id=f"c{k:04d}", video=names[k % n_files]) for k in range(n_clips)]
    write_manifest(manifest, clips)
    return manifest


def make_cuts(folder: Path, longest: Shape, seconds: tuple[int, ...]) -> dict[int, Path]:
    """By seconds, the manifest of one clip that is the beginning of the longest."""
    whole = videos(make_set(folder, longest, 1))[0]
    manifests: dict[int, Path] = {}
    for length_s in seconds:
        path = folder / f"{longest.name}-first-{length_s}s.mp4"
        if not path.exists():
            _cut(whole, path, length_s)
        manifests[length_s] = path.with_suffix(".jsonl")
        write_manifest(manifests[length_s], [Clip(id="c0000", video=path.name)])
    return manifests


def videos(manifest: Path) -> list[Path]:
    """The files of a manifest's clips."""
    clips = read_manifest(manifest)
    return [clips.path(clip.video) for clip in clips.clips if clip.video]


def write_video(path: Path, shape: Shape, seed: int) -> Path:
    """A video of moving texture, with a changing sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    with av.open(str(unfinished), "w") as container:
        options = {"preset": "veryfast", "crf": CRF, "sc_threshold": "0"}
        video = container.add_stream("libx264", rate=shape.fps, options=options)
        video.height, video.width = shape.height, HEIGHTS[shape.height]
        video.pix_fmt, video.gop_size = "yuv420p", KEY_S * shape.fps
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for picture in pictures(shape, seed):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if shape.has_sound:
            samples = sound(shape.seconds, seed)
            block = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            block.rate, block.pts, block.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
            container.mux(audio.encode(block))
            container.mux(audio.encode())
    return unfinished.replace(path)


def _cut(source: Path, path: Path, seconds: int) -> None:
    """The beginning of a video, up to a key frame: its packets, not encoded again."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    with av.open(str(source)) as given, av.open(str(unfinished), "w") as container:
        streams = {s.index: container.add_stream_from_template(s) for s in given.streams}
        for packet in given.demux():
            if packet.dts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    unfinished.replace(path)


def pictures(shape: Shape, seed: int) -> Iterator[UInt8[np.ndarray, "_ W"]]:
    """Planes of YUV 4:2:0: a texture that passes by, a lit shape that moves before it, grain."""
    rng = np.random.default_rng(seed)
    height, width = shape.height, HEIGHTS[shape.height]
    luma = _texture(rng, height, width)
    chroma = [_texture(rng, height // 2, width // 2).astype(np.uint8) for _ in "uv"]
    grains = rng.normal(0, GRAIN, (N_GRAINS, height, width)).astype(np.int16)
    y, x = np.mgrid[-height:height, -width:width] / height
    far = x**2 + y**2
    light = (90 * np.exp(-far / 0.03) * np.cos(60 * far)).astype(np.int16)
    planes = np.empty((height * 3 // 2, width), np.uint8)
    for k in range(shape.n_frames):
        at = PAN_PX * k % width
        row = round(height * (0.5 + 0.2 * np.sin(k / 17)))
        column = round(width * (0.5 + 0.3 * np.sin(k / 29 + seed)))
        picture = luma[:, at : at + width] + grains[k % N_GRAINS]
        picture += light[row : row + height, column : column + width]
        planes[:height] = picture.clip(0, 255)
        colours = [plane[:, at // 2 : (at + width) // 2].ravel() for plane in chroma]
        planes[height:] = np.concatenate(colours).reshape(-1, width)
        yield planes


def sound(seconds: float, seed: int) -> Float32[np.ndarray, "S"]:
    """Tones that glide and swell, with noise: nothing in it is silent, and nothing repeats."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch_hz = 160 + 60 * np.sin(2 * np.pi * rng.uniform(0.2, 0.5) * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    loud = 0.3 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 3) * time_s)
    voice = sum(np.sin(k * phase) / k for k in range(1, 6))
    return (0.3 * loud * voice + 0.02 * rng.standard_normal(len(time_s))).astype(np.float32)


def _texture(rng: np.random.Generator, height: int, width: int) -> Int16[np.ndarray, "H W"]:
    """Noise of several grains, coarse ones stronger; as wide once more, and the same there."""
    texture = np.full((height, width), 127, np.int16)
    for cell, strength in ((90, 50), (30, 25), (10, 15), (2, 10)):
        shape = (-(-height // cell), -(-width // cell))
        noise = rng.integers(-strength, strength, shape, dtype=np.int16)
        texture += noise.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    return np.concatenate([texture, texture], axis=1)
