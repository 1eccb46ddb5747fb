"""Media as people have them: rows, times and sound against how each file was made.

Each case is named by how such a file comes about. `ffprobe -count_frames` counts the same rows.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from av.stream import Disposition

from features.clip import Source
from features.encoders.ast import AstConfig
from features.errors import MediaError
from features.extraction.batching import encode_all
from features.extraction.prefetch import ReadTask
from features.media.limits import DEFAULT_LIMITS
from features.media.tracks import BY_FILE, TrackNumbers
from features.media.worker.requests import decode_audio, decode_video
from tests.helpers.field_media import (
    FPS,
    PRIMING_S,
    Packets,
    Sound,
    Video,
    beeps_s,
    cut_before_frame,
    empty_chunks,
    held,
    join,
    set_edits,
    skip_bytes,
    steps,
    two_programs,
    with_unknown_codec,
    without,
    write_media,
)
from tests.helpers.whole_media import collect

RATE_HZ = 16_000
WRAP_S = 2**33 / 90_000  # where the clock of a transport stream starts again
TIME_ERROR_S = 0.0011  # Matroska and FLV round timestamps to milliseconds
BEEP_ERROR_S = 0.015  # 10 ms that samples may be off their timestamps, and a codec's blur
NOT_DEFAULT = Disposition(0)

NO_B = Video(options={"bf": "0"})
OPEN_GOP = {"x264-params": "log-level=none:open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=2"}
MP3 = Sound(codec="libmp3lame")
PCM = Sound(codec="pcm_s16le")
OPUS = Sound(codec="libopus")


@dataclass(frozen=True)
class Case:
    """How a file is made, and what it gives."""

    name: str
    """The last word is the name of the file."""
    make: Callable[[Path], Path]
    rows: int
    first_s: float
    last_s: float
    beeps_s: Sequence[float] | None = (1.0,)
    """When the beeps begin; None if there is no sound."""
    note: str | None = None
    """A pattern of the note of the frame times."""
    sound_note: str | None = None
    numbers: TrackNumbers = BY_FILE


def from_key(number: int) -> Callable[[Packets], Packets]:
    """Leave out what comes before a key frame in the order of decoding."""

    def change(packets: Packets) -> Packets:
        keys = [k for k, packet in enumerate(packets) if packet.is_keyframe]
        return packets[keys[number] :]

    return change


def stamps(changes: dict[int, float | None], start_s: float = 0.0) -> list[float | None]:
    """The timestamps of 50 frames, some of them changed."""
    return [changes.get(k, float(at_s)) for k, at_s in enumerate(steps(50, start_s))]


def edited(path: Path, edits: Sequence[tuple[float, float | None]], **options: str) -> Path:
    """Four seconds with beeps at 0.5, 1.5, 2.5 and 3.5 s, and edits of both tracks."""
    write_media(path, Video(steps(100), options=options), Sound((0.5, 1.5, 2.5, 3.5), 4))
    for track in (0, 1):
        set_edits(path, edits, track)
    return path


BEEP = Sound((0.5,))
JOINED = r"the clock of the file jumps \(1x\): its parts are joined"


def two_recordings(
    path: Path,
    first_s: float,
    second_s: float,
    first: Sound | None = BEEP,
    second: Sound | None = BEEP,
) -> Path:
    """Two recordings in one transport stream, as `cat` or a recorder without a pause makes it."""
    parts = [(path, first_s, first), (path.with_suffix(".2.ts"), second_s, second)]
    written = [
        write_media(part, NO_B, *([sound] if sound else []), start_s=start_s)
        for part, start_s, sound in parts
    ]
    return join(*written)


def programs(path: Path) -> Path:
    """The first program shows 50 frames and beeps at 0.5 s, the second 30 and at 0.25 s."""
    parts = [(NO_B, Sound((0.5,))), (Video(steps(30), options={"bf": "0"}), Sound((0.25,), 1.2))]
    files = [
        write_media(
            path.with_suffix(f".{n}.ts"),
            *tracks,
            start_s=1,
            options={
                "mpegts_service_id": str(n + 1),
                "mpegts_pmt_start_pid": str(4096 + 16 * n),
                "mpegts_start_pid": str(256 + 16 * n),
            },
        )
        for n, tracks in enumerate(parts)
    ]
    return two_programs(path, *files)


LOST = [n for n in range(400) if n % 50 > 12 and n % 4 == 1]  # of packets of 20 ms
BEEP_PER_S = tuple(float(k) for k in range(8))
UNEVEN_S = np.cumsum([0.0, *np.tile([0.02, 0.05, 0.033, 0.2], 10)])  # 0 to 3.03 s
THIRDS = np.arange(100) % 3 != 1
CASES = [
    # phones
    Case(
        "phone held upright turned.mp4",
        lambda p: write_media(p, Video(matrix=(0, 1, -1, 0)), Sound()),
        *(50, 0, 1.96),
    ),
    Case(
        "phone, sound for headphones first in a codec of its own spatial.mov",
        lambda p: with_unknown_codec(write_media(p, Video(), Sound((0.3,)), Sound())),
        *(50, 0, 1.96),
        sound_note=r"audio track 1 of 2 is decoded, not 0 \(unknown\)",
    ),
    Case(
        "phone or camera, a still as first track thumbnail.mov",
        lambda p: write_media(
            p, Video(steps(1), "mjpeg", disposition=NOT_DEFAULT), Video(), Sound()
        ),
        *(50, 0, 1.96),
        note=r"video track 1 of 2 is decoded, not 0 \(mjpeg\)",
    ),
    Case(
        "phone, in poor light vfr.mp4",
        lambda p: write_media(p, Video(UNEVEN_S), Sound()),
        *(41, 0, UNEVEN_S[-1]),
    ),
    # browsers
    Case(
        "browser, MediaRecorder live.webm",
        lambda p: write_media(p, Video(codec="libvpx"), OPUS, options={"live": "1"}),
        *(50, 0, 1.96),
    ),
    Case(
        "browser, MediaRecorder with a doubled block double.webm",
        lambda p: write_media(
            p,
            Video(UNEVEN_S, "libvpx", written_s=[*UNEVEN_S[:19], UNEVEN_S[18], *UNEVEN_S[20:]]),
            OPUS,
            options={"live": "1"},
        ),
        *(41, 0, UNEVEN_S[-1]),
        note="timestamps mended: 1",
    ),
    # recorders of screens and streams
    Case(
        "OBS, sound starts late late.mkv",
        lambda p: write_media(p, NO_B, Sound(start_s=3.0)),
        *(50, 0, 1.96, (4.0,)),
    ),
    Case(
        "OBS, sound starts late late.flv",
        lambda p: write_media(p, NO_B, Sound(start_s=3.0)),
        *(50, 0, 1.96, (4.0,)),
    ),
    Case(
        "OBS, sound outlasts the picture longer.mkv",
        lambda p: write_media(p, NO_B, Sound((1.0, 5.0), 6, start_s=0.1)),
        *(50, 0, 1.96, (1.1, 5.1)),
    ),
    Case(
        "OBS, sound outlasts the picture longer.flv",
        lambda p: write_media(p, NO_B, Sound((1.0, 5.0), 6, start_s=0.1)),
        *(50, 0, 1.96, (1.1, 5.1)),
    ),
    Case(
        "OBS, killed while recording killed.mkv",
        lambda p: cut_before_frame(
            write_media(p, NO_B, Sound(start_s=0.1), options={"live": "1"}), 40
        ),
        *(40, 0, 1.56, (1.1,)),
    ),
    *(
        Case(
            f"screen recorder, ends on a still picture still.{suffix}",
            lambda p: write_media(
                p, Video(options={"bf": "0"}, change=held(4)), Sound(start_s=0.1)
            ),
            *(50, 0, 1.96, (1.1,)),
        )
        for suffix in ("mp4", "mkv", "ts")
    ),
    # dashboard cameras
    Case(
        "dashcam, clock of the day day.ts",
        lambda p: write_media(p, NO_B, Sound(), start_s=40_000),
        *(50, 40_000, 40_001.96, (40_001.0,)),
    ),
    *(
        Case(
            f"dashcam, dropped frames as chunks of 0 bytes dropped-{codec}.avi",
            lambda p, codec=codec: write_media(
                p, Video(steps(100)[THIRDS], codec), Sound(codec="pcm_s16le", seconds=4)
            ),
            *(67, 0, 3.96),
        )
        for codec in ("mpeg4", "mjpeg")
    ),
    Case(
        "dashcam, dropped frames at the end end-dropped.avi",
        lambda p: empty_chunks(write_media(p, Video(codec="mjpeg"), PCM), range(30, 50)),
        *(30, 0, 1.16),
    ),
    Case(
        "dashcam, dropped frames at the start start-dropped.avi",
        lambda p: empty_chunks(write_media(p, Video(codec="mjpeg"), PCM), range(3)),
        *(47, 0.12, 1.96),
    ),
    Case(  # FFmpeg reads MP3 in AVI from 0 on, and with the delay of its encoder
        "dashcam, sound starts late late.avi",
        lambda p: write_media(p, Video(codec="mjpeg"), Sound(codec="libmp3lame", start_s=3.04)),
        *(50, 0, 1.96, (1.023,)),
    ),
    # broadcasts
    Case(
        "DVB, timestamps wrap wrap.ts",
        lambda p: write_media(p, NO_B, Sound(), start_s=WRAP_S - 1.2),
        *(50, -1.2, 0.76, (-0.2,)),
    ),
    Case(
        "DVB, tuned in between key frames middle.ts",
        lambda p: skip_bytes(
            write_media(p, Video(options={"g": "12", "bf": "0"}), Sound(), start_s=1), 0.3
        ),
        *(26, 1.96, 2.96, (2.0,)),
    ),
    Case(
        "DVB, tuned in at an open GOP open-gop.ts",
        lambda p: skip_bytes(write_media(p, Video(options=OPEN_GOP), Sound(), start_s=1), 0.3),
        *(26, 1.96, 2.96, (2.0,)),
    ),
    Case(
        "DVB, two recordings joined, the later one first joined-back.ts",
        lambda p: two_recordings(p, 3000, 5),
        *(100, 3000, 3003.99, (3000.5, 3002.527)),
        note=JOINED,
        sound_note=JOINED,
    ),
    Case(
        "DVB, two recordings joined joined.ts",
        lambda p: two_recordings(p, 5, 3000),
        *(100, 5, 8.99, (5.5, 7.527)),
        note=JOINED,
        sound_note=JOINED,
    ),
    *(  # where the second one begins, its sound belongs to its pictures
        Case(
            f"DVB, two recordings joined, {name}.ts",
            lambda p, clocks=clocks, sounds=sounds: two_recordings(p, *clocks, *sounds),
            *(100, clocks[0], last_s, beeps_at_s),
            note=JOINED,
            sound_note=JOINED + r"(; silence was inserted where audio is missing \(1x\))?",
        )
        for name, clocks, sounds, last_s, beeps_at_s in [
            ("the first silent silent", (5, 5), (None, BEEP), 8.96, (7.5,)),
            ("sound ends early early-end", (5, 5), (Sound((0.1,), 0.4), BEEP), 8.96, (5.1, 7.5)),
            ("sound ends late late-end", (5, 5), (Sound((0.5,), 6), BEEP), 12.997, (5.5, 11.537)),
            ("sound starts late late", (5, 5), (BEEP, Sound((0.5,), start_s=3)), 8.96, (5.5, 10.5)),
            (
                "sound starts late, the later one first late-back",
                (3000, 5),
                (BEEP, Sound((0.5,), start_s=3)),
                3003.96,
                (3000.5, 3005.5),
            ),
            (
                "sound starts late, hours later late-hours",
                (5, 9000),
                (BEEP, Sound((0.5,), start_s=3)),
                8.96,
                (5.5, 10.5),
            ),
        ]
    ),
    Case(
        "DVB, two programs programs.ts",
        programs,
        *(50, 1, 2.96, (1.5,)),
        note=r"video track 0 of 2 is decoded, not 1 \(h264\)",
        sound_note=r"audio track 0 of 2 is decoded, not 1 \(aac\)",
    ),
    Case(
        "DVB, the second of two programs second.ts",
        programs,
        *(30, 1, 2.16, (1.25,)),
        note=r"video track 1 of 2 is decoded, not 0 \(h264\)",
        sound_note=r"audio track 1 of 2 is decoded, not 0 \(aac\)",
        numbers=TrackNumbers(1, None),
    ),
    Case(
        "DVB, interlaced interlaced.ts",
        lambda p: write_media(
            p,
            Video(codec="mpeg2video", options={"flags": "+ilme+ildct"}),
            Sound(codec="ac3"),
            start_s=1,
        ),
        *(50, 1, 2.96, (2.0,)),
        note="the video is interlaced",
    ),
    # editors
    Case(
        "editor, start trimmed without encoding trimmed.mp4",
        lambda p: write_media(p, Video(options={"g": "250"}), Sound((1.5,)), start_s=-1),
        *(25, 0, 0.96, (0.5,)),
    ),
    Case(  # FFmpeg shows the second part two frames late, as B-frames are decoded before
        "editor, middle taken out middle-out.mp4",
        lambda p: edited(p, [(1, 0.0), (1, 3.0)], g="250"),
        *(50, 0, 2.04, (0.5, 1.5)),
    ),
    Case(
        "editor, parts swapped swapped.mp4",
        lambda p: edited(p, [(1, 3.0), (1, 0.0)], g="25", bf="0"),
        *(50, 0, 1.96, (0.5, 1.5)),
        sound_note=r"audio that overlaps was dropped \(1x\)",  # half a packet at the cut
    ),
    Case(
        "editor, a part twice twice.mov",
        lambda p: edited(p, [(1, 1.0), (1, 1.0)], g="25"),
        *(50, 0, 1.96, (0.5, 1.5)),
    ),
    Case(
        "editor, starts with nothing delayed.mp4",
        lambda p: edited(p, [(1, None), (1, 2.0)], g="25", bf="0"),
        *(25, 1, 1.96, (1.5,)),
    ),
    *(
        Case(
            f"editor, cut at an open GOP cut.{suffix}",
            lambda p: write_media(
                p, Video(options=OPEN_GOP, change=from_key(2)), Sound(start_s=0.1)
            ),
            *(26, 0.96, 1.96, (1.1,)),
        )
        for suffix in ("mp4", "mkv")
    ),
    Case(
        "editor, 4:3 in 16:9 pixels wide.mp4",
        lambda p: write_media(p, Video(pixel_aspect=Fraction(4, 3)), Sound()),
        *(50, 0, 1.96),
    ),
    # clocks
    Case(
        "clock starts at -2 s negative.ts",
        lambda p: write_media(p, NO_B, Sound(), start_s=WRAP_S - 2),
        *(50, -2, -0.04, (-1.0,)),
    ),
    *(  # Matroska has no timestamps below 0: FFmpeg finds none, or of sound guesses them
        Case(
            f"clock starts at -{early_s} s negative-{early_s}.mkv",
            lambda p, early_s=early_s: write_media(
                p,
                Video(steps(100), options={"bf": "0"}),
                Sound((0.5, 1.5, 2.5), 4, start_s=0.1),
                start_s=-early_s,
                options={"avoid_negative_ts": "disabled"},
            ),
            *(100, -early_s, 3.96 - early_s, [0.6 - early_s, 1.6 - early_s, 2.6 - early_s]),
            note=f"timestamps mended: {25 * early_s}",
        )
        for early_s in (1, 2)
    ),
    *(
        Case(
            f"clock starts at 40,000 s late-clock.{suffix}",
            lambda p: write_media(p, NO_B, Sound(), start_s=40_000),
            *(50, 40_000, 40_001.96, (40_001.0,)),
        )
        for suffix in ("mkv", "mp4", "flv")
    ),
    *(
        Case(
            f"one timestamp given twice double.{suffix}",
            lambda p: write_media(
                p, Video(options={"bf": "0"}, written_s=stamps({20: 0.76})), Sound(), start_s=5
            ),
            *(50, 5, 6.96, (6.0,)),
            note="timestamps mended: 1",
        )
        for suffix in ("ts", "mkv", "flv")
    ),
    Case(
        "one frame left out missing.mkv",
        lambda p: write_media(p, Video(codec="mjpeg", change=without(20)), Sound(start_s=0.1)),
        *(49, 0, 1.96, (1.1,)),
    ),
    Case(
        "one timestamp missing missing.ts",
        lambda p: write_media(
            p, Video(options={"bf": "2"}, written_s=stamps({20: None})), Sound(), start_s=5
        ),
        *(50, 5, 6.96, (6.0,)),
        note="timestamps mended: 1",
    ),
    Case(
        "network, sound loses 20 ms at a time losses.mkv",
        lambda p: write_media(
            p,
            Video(steps(200), options={"bf": "0"}),
            Sound(BEEP_PER_S, 8, "libopus", change=without(*LOST)),
        ),
        *(200, 0, 7.96, BEEP_PER_S),
        sound_note=rf"silence was inserted where audio is missing \({len(LOST)}x\)",
    ),
    Case(
        "sound card 2 % slow slow.mkv",
        lambda p: write_media(
            p, Video(steps(200), options={"bf": "0"}), Sound(BEEP_PER_S, 8, clock=1.02, start_s=0.1)
        ),
        *(200, 0, 7.96, [0.1 + 1.02 * k for k in range(8)]),
        sound_note=r"silence was inserted where audio is missing \(\d+x\)",
    ),
    Case(
        "sound card 2 % fast fast.mkv",
        lambda p: write_media(
            p, Video(steps(200), options={"bf": "0"}), Sound(BEEP_PER_S, 8, clock=0.98, start_s=0.1)
        ),
        *(200, 0, 7.96, [0.1 + 0.98 * k for k in range(8)]),
        sound_note=r"audio that overlaps was dropped \(\d+x\)",
    ),
    # several tracks
    *(
        Case(
            f"several takes and languages, {name}.mkv",
            lambda p: write_media(
                p,
                Video(options={"bf": "0"}, disposition=NOT_DEFAULT),
                Video(steps(30), options={"bf": "0"}),
                Sound((0.3,), start_s=0.1, disposition=NOT_DEFAULT),
                Sound((1.0,), start_s=0.1),
            ),
            *(n_rows, 0, (n_rows - 1) / FPS, (beep_s,)),
            note=rf"video track {numbers.video or 0} of 2 .*"
            if numbers.video == 0
            else ".* 1 of 2 .*",
            sound_note=rf"audio track {numbers.audio or 0} of 2 .*"
            if numbers.audio == 0
            else ".* 1 of 2 .*",
            numbers=numbers,
        )
        for name, numbers, n_rows, beep_s in [
            ("by their flags flags", BY_FILE, 30, 1.1),
            ("the first picture first-picture", TrackNumbers(0, None), 50, 1.1),
            ("the first sound first-sound", TrackNumbers(None, 0), 30, 0.4),
            ("both chosen both", TrackNumbers(0, 0), 50, 0.4),
        ]
    ),
]


def rows_of(path: Path, numbers: TrackNumbers = BY_FILE):
    """The frame times of a file, as extraction gets them."""
    *_, times = decode_video(str(path), None, None, None, numbers, 1, limits=DEFAULT_LIMITS)
    return times


def sound_of(path: Path, numbers: TrackNumbers = BY_FILE, beside: Path | None = None):
    """The samples of a file, and their end, as extraction gets them."""
    video = None if beside is None else str(beside)
    return collect(decode_audio(str(path), RATE_HZ, numbers, video, limits=DEFAULT_LIMITS))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_gives_the_rows_times_and_sound_that_were_recorded(case, tmp_path):
    path = case.make(tmp_path / case.name.split()[-1])
    times = rows_of(path, case.numbers)
    assert len(times.rows) == len(times.time_s) == case.rows
    ends_s = [times.time_s[0], times.time_s[-1]]
    np.testing.assert_allclose(ends_s, [case.first_s, case.last_s], atol=TIME_ERROR_S + 0.003)
    assert np.all(np.diff(times.time_s) > 0)
    check_note(times.note, case.note)
    pieces, end = sound_of(path, case.numbers)
    check_note(end.note, case.sound_note)
    if case.beeps_s is not None:
        samples = np.concatenate([piece[0] for piece in pieces])
        found_s = beeps_s(samples, end.start_s, RATE_HZ)
        np.testing.assert_allclose(found_s, case.beeps_s, atol=BEEP_ERROR_S)


def check_note(note: str | None, pattern: str | None) -> None:
    assert (note is None) == (pattern is None), note
    assert pattern is None or re.fullmatch(pattern, note), note


@pytest.mark.parametrize(
    ("name", "starts_s", "expected_s"),
    [
        ("apart.wav", 0.0, 1.9),  # FFmpeg makes it of the sound beside, without its time
        ("apart.mka", 0.0, 1.9),
        ("apart.mka", 7.0, 1.9),  # whatever the clock of its recorder says
        ("apart.ts", WRAP_S - 0.5, 1.9),
    ],
)
def test_sound_of_its_own_file_starts_with_the_first_frame(name, starts_s, expected_s, tmp_path):
    video = write_media(tmp_path / "b.ts", NO_B, start_s=1.4)
    codec = "pcm_s16le" if name.endswith("wav") else "libopus"
    codec = "aac" if name.endswith("ts") else codec
    sound = write_media(tmp_path / name, Sound((0.5,), 2, codec), start_s=starts_s)
    pieces, end = sound_of(sound, beside=video)
    samples = np.concatenate([piece[0] for piece in pieces])
    delay_s = PRIMING_S["aac"] if codec == "aac" else 0.0  # which a transport stream keeps
    found_s = beeps_s(samples, end.start_s, RATE_HZ)
    np.testing.assert_allclose(found_s, [expected_s + delay_s], atol=BEEP_ERROR_S)


def test_an_offset_in_the_manifest_moves_the_rows_of_the_sound(tiny_ast, decoder, tmp_path):
    video = write_media(tmp_path / "b.ts", NO_B, start_s=1.4)
    sound = write_media(tmp_path / "apart.wav", PCM)
    encoder = AstConfig(model=tiny_ast, hop_s=0.64).build(torch.device("cpu"))
    tasks = [
        ReadTask(k, Source(str(k), video, None, sound, None, audio_offset_s=offset_s), ("it",))
        for k, offset_s in enumerate((0.0, 0.25, -2.0))
    ]
    results = encode_all({"it": encoder}, tasks, batch_sizes={"it": 8}, decoders=[decoder])
    on, later, earlier = [r.track.time_s for r in sorted(results, key=lambda r: r.index)]
    assert on[0] == pytest.approx(1.4, abs=0.1)
    np.testing.assert_allclose(later, on + 0.25)
    np.testing.assert_allclose(earlier, on - 2.0)


def test_a_track_that_a_file_lacks_is_refused_with_what_to_correct(tmp_path):
    path = write_media(tmp_path / "a.mkv", NO_B, PCM, MP3)
    with pytest.raises(MediaError, match=r"a\.mkv has 1 video tracks, and no number 1 \(counted"):
        rows_of(path, TrackNumbers(1, None))
    with pytest.raises(MediaError, match=r"has 2 audio tracks, and no number 2 .*`audio_track`"):
        sound_of(path, TrackNumbers(None, 2))


def test_a_track_whose_codec_is_unknown_is_refused_if_it_is_asked_for(tmp_path):
    path = with_unknown_codec(write_media(tmp_path / "a.mov", Video(), Sound(), Sound()))
    assert len(sound_of(path)[0]) > 0
    with pytest.raises(MediaError, match="an? audio track of codec .*apac.*, which is not decoded"):
        sound_of(path, TrackNumbers(None, 0))
