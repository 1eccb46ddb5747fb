"""Broken and hostile media files.

`python -m tests.helpers.hostile_media FOLDER` writes the whole corpus there.
"""

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

from features.media.limits import DecodeLimits
from tests.helpers.small_media import RATE_HZ, draw_frames, tone, write_video

LIMITS = DecodeLimits(
    memory_mib=384,
    cpu_s=2,
    file_bytes=4_000_000,
    pixels=1_000_000,
    frames=300,
    duration_s=120,
    streams=8,
)
FASTSTART = {"movflags": "faststart"}  # the index first, as streamed files have it


def good(path: Path, **contents) -> Path:
    """Two seconds of video and audio."""
    return write_video(path, **{"sound": tone(2), "options": FASTSTART, **contents})


def changed(path: Path, change: Callable[[bytearray], object], **contents) -> None:
    """A good file with bytes changed in place, or replaced by what `change` returns."""
    data = bytearray(good(path, **contents).read_bytes())
    path.write_bytes(bytes(change(data) or data))


def coded(
    path: Path, codec: str, pix_fmt: str, *, size: tuple[int, int] = (64, 64), n_frames: int = 10
) -> None:
    """A video of another codec, pixel format or size, without audio."""
    width, height = size
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        shades = np.linspace(0, 255, height * width * 3, dtype=np.uint8).reshape(height, width, 3)
        for k in range(n_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(shades, 5 * k, axis=0), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def audio_file(
    path: Path,
    *,
    codec: str = "aac",
    rate_hz: int = RATE_HZ,
    layout: str = "mono",
    n_tracks: int = 1,
    starts_s: tuple[float, ...] = (0.0,),
    options: dict[str, str] | None = None,
) -> None:
    """Audio only: tones of one second at given times, in `n_tracks` streams."""
    n_channels = {"mono": 1, "5.1": 6}[layout]
    wave = (0.4 * np.sin(np.arange(rate_hz) * 440 * 2 * np.pi / rate_hz)).astype(np.float32)
    kind, samples = "fltp", np.repeat(wave[None], n_channels, axis=0)
    if codec.startswith("pcm"):
        kind, samples = "s16", (wave[None] * 32767).astype(np.int16)
    with av.open(str(path), "w", options=options or {}) as container:
        tracks = [container.add_stream(codec, rate=rate_hz, layout=layout) for _ in range(n_tracks)]
        for track in tracks:
            for start_s in starts_s:
                block = av.AudioFrame.from_ndarray(samples, kind, layout)
                block.rate, block.pts = rate_hz, round(start_s * rate_hz)
                container.mux(track.encode(block))
            container.mux(track.encode(None))


def no_packets(path: Path) -> None:
    """A container with a video stream and no packet."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()


def flip_bytes(data: bytearray) -> None:
    """Every 199th byte of the media, from a tenth of it on."""
    start = data.index(b"mdat") + 4
    for at in range(start + (len(data) - start) // 10, len(data), 199):
        data[at] ^= 0xFF


def zero_middle(data: bytearray) -> None:
    """400 bytes of zeros in the middle."""
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 400] = bytes(400)


def claim_large(data: bytearray) -> None:
    """An index that claims frames of 65,535 x 65,535."""
    at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    data[at : at + 4] = struct.pack(">HH", 65_535, 65_535)


def rotate(data: bytearray) -> None:
    """A display matrix that rotates by 90 degrees, as phones write it."""
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)


def claim_days_mp4(data: bytearray) -> None:
    """An index that claims to last for days."""
    for box, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        at = data.index(box) + 4 + offset
        data[at : at + 4] = struct.pack(">I", 0x7FFFFFF0)


def claim_days_mkv(data: bytearray) -> None:
    """A Matroska header that claims to last for twelve days."""
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 1e9)  # milliseconds


def remove_rate(data: bytearray) -> None:
    """An AVI whose header gives 0 frames a second."""
    at = data.index(b"avih") + 8
    data[at : at + 4] = bytes(4)
    at = data.index(b"strh") + 8 + 20
    data[at : at + 8] = bytes(8)


def crops(folder: Path, *, bad: bytes | None = None, numbers: tuple[int, ...] = (1, 2, 3)) -> None:
    """Crops; `bad` replaces the bytes of the second."""
    folder.mkdir()
    for number, picture in zip(numbers, draw_frames(len(numbers)), strict=True):
        Image.fromarray(picture).save(folder / f"{number:05d}.jpg")
    if bad is not None:
        (folder / "00002.jpg").write_bytes(bad)


def decompression_bomb(folder: Path) -> None:
    """Crops with a small PNG of 400 million pixels."""
    crops(folder)
    Image.new("1", (20_000, 20_000)).save(folder / "00002.jpg", format="PNG")


def exceed_size(path: Path) -> None:
    """A good file, extended with zeros beyond the size limit."""
    os.truncate(good(path), 5_000_000)


HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ngood-1.mp4\n#EXT-X-ENDLIST\n"
LIVE = {"live": "1"}  # a Matroska that claims no duration
LATE = np.array([0, 0.04, 0.08, 9e4])
FILES: dict[str, Callable[[Path], object]] = {
    "good-1.mp4": good,
    "empty.mp4": lambda p: p.write_bytes(b""),
    "text.mp4": lambda p: p.write_bytes(b"a text, not a video\n" * 50),
    "noise.mp4": lambda p: p.write_bytes(np.random.default_rng(0).bytes(50_000)),
    "ffconcat.mp4": lambda p: p.write_bytes(b"ffconcat version 1.0\nfile good-1.mp4\n"),
    "hls.mp4": lambda p: p.write_bytes(HLS),
    "picture.mp4": lambda p: Image.new("RGB", (64, 64)).save(p, format="PNG"),
    "no-head.mp4": lambda p: changed(p, lambda data: data[2000:]),
    "no-tail.mp4": lambda p: changed(p, lambda data: data[: len(data) // 2]),
    "no-tail.mkv": lambda p: changed(p, lambda data: data[: len(data) // 2], options={}),
    "no-index.mp4": lambda p: changed(p, lambda data: data[: len(data) // 2], options={}),
    "good-2.mp4": good,
    "flips.mp4": lambda p: changed(p, flip_bytes),
    "hole.mp4": lambda p: changed(p, zero_middle, sound=None),
    "no-packets.mkv": no_packets,
    "sound-alone.mp4": audio_file,
    "renamed.avi": lambda p: good(p.with_suffix(".mp4")).rename(p),
    "again.ts": lambda p: changed(p, lambda data: data * 2, options={}),
    "large.mp4": lambda p: coded(p, "libx264", "yuv420p", size=(1280, 960), n_frames=2),
    "vast.mp4": lambda p: changed(p, claim_large),
    "endless.mp4": lambda p: changed(p, claim_days_mp4),
    "claims-days.mkv": lambda p: changed(p, claim_days_mkv, options={}),
    "late.mkv": lambda p: good(p, time_s=LATE, options={}),
    "late-live.mkv": lambda p: good(p, time_s=LATE, sound=None, options=LIVE),
    "late-sound.mkv": lambda p: audio_file(p, codec="pcm_s16le", starts_s=(0.0, 9e4), options=LIVE),
    "long.mp4": lambda p: good(p, time_s=np.arange(301) / 25, sound=None),
    "heavy.mp4": exceed_size,
    "tracks.mkv": lambda p: audio_file(p, n_tracks=9),
    "good-3.mp4": good,
    "no-rate.avi": lambda p: changed(p, remove_rate, options={}),
    "one-frame.mp4": lambda p: good(p, time_s=np.zeros(1), sound=None),
    "10-bit-hevc.mp4": lambda p: coded(p, "libx265", "yuv420p10le"),
    "10-bit-h264.mp4": lambda p: coded(p, "libx264", "yuv420p10le"),
    "odd-444.mp4": lambda p: coded(p, "libx264", "yuv444p", size=(33, 17)),
    "grey.mkv": lambda p: coded(p, "ffv1", "gray"),
    "see-through.mkv": lambda p: coded(p, "ffv1", "yuva420p"),
    "animation.mov": lambda p: coded(p, "qtrle", "rgb24"),
    "turned.mp4": lambda p: changed(p, rotate),
    "surround.mp4": lambda p: audio_file(p, layout="5.1"),
    "telephone.mp4": lambda p: audio_file(p, rate_hz=8000),
    "still-crop": lambda p: crops(p, bad=b"text"),
    "half-crop": lambda p: crops(p, bad=b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    "bomb-crop": decompression_bomb,
    "far-crop": lambda p: crops(p, numbers=(1, 10**12)),
    "no-crop": lambda p: p.mkdir(),
    "exhaust_memory.mp4": good,
    "spin.mp4": good,
    "crash.mp4": good,
    "divide_by_zero.mp4": good,
    "write.mp4": good,
    "good-4.mp4": good,
}


def write_corpus(folder: Path) -> None:
    """Write every file of the corpus."""
    for name, make in FILES.items():
        make(folder / name)


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
