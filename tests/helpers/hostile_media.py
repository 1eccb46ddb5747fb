"""Broken and hostile media, as files; and functions that a decode process should survive.

`python tests/hostile_media.py FOLDER` writes the whole corpus there.
"""

import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
from PIL import Image

from features.media.limits import DecodeLimits
from features.timeline import FrameTimes
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
    """Two seconds of picture and sound."""
    return write_video(path, **{"sound": tone(2), "options": FASTSTART, **contents})


def changed(path: Path, change: Callable[[bytearray], object], **contents) -> None:
    """A good file with some bytes changed in place, or what the change returns."""
    data = bytearray(good(path, **contents).read_bytes())
    path.write_bytes(bytes(change(data) or data))


def coded(
    path: Path, codec: str, pix_fmt: str, *, size: tuple[int, int] = (64, 64), n_frames: int = 10
) -> None:
    """A video of another codec, pixel format or size, without sound."""
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


def sounding(
    path: Path,
    *,
    codec: str = "aac",
    rate_hz: int = RATE_HZ,
    layout: str = "mono",
    n_tracks: int = 1,
    starts_s: tuple[float, ...] = (0.0,),
    options: dict[str, str] | None = None,
) -> None:
    """Sound alone: tones of a second, at given times, in so many tracks."""
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
    """A container that announces pictures and holds none."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()


def flips(data: bytearray) -> None:
    """Every 199th byte of the media, from a tenth of it on."""
    start = data.index(b"mdat") + 4
    for at in range(start + (len(data) - start) // 10, len(data), 199):
        data[at] ^= 0xFF


def hole(data: bytearray) -> None:
    """400 bytes of zeros in the middle."""
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 400] = bytes(400)


def vast(data: bytearray) -> None:
    """An index that claims pictures of 65,535 x 65,535."""
    at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    data[at : at + 4] = struct.pack(">HH", 65_535, 65_535)


def turned(data: bytearray) -> None:
    """A display matrix that turns the picture by 90 degrees, as phones write it."""
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)


def endless(data: bytearray) -> None:
    """An index that claims to last for days."""
    for box, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        at = data.index(box) + 4 + offset
        data[at : at + 4] = struct.pack(">I", 0x7FFFFFF0)


def claims_days(data: bytearray) -> None:
    """A Matroska header that claims to last for twelve days."""
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 1e9)  # milliseconds


def without_rate(data: bytearray) -> None:
    """An AVI whose header gives 0 frames a second."""
    at = data.index(b"avih") + 8
    data[at : at + 4] = bytes(4)
    at = data.index(b"strh") + 8 + 20
    data[at : at + 8] = bytes(8)


def crops(folder: Path, *, bad: bytes | None = None, numbers: tuple[int, ...] = (1, 2, 3)) -> None:
    """Crops, the second of them perhaps of given bytes."""
    folder.mkdir()
    for number, picture in zip(numbers, draw_frames(len(numbers)), strict=True):
        Image.fromarray(picture).save(folder / f"{number:05d}.jpg")
    if bad is not None:
        (folder / "00002.jpg").write_bytes(bad)


def bomb_of_crops(folder: Path) -> None:
    """A small PNG of 400 million pixels among the crops."""
    crops(folder)
    Image.new("1", (20_000, 20_000)).save(folder / "00002.jpg", format="PNG")


def grown(path: Path) -> None:
    """A good file with more zeros behind it than a file may have bytes."""
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
    "flips.mp4": lambda p: changed(p, flips),
    "hole.mp4": lambda p: changed(p, hole, sound=None),
    "no-packets.mkv": no_packets,
    "sound-alone.mp4": sounding,
    "renamed.avi": lambda p: good(p.with_suffix(".mp4")).rename(p),
    "again.ts": lambda p: changed(p, lambda data: data * 2, options={}),
    "large.mp4": lambda p: coded(p, "libx264", "yuv420p", size=(1280, 960), n_frames=2),
    "vast.mp4": lambda p: changed(p, vast),
    "endless.mp4": lambda p: changed(p, endless),
    "claims-days.mkv": lambda p: changed(p, claims_days, options={}),
    "late.mkv": lambda p: good(p, time_s=LATE, options={}),
    "late-live.mkv": lambda p: good(p, time_s=LATE, sound=None, options=LIVE),
    "late-sound.mkv": lambda p: sounding(p, codec="pcm_s16le", starts_s=(0.0, 9e4), options=LIVE),
    "long.mp4": lambda p: good(p, time_s=np.arange(301) / 25, sound=None),
    "heavy.mp4": grown,
    "tracks.mkv": lambda p: sounding(p, n_tracks=9),
    "good-3.mp4": good,
    "no-rate.avi": lambda p: changed(p, without_rate, options={}),
    "one-frame.mp4": lambda p: good(p, time_s=np.zeros(1), sound=None),
    "10-bit-hevc.mp4": lambda p: coded(p, "libx265", "yuv420p10le"),
    "10-bit-h264.mp4": lambda p: coded(p, "libx264", "yuv420p10le"),
    "odd-444.mp4": lambda p: coded(p, "libx264", "yuv444p", size=(33, 17)),
    "grey.mkv": lambda p: coded(p, "ffv1", "gray"),
    "see-through.mkv": lambda p: coded(p, "ffv1", "yuva420p"),
    "animation.mov": lambda p: coded(p, "qtrle", "rgb24"),
    "turned.mp4": lambda p: changed(p, turned),
    "surround.mp4": lambda p: sounding(p, layout="5.1"),
    "telephone.mp4": lambda p: sounding(p, rate_hz=8000),
    "still-crop": lambda p: crops(p, bad=b"text"),
    "half-crop": lambda p: crops(p, bad=b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    "bomb-crop": bomb_of_crops,
    "far-crop": lambda p: crops(p, numbers=(1, 10**12)),
    "no-crop": lambda p: p.mkdir(),
    "eats.mp4": good,
    "spins.mp4": good,
    "dies.mp4": good,
    "trips.mp4": good,
    "writes.mp4": good,
    "good-4.mp4": good,
}


def write_corpus(folder: Path) -> None:
    """Every file of the corpus."""
    for name, make in FILES.items():
        make(folder / name)


def eats(path: str, fps: float | None, **_) -> None:
    """Take memory until there is none."""
    kept = []
    while True:
        kept.append(np.ones(10_000_000))


def spins(path: str, fps: float | None, **_) -> None:
    """Never end."""
    while True:
        pass


def dies(path: str, fps: float | None, **_) -> None:
    """End as a fault in native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def trips(path: str, fps: float | None, **_) -> None:
    """Fail as no decoder should."""
    raise ZeroDivisionError("a rate of 0")


def writes(path: str, fps: float | None, **_) -> None:
    """Write into the file that should only be read."""
    with Path(path).open("ab") as file:
        file.write(b"x")


def sleeps(path: str, fps: float | None, **_) -> None:
    """Wait without end, with a child of its own."""
    os.fork()
    signal.pause()


def lies(path: str, fps: float | None, **_) -> None:
    """Send what is no message."""
    Connection(os.dup(int(sys.argv[2]))).send_bytes(b"[1]")
    signal.pause()


def dawdles(path: str, fps: float | None, **_) -> Generator[list[np.ndarray], None, None]:
    """Have each of six pieces waited for."""
    for k in range(6):
        time.sleep(0.3)
        yield [np.full(4, k, np.uint8)]


def works(path: str, fps: float | None, **_) -> FrameTimes:
    """Use most of a second of processor time."""
    until_s = time.process_time() + 0.7
    while time.process_time() < until_s:
        pass
    return FrameTimes(np.zeros(1), np.zeros(1, np.int64))


TRAPS = {function.__name__: function for function in (eats, spins, dies, trips, writes)}

if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
