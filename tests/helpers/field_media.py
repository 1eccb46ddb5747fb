"""Writes media as phones, browsers, recorders, cameras, broadcasters and editors do.

Frames and sounds are encoded once; then their packets get the timestamps that the file shall have,
or are left out. So what a file should give is known from how it was made.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import av.container
import numpy as np
from av.stream import Disposition

FPS = 25
RATE_HZ = 48_000  # of the sounds
BLOCK = 960  # samples
BEEP_S = 0.1
BEEP_HZ = 1000
CLOCK = Fraction(1, 90_000)  # of the timestamps before the container rounds them

PRIMING_S = {"aac": 1024 / RATE_HZ, "libmp3lame": 1105 / RATE_HZ, "libopus": 312 / RATE_HZ}
PRIMING_S |= {"pcm_s16le": 0.0}  # what an encoder puts before the sound: the media time counts it

Packets = list[av.Packet]
Matrix = tuple[int, int, int, int]
"""a, b, c, d of a display matrix (ISO/IEC 14496-12, 6.2.2)."""

X264 = {"preset": "veryfast", "threads": "1", "x264-params": "log-level=none"}
VIDEO_OPTIONS = {
    "libx264": X264,
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
}
SAMPLE_FORMATS = {"aac": "fltp", "libopus": "flt", "libmp3lame": "fltp", "ac3": "fltp"}


def unchanged(packets: Packets) -> Packets:
    """The packets as they are."""
    return packets


def without(*numbers: int) -> Callable[[Packets], Packets]:
    """Leave out packets, by their number in the order of the file."""
    return lambda packets: [p for k, p in enumerate(packets) if k not in numbers]


def ticks(time_s: float) -> int:
    """Seconds in ticks of `CLOCK`."""
    return round(time_s / CLOCK)


def steps(n_frames: int, start_s: float = 0.0) -> np.ndarray:
    """Times of frames at `FPS`."""
    return start_s + np.arange(n_frames) / FPS


def draw(n_frames: int, width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """Frames (T, H, W, 3) whose corners differ, smooth enough to survive a codec."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    corner = (x > width / 2) * 90 + (y > height / 2) * 45
    shade = rng.uniform(0, 40, 3) + np.arange(n_frames)[:, None] * 3 % 60
    blob = 60 * np.exp(-(((x - width / 4) / 9) ** 2) - ((y - height / 3) / 5) ** 2)
    frames = (corner + blob)[None, ..., None] + shade[:, None, None]
    return np.clip(frames, 0, 255).astype(np.uint8)


def displayed(matrix: Matrix, frames: np.ndarray) -> np.ndarray:
    """Frames as a display matrix says: pixel (x, y) goes to (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    y, x = np.mgrid[0 : frames.shape[1], 0 : frames.shape[2]]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    shown = np.zeros((len(frames), to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    shown[:, to_y, to_x] = frames
    return shown


@dataclass(frozen=True)
class Video:
    """A video track: `time_s` are the presentation times of its frames."""

    time_s: np.ndarray = field(default_factory=lambda: steps(50))
    codec: str = "libx264"
    frames: np.ndarray | None = None
    options: dict[str, str] = field(default_factory=dict)
    """Of the encoder; `bf` is the number of B-frames, `g` the distance of key frames."""
    written_s: Sequence[float | None] | None = None
    """The timestamps in the file, where they are not the presentation times."""
    pixel_aspect: Fraction | None = None
    matrix: Matrix | None = None
    disposition: Disposition = Disposition.default
    change: Callable[[Packets], Packets] = unchanged

    def add_to(self, container: av.container.OutputContainer) -> av.VideoStream:
        """Add the stream to a container."""
        frames = self._frames()
        options = VIDEO_OPTIONS.get(self.codec, {}) | self.options
        stream = container.add_stream(self.codec, rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if self.codec == "mjpeg" else "yuv420p"
        stream.disposition = self.disposition
        if self.pixel_aspect:
            stream.codec_context.sample_aspect_ratio = self.pixel_aspect
        if self.matrix:
            a, b, c, d = (entry << 16 for entry in self.matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        return stream

    def packets(self, stream: av.VideoStream) -> Packets:
        """The encoded frames, in the order of decoding."""
        coded: Packets = []
        for k, pixels in enumerate(self._frames()):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = k
            coded += stream.encode(frame)
        coded += stream.encode(None)
        written_s = self.time_s if self.written_s is None else self.written_s
        is_reordered = any(one.pts > other.pts for one, other in pairwise(coded))
        decoded_s = [self._time_at(p.dts if is_reordered else p.pts) for p in coded]
        stamps_s = [written_s[packet.pts] for packet in coded]
        # no timestamp may lie before its packet is decoded
        lead_s = max(
            max(0.0, at_s - stamp_s)
            for at_s, stamp_s in zip(decoded_s, stamps_s, strict=True)
            if stamp_s is not None
        )
        for packet, at_s, stamp_s in zip(coded, decoded_s, stamps_s, strict=True):
            packet.duration = ticks(1 / FPS)
            packet.time_base = CLOCK
            packet.pts, packet.dts = (
                None if stamp_s is None else ticks(stamp_s),
                ticks(at_s - lead_s),
            )
        return self.change(coded)

    def _time_at(self, index: int) -> float:
        return self.time_s[index] if index >= 0 else self.time_s[0] + index / FPS

    def _frames(self) -> np.ndarray:
        return draw(len(self.time_s)) if self.frames is None else self.frames


@dataclass(frozen=True)
class Sound:
    """An audio track of silence with beeps of 0.1 s; times count from the start of the track."""

    beeps_s: Sequence[float] = (1.0,)
    seconds: float = 2.0
    codec: str = "aac"
    start_s: float = 0.0
    clock: float = 1.0
    """Seconds of the timestamps in a second of samples: 1.02 is a clock that runs 2 % slow."""
    disposition: Disposition = Disposition.default
    change: Callable[[Packets], Packets] = unchanged

    def add_to(self, container: av.container.OutputContainer) -> av.AudioStream:
        """Add the stream to a container."""
        stream = container.add_stream(self.codec, rate=RATE_HZ, layout="mono")
        stream.disposition = self.disposition
        return stream

    def packets(self, stream: av.AudioStream) -> Packets:
        """The encoded sound."""
        samples = beeping(self.beeps_s, self.seconds)
        kind = SAMPLE_FORMATS.get(self.codec, "s16")
        samples = samples[None] if kind.startswith("flt") else (samples[None] * 32767).astype("i2")
        coded: Packets = []
        for start in range(0, samples.shape[1], BLOCK):  # a packet of PCM holds what one call gives
            block = np.ascontiguousarray(samples[:, start : start + BLOCK])
            frame = av.AudioFrame.from_ndarray(block, kind, "mono")
            frame.rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
            coded += stream.encode(frame)
        coded += stream.encode(None)
        for packet in coded:
            at_s = self.start_s + float(packet.pts * packet.time_base) * self.clock
            packet.duration = ticks(float(packet.duration * packet.time_base))
            packet.time_base = CLOCK
            packet.pts = packet.dts = ticks(at_s)
        return self.change(coded)


def beeping(beeps_s: Iterable[float], n_seconds: float) -> np.ndarray:
    """Silence with beeps (S,)."""
    t = np.arange(round(n_seconds * RATE_HZ)) / RATE_HZ
    is_loud = np.zeros(len(t), bool)
    for beep_s in beeps_s:
        is_loud |= (t >= beep_s) & (t < beep_s + BEEP_S)
    return (0.5 * np.sin(2 * np.pi * BEEP_HZ * t) * is_loud).astype(np.float32)


def write_media(
    path: Path,
    *tracks: Video | Sound,
    start_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write tracks to one file, in their order; `start_s` is added to all timestamps."""
    with av.open(str(path), "w", options=options or {}) as container:
        streams = [track.add_to(container) for track in tracks]
        packets: Packets = []
        for track, stream in zip(tracks, streams, strict=True):
            for packet in track.packets(stream):
                packet.stream = stream
                packets.append(packet)
        container.start_encoding()
        for packet in sorted(packets, key=lambda packet: packet.dts):
            if packet.pts is not None:
                packet.pts += ticks(start_s)
            packet.dts += ticks(start_s)
            container.mux_one(packet)
    return path


def beeps_s(samples: np.ndarray, start_s: float, rate_hz: int) -> np.ndarray:
    """When the beeps in decoded samples begin, in seconds."""
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    is_first = np.diff(loud, prepend=-rate_hz) > BEEP_S / 4 * rate_hz
    return start_s + loud[is_first] / rate_hz


def join(*parts: Path) -> Path:
    """Append files to the first one, byte by byte, as `cat` does."""
    parts[0].write_bytes(b"".join(part.read_bytes() for part in parts))
    return parts[0]


def held(n_seconds: float) -> Callable[[Packets], Packets]:
    """Show the last picture for longer, as in a recording of a screen on which nothing moves."""

    def change(packets: Packets) -> Packets:
        max(packets, key=lambda packet: packet.pts).duration = ticks(n_seconds)
        return packets

    return change


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """The type of each box of an MP4 and where its content starts and stops."""
    while start < stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        yield kind, start + 8, start + size
        start += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def set_edits(path: Path, edits: Sequence[tuple[float, float | None]], number: int = 0) -> Path:
    """Give a track of an MP4 these edits: seconds to show, and from which second of the track on.

    None instead of a second shows nothing for so long. Seconds count from where the track starts
    by its present edit list, which leaves out the priming of sound and the delay of B-frames.
    """
    data = path.read_bytes()
    boxes = list(_boxes(data, 0, len(data)))
    assert boxes[-1][0] == b"moov", "nothing may come after the index, or offsets would change"
    _, start, stop = boxes[-1]
    moov = [(kind, data[first:last]) for kind, first, last in _boxes(data, start, stop)]
    [movie_rate] = [_timescale(content) for kind, content in moov if kind == b"mvhd"]
    traks = [k for k, (kind, _) in enumerate(moov) if kind == b"trak"]
    content = moov[traks[number]][1]
    trak = [(kind, content[first:last]) for kind, first, last in _boxes(content, 0, len(content))]
    [mdia] = [content for kind, content in trak if kind == b"mdia"]
    [media_rate] = [
        _timescale(mdia[first:last])
        for kind, first, last in _boxes(mdia, 0, len(mdia))
        if kind == b"mdhd"
    ]
    zero = next((_last_media_time(content) for kind, content in trak if kind == b"edts"), 0)
    entries = [
        struct.pack(
            ">IiI",
            round(shown_s * movie_rate),
            -1 if from_s is None else zero + round(from_s * media_rate),
            1 << 16,
        )
        for shown_s, from_s in edits
    ]
    elst = _box(b"elst", struct.pack(">II", 0, len(entries)) + b"".join(entries))
    kept = [(kind, content) for kind, content in trak if kind != b"edts"]
    kept.insert(1, (b"edts", elst))
    moov[traks[number]] = b"trak", b"".join(_box(*each) for each in kept)
    path.write_bytes(data[: start - 8] + _box(b"moov", b"".join(_box(*each) for each in moov)))
    return path


def _last_media_time(edts: bytes) -> int:
    """Of the last entry: before it, nothing is shown for a while."""
    size = 8 if edts[8] == 0 else 16  # of a duration with a media time
    return struct.unpack_from(">i" if size == 8 else ">q", edts, len(edts) - 4 - size // 2)[0]


def _timescale(header: bytes) -> int:
    return struct.unpack_from(">I", header, 20 if header[0] else 12)[0]


def with_unknown_codec(path: Path) -> Path:
    """Replace the codec of the first AAC track of an MP4 by one that nobody decodes."""
    data = bytearray(path.read_bytes())
    at = data.index(b"mp4a", data.index(b"stsd"))
    data[at : at + 4] = b"apac"
    at = data.index(b"esds", at)
    data[at : at + 4] = b"free"
    path.write_bytes(data)
    return path


def empty_chunks(path: Path, numbers: Iterable[int]) -> Path:
    """Turn video chunks of an AVI into chunks of 0 bytes, which repeat the picture before."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    index = data.rindex(b"idx1") + 8
    entries = [at for at in range(index, len(data), 16) if data[at : at + 4] == b"00dc"]
    for number in numbers:
        at, size = places[number]
        at = data.index(b"00dc", at - 8) + 4
        data[at : at + 12] = struct.pack("<I4sI", 0, b"JUNK", size - 8)  # what is left of it
        data[entries[number] + 12 : entries[number] + 16] = bytes(4)
    path.write_bytes(data)
    return path


TS_PACKET = 188


def two_programs(path: Path, *programs: Path) -> Path:
    """Merge transport streams, each written with its own packet identifiers, as a broadcaster does.

    The tables of programs (PID 0) become one that lists all.
    """
    parts = [
        [part[at : at + TS_PACKET] for at in range(0, len(part), TS_PACKET)]
        for part in (program.read_bytes() for program in programs)
    ]
    listed, others = b"", []
    for part in parts:
        pats = [packet for packet in part if _pid(packet) == 0]
        listed += pats[0][13:17]
        others += [[packet for packet in part if _pid(packet) not in (0, 17)]]
    section = struct.pack(">BHHBBB", 0, 0xB000 | (9 + len(listed)), 1, 0xC1, 0, 0) + listed
    section += struct.pack(">I", _crc32_mpeg(section))
    pat = (b"\x47\x40\x00\x10\x00" + section).ljust(TS_PACKET, b"\xff")
    longest = max(len(part) for part in others)
    mixed = [part[k] for k in range(longest) for part in others if k < len(part)]
    path.write_bytes(pat + b"".join(mixed))
    return path


def _pid(packet: bytes) -> int:
    return struct.unpack_from(">H", packet, 1)[0] & 0x1FFF


def _crc32_mpeg(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def cut_before_frame(path: Path, number: int) -> Path:
    """Cut a file where the packet of a video frame begins, as when a recorder is killed."""
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: starts[number]])
    return path


def skip_bytes(path: Path, share: float) -> Path:
    """Cut off the start of a transport stream at a packet, as tuning in does."""
    data = path.read_bytes()
    path.write_bytes(data[round(share * len(data) / TS_PACKET) * TS_PACKET :])
    return path


def png_of_16_bits(path: Path, samples: np.ndarray) -> None:
    """A PNG of 16-bit samples (H, W, C), which Pillow cannot write with 3 or 4 channels."""
    height, width, n_channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[n_channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )
