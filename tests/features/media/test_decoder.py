import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from features.errors import MediaError, VaflowError
from features.media.crops import read_image
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from features.media.video import probe
from features.media.worker import requests as reading
from features.media.worker.client import Stopped
from features.media.worker.protocol import N_SLOTS
from features.timeline import FrameTimes
from tests.helpers import hostile_media
from tests.helpers.small_media import tone
from tests.helpers.whole_media import frame_clock, read_sound, sound_of


def whole(pieces):
    """All that a generator yields, copied, and what it returns."""
    found = []
    while True:
        try:
            found += [array.copy() for array in next(pieces)]
        except StopIteration as end:
            return found, end.value


def trap(decoder: Decoder, function, path: Path):
    """Have the process do what a decoder should not."""
    return whole(decoder.link.pieces(function, FrameTimes, str(path), None))


def of_group(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(true, seconds: float = 30.0) -> None:
    until_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until_s, "it did not come to pass"
        time.sleep(0.05)


def make_large(make_video, name: str = "large.mp4", **contents) -> Path:
    """A video whose frames fill more slots of memory than there are."""
    shades = np.linspace(0, 255, 640 * 640 * 3, dtype=np.uint8).reshape(640, 640, 3)
    frames = np.stack([np.roll(shades, 5 * k, axis=0) for k in range(60)])
    assert frames.nbytes > N_SLOTS * reading.PIECE_BYTES
    return make_video(name, time_s=np.arange(60) / 25, frames=frames, **contents)


@pytest.fixture
def limited():
    """Decoders with given limits, ended afterwards."""
    made = []

    def make(**limits) -> Decoder:
        made.append(Decoder(DecodeLimits(**limits)))
        return made[-1]

    yield make
    for decoder in made:
        decoder.close()


def test_what_comes_through_the_process_equals_what_is_read_here(make_video, make_crops, decoder):
    video = make_large(make_video, sound=tone(2.4))
    here = reading.video_frames(str(video), None, {}, limits=decoder.limits, n_threads=1)
    wanted, clock = whole(here)
    found, times = whole(decoder.pictures(video, None))
    np.testing.assert_array_equal(found, wanted)
    for given in (times, decoder.clock(video, None)):
        np.testing.assert_array_equal(given.time_s, clock.time_s)
        np.testing.assert_array_equal(given.rows, clock.rows)
    assert decoder.probe(video) == probe(video)
    heard, wanted = sound_of(decoder.sound(video, 16_000)), read_sound(video, 16_000)
    assert heard is not None
    assert wanted is not None
    np.testing.assert_array_equal(heard.samples, wanted.samples)
    assert heard.start_s == wanted.start_s
    crops = sorted(make_crops([1, 2, 3]).iterdir())
    np.testing.assert_array_equal(
        whole(decoder.crops(crops))[0], [read_image(path) for path in crops]
    )


def test_sound_that_came_along_is_given_at_its_own_rate_and_for_its_own_video_only(
    make_video, decoder
):
    video, other = make_video("a.mp4", sound=tone(2)), make_video("b.mp4", sound=tone(1))
    decoder.keep_sound(16_000)
    decoder.clock(video, None)
    for path, rate_hz in ((video, 8_000), (other, 16_000), (video, 16_000)):
        heard, wanted = sound_of(decoder.sound(path, rate_hz)), read_sound(path, rate_hz)
        np.testing.assert_array_equal(heard.samples, wanted.samples)
    decoder.keep_sound(None)


def test_long_sound_comes_in_parts(make_video, decoder, monkeypatch):
    video = make_video(sound=tone(2))
    here = read_sound(video, 16_000)
    assert here is not None
    monkeypatch.setattr("features.media.audio.BLOCK", 1000)
    parts, start_s = whole(
        reading.audio_samples(str(video), 16_000, limits=decoder.limits, n_threads=1)
    )
    assert {len(part) for part in parts} > {1000}
    assert max(len(part) for part in parts) == 1000
    np.testing.assert_array_equal(np.concatenate(parts), here.samples)
    assert start_s == here.start_s


def test_memory_stays_flat_whatever_the_length(make_video, limited):
    frames = np.zeros((300, 600, 800, 3), np.uint8)  # 412 MiB of pictures
    video = make_video(time_s=np.arange(300) / 25, frames=frames)
    pieces = limited(memory_mib=256).pictures(video, None)
    assert sum(len(piece) for piece in pieces) == 300


def test_one_that_died_is_replaced_and_nothing_is_left_open(make_video, limited):
    decoder, video = limited(), make_video()
    assert len(decoder.clock(video, None).time_s) == 50
    n_open = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(MediaError, match="was ended by SIGSEGV") as failure:
            trap(decoder, hostile_media.dies, video)
        assert failure.value.code == "crashed"
        assert len(decoder.clock(video, None).time_s) == 50
    del failure  # its frames hold the memory that was shared
    assert len(os.listdir("/proc/self/fd")) == n_open


def test_one_that_waits_for_ever_is_killed_with_its_group(make_video, limited):
    decoder, video = limited(wall_s=0.5), make_video()
    decoder.link._running()
    group = decoder.link._process.pid
    with pytest.raises(MediaError, match="takes longer than limits.wall_s = 0.5; ") as failure:
        trap(decoder, hostile_media.sleeps, video)
    assert failure.value.code == "limit-wall"
    wait_until(lambda: not of_group(group))


def test_waiting_for_the_encoder_is_no_waiting_for_the_decoder(make_video, limited):
    pieces = limited(wall_s=3).link.pieces(hostile_media.dawdles, None, str(make_video()), None)
    next(pieces)
    time.sleep(3.2)
    assert [piece[0][0] for piece in pieces] == [1, 2, 3, 4, 5]


def test_processor_time_is_allowed_anew_for_each_reading(make_video, limited):
    decoder, video = limited(cpu_s=1), make_video()
    decoder.probe(video)
    process = decoder.link._process
    for _ in range(3):
        trap(decoder, hostile_media.works, video)
    used_s = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]))
    assert used_s / os.sysconf("SC_CLK_TCK") > 1  # in all, by the same process
    assert decoder.link._process is process


def test_an_answer_that_makes_no_sense_is_a_failure_of_the_file(make_video, limited):
    decoder, video = limited(), make_video()
    with pytest.raises(MediaError, match="answered what makes no sense") as failure:
        trap(decoder, hostile_media.lies, video)
    assert failure.value.code == "crashed"
    assert decoder.probe(video).n_frames == 50


def test_what_is_given_up_half_way_does_not_come_with_the_next(make_video, limited):
    decoder = limited()
    pieces = decoder.pictures(make_large(make_video, "long.mp4"), None)
    next(pieces)
    pieces.close()
    assert len(whole(decoder.pictures(make_video(), None))[0]) == 50


def test_stopped_from_another_thread_it_ends_at_once(make_video, limited):
    decoder, met = limited(), []

    def read() -> None:
        try:
            trap(decoder, hostile_media.sleeps, video)
        except Stopped as stopped:
            met.append(stopped)

    video = make_video()
    decoder.probe(video)
    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.5)
    decoder.stop()
    thread.join(timeout=30)
    assert met
    with pytest.raises(Stopped):
        decoder.probe(video)


def test_a_process_that_cannot_start_is_one_message(make_video, limited, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(VaflowError, match="a process that decodes media cannot start"):
        limited().probe(make_video())


HOLDS = """
import sys
from contextlib import closing
from pathlib import Path
from tests.helpers import hostile_media
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from features.media.video import Clock

with closing(Decoder(DecodeLimits())) as decoder:
    decoder.link._running()
    print(decoder.link._process.pid, flush=True)
    next(decoder.link.pieces(getattr(hostile_media, sys.argv[1]), Clock, "clip.mp4", None))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(end):
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLDS, "spins"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        # deaf to Ctrl-C is what a job in the background of a script is born
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    group = int(parent.stdout.readline())
    assert of_group(group) == [group]
    parent.send_signal(end)
    parent.communicate(timeout=30)
    wait_until(lambda: not of_group(group))


def test_a_clip_beyond_a_limit_names_the_key_that_would_let_it_pass(make_video, limited):
    video = make_video(sound=tone(2))
    for key, most, code in [
        ("frames", 49, "limit-frames"),
        ("pixels", 64 * 64 - 1, "limit-pixels"),
        ("duration_s", 1.5, "limit-duration"),
        ("streams", 1, "limit-streams"),
        ("file_bytes", 1000, "limit-bytes"),
    ]:
        words = rf"limits\.{key} = {most}; .*limits\.{key}="
        with pytest.raises(MediaError, match=words) as failure:
            limited(**{key: most}).clock(video, None)
        assert failure.value.code == code
    exactly = {"frames": 50, "pixels": 64 * 64, "streams": 2, "file_bytes": video.stat().st_size}
    assert len(limited(**exactly).clock(video, None).time_s) == 50
    assert len(frame_clock(video, None).time_s) == 50
