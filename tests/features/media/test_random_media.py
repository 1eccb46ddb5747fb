"""Random containers: rows, times, pictures and beeps against how each was made."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.media.limits import DEFAULT_LIMITS
from features.media.sampling import EVERY_FRAME
from features.media.worker.requests import decode_audio, decode_video
from tests.helpers.field_media import (
    BEEP_S,
    FPS,
    PRIMING_S,
    Matrix,
    Sound,
    Video,
    beeps_s,
    displayed,
    draw,
    set_edits,
    steps,
    without,
    write_media,
)
from tests.helpers.whole_media import collect

pytestmark = pytest.mark.slow

RATE_HZ = 16_000
WRAP_S = 2**33 / 90_000  # where the clock of a transport stream starts again
TIME_ERROR_S = 0.0011  # Matroska and FLV round timestamps to milliseconds
BEEP_ERROR_S = 0.02  # 10 ms that samples may be off their timestamps, and a codec's blur
PACKET_S = {"aac": 1024 / 48_000, "libopus": 0.02, "libmp3lame": 1152 / 48_000}
UPRIGHT = (1, 0, 0, 1)
MATRICES = (UPRIGHT, (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1))


@dataclass(frozen=True)
class Container:
    """What a container can hold."""

    videos: tuple[str, ...]
    sounds: tuple[str, ...]
    starts_s: tuple[float, ...] = (0.0, 0.5, 5.0, 40_000.0)
    repeats_timestamps: bool = False
    has_edits: bool = False
    has_matrix: bool = False


CONTAINERS = {
    "mp4": Container(("libx264", "mpeg4"), ("aac", "libmp3lame"), has_edits=True, has_matrix=True),
    "mov": Container(("libx264", "mjpeg"), ("aac", "pcm_s16le"), has_edits=True, has_matrix=True),
    "mkv": Container(
        ("libx264", "mpeg4", "libvpx"),
        ("aac", "libopus"),
        repeats_timestamps=True,
        has_matrix=True,
    ),
    "webm": Container(("libvpx",), ("libopus",), repeats_timestamps=True),
    "flv": Container(("libx264",), ("aac",), (0.5, 5.0, 40_000.0), repeats_timestamps=True),
    "ts": Container(
        ("libx264", "mpeg2video"),
        ("aac", "libmp3lame"),
        (0.5, 5.0, 40_000.0, WRAP_S - 2, WRAP_S - 0.7),
        repeats_timestamps=True,
    ),
    "avi": Container(("mpeg4", "mjpeg"), ("pcm_s16le",), (0.0,)),
}


@dataclass(frozen=True)
class Recording:
    """How a file is made."""

    suffix: str
    video_codec: str
    audio_codec: str
    b_frames: int
    n_frames: int
    start_s: float
    sound_start_s: float
    clock: float
    """Seconds of the timestamps in a second of sound."""
    matrix: Matrix
    repeated: int | None
    """The row that has the timestamp of the row before."""
    dropped: frozenset[int]
    """The frames that were never recorded."""
    lost: frozenset[int]
    """The packets of sound that were lost."""
    trimmed_s: float
    """The seconds that an edit list takes away from the start."""

    @property
    def recorded_s(self) -> np.ndarray:
        """When each frame was recorded."""
        return steps(self.n_frames)[[k not in self.dropped for k in range(self.n_frames)]]

    @property
    def shift_s(self) -> float:
        """From the time of recording to that of the file."""
        wrapped_s = WRAP_S if self.start_s > WRAP_S - 60 else 0.0
        return self.start_s - wrapped_s - self.trimmed_s

    @property
    def sound(self) -> Sound:
        """The sound, with beeps in steps that are not those of anything else."""
        length_s = self.n_frames / FPS
        return Sound(
            tuple(np.arange(0.3, length_s - 0.3, 0.47)),
            length_s,
            self.audio_codec,
            start_s=self.sound_start_s,
            clock=self.clock,
            change=without(*self.lost),
        )

    def write(self, folder: Path) -> Path:
        """Write the file."""
        at_s = self.recorded_s
        written_s = at_s.tolist()
        if self.repeated is not None:
            written_s[self.repeated] = written_s[self.repeated - 1]
        video = Video(
            at_s,
            self.video_codec,
            options={"bf": str(self.b_frames)} if self.video_codec == "libx264" else {},
            written_s=None if self.repeated is None else written_s,
            matrix=None if self.matrix == UPRIGHT else self.matrix,
        )
        path = folder / f"a.{self.suffix}"
        write_media(path, video, self.sound, start_s=self.start_s)
        if self.trimmed_s:
            left_s = self.n_frames / FPS - self.trimmed_s
            for track in (0, 1):
                set_edits(path, [(left_s, self.trimmed_s)], track)
        return path


@st.composite
def recordings(draw_one) -> Recording:
    """Recordings of two to four seconds."""
    suffix = draw_one(st.sampled_from(sorted(CONTAINERS)))
    container = CONTAINERS[suffix]
    video_codec = draw_one(st.sampled_from(container.videos))
    audio_codec = draw_one(st.sampled_from(container.sounds))
    n_frames = draw_one(st.integers(50, 100))
    trimmed_s = draw_one(st.sampled_from([0.0, 0.4, 0.72])) if container.has_edits else 0.0
    inner = st.integers(2, n_frames - 3).filter(lambda k: k != round(trimmed_s * FPS))
    dropped = draw_one(st.frozensets(inner, max_size=8))  # FFmpeg trims to the next frame
    rows = st.integers(3, n_frames - len(dropped) - 4)
    # the timestamps of the sound are free
    is_exact = suffix != "avi" and not trimmed_s and audio_codec in PACKET_S
    lost = st.frozensets(st.integers(5, 90), max_size=20)
    return Recording(
        suffix,
        video_codec,
        audio_codec,
        draw_one(st.sampled_from([0, 2])),
        n_frames,
        0.0 if trimmed_s else draw_one(st.sampled_from(container.starts_s)),
        draw_one(st.sampled_from([0.1, 0.5, 1.3])) if is_exact else 0.0,
        draw_one(st.sampled_from([1.0, 1.02, 0.98])) if is_exact else 1.0,
        draw_one(st.sampled_from(MATRICES)) if container.has_matrix else UPRIGHT,
        draw_one(st.none() | rows) if container.repeats_timestamps else None,
        dropped,
        draw_one(lost) if is_exact else frozenset(),
        trimmed_s,
    )


def check(recording: Recording) -> None:
    """Decode a recording and compare."""
    with TemporaryDirectory() as folder:
        path = recording.write(Path(folder))
        frames = EVERY_FRAME.model_dump(mode="json")
        decoding = decode_video(
            str(path), None, frames, RATE_HZ, limits=DEFAULT_LIMITS, n_threads=1
        )
        pieces, times = collect(decoding)
        blocks, end = collect(decode_audio(str(path), RATE_HZ, limits=DEFAULT_LIMITS))
    images = [image for piece in pieces if is_images(piece) for image in piece]
    *beside, end_beside = [piece for piece in pieces if not is_images(piece)]
    assert end_beside == end  # in one pass with the pictures, the sound is the same
    np.testing.assert_array_equal(samples_of(beside), samples_of(blocks))
    at_s, is_shown = recording.recorded_s, recording.recorded_s >= recording.trimmed_s - 1e-9
    expected_s = (at_s + recording.shift_s)[is_shown]
    assert len(images) == len(times.rows) == len(times.time_s) == len(expected_s)
    compared = np.ones(len(expected_s), bool)
    if recording.repeated is not None:  # of two equal timestamps, one is right
        compared[recording.repeated - 1 : recording.repeated + 1] = False
        assert times.note == "timestamps mended: 1"
    np.testing.assert_allclose(times.time_s[compared], expected_s[compared], atol=TIME_ERROR_S)
    assert np.all(np.diff(times.time_s) > 0)
    shown = displayed(recording.matrix, draw(len(at_s)))[is_shown]
    for image, expected in zip(images, shown, strict=True):
        assert (
            np.abs(image.astype(float) - expected).mean() < 12
        )  # 40 if turned or of the other end
    check_beeps(recording, samples_of(blocks), end.start_s)


def is_images(piece) -> bool:
    return isinstance(piece, list) and piece[0].dtype == np.uint8


def samples_of(blocks: list) -> np.ndarray:
    return np.concatenate([block for piece in blocks for block in piece])


def check_beeps(recording: Recording, samples: np.ndarray, start_s: float) -> None:
    """Every beep is at its time, but those of which packets were lost may begin late or lack."""
    sound = recording.sound
    packet_s = PACKET_S.get(recording.audio_codec, 0.0)
    lost_s = np.array(sorted(recording.lost)) * packet_s - PRIMING_S[recording.audio_codec]
    beeps = np.array([beep for beep in sound.beeps_s if beep > recording.trimmed_s])
    is_whole = np.array(
        [not np.any((lost_s > beep - 0.1) & (lost_s < beep + BEEP_S + 0.05)) for beep in beeps]
    )
    in_file_s = recording.shift_s + recording.sound_start_s + beeps * recording.clock
    found_s = beeps_s(samples, start_s, RATE_HZ)
    for beep_s in in_file_s[is_whole]:
        assert np.abs(found_s - beep_s).min() < BEEP_ERROR_S, (beep_s, found_s)
    if not recording.lost:  # a decoder may make noise of what is left
        assert len(found_s) == len(beeps)


def run(examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(recordings())
    def holds(recording: Recording) -> None:
        check(recording)

    holds()


def test_random_files_give_what_was_recorded():
    run(20)


@pytest.mark.torture
def test_many_random_files_give_what_was_recorded():
    run(300)
