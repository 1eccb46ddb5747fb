import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from features.errors import MediaError, VaflowError
from features.media.alignment import TEMPLATE_PX, AlignmentConfig
from features.media.crops import read_image
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from features.media.sampling import EVERY_FRAME
from features.media.tracks import BY_FILE
from features.media.video import probe
from features.media.worker.client import Stopped
from features.media.worker.protocol import N_SLOTS
from features.media.worker.requests import PIECE_BYTES, decode_audio, decode_video, pieces
from features.printable import printable
from tests.helpers.hostile_server import HOSTILE_SERVER
from tests.helpers.small_media import tone
from tests.helpers.whole_media import (
    collect,
    collect_audio,
    collect_frames,
    read_audio,
    read_frame_times,
)

pytestmark = pytest.mark.slow


def processes_of_group(group: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(condition, seconds: float = 300.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "the condition did not become true"
        time.sleep(0.05)


def make_large(make_video, name: str = "large.mp4", **contents) -> Path:
    """A video whose frames need more slots of memory than there are."""
    shades = np.linspace(0, 255, 640 * 640 * 3, dtype=np.uint8).reshape(640, 640, 3)
    frames = np.stack([np.roll(shades, 5 * k, axis=0) for k in range(60)])
    assert frames.nbytes > N_SLOTS * PIECE_BYTES
    return make_video(name, time_s=np.arange(60) / 25, frames=frames, **contents)


@pytest.fixture
def make_decoder():
    """Decoders with given limits, whose process also serves the hostile requests."""
    made = []

    def make(**limits) -> Decoder:
        made.append(Decoder(DecodeLimits(**limits), server=HOSTILE_SERVER))
        return made[-1]

    yield make
    for decoder in made:
        decoder.close()


@pytest.fixture(scope="module")
def hostile_decoder():
    """A decoder with the usual limits, whose process also serves the hostile requests."""
    with closing(Decoder(DecodeLimits(), server=HOSTILE_SERVER)) as decoder:
        yield decoder


def request(decoder: Decoder, name: str, path: Path) -> list:
    return list(decoder.client.request(name, str(path)))


def test_the_process_returns_what_decoding_here_returns(make_video, make_crops, decoder):
    video = make_large(make_video, sound=tone(2.4))
    here = decode_video(str(video), None, {}, None, limits=decoder.limits, n_threads=1)
    expected, expected_times = collect_frames(here)

    frames, times = collect_frames(decoder.frames(video, None))

    np.testing.assert_array_equal(frames, expected)
    for found in (times, decoder.frame_times(video, None)):
        np.testing.assert_array_equal(found.time_s, expected_times.time_s)
        np.testing.assert_array_equal(found.rows, expected_times.rows)
    assert decoder.probe(video) == probe(video)
    audio, expected_audio = collect_audio(decoder.audio(video, 16_000)), read_audio(video, 16_000)
    np.testing.assert_array_equal(audio.samples, expected_audio.samples)
    assert audio.start_s == expected_audio.start_s
    crops = sorted(make_crops([1, 2, 3]).iterdir())
    images = [image for piece in decoder.crops(crops) for image in piece]
    np.testing.assert_array_equal(images, [read_image(path) for path in crops])


def test_no_crops_are_no_images(decoder):
    assert list(decoder.crops([])) == []


def test_audio_decoded_with_a_video_is_returned_for_that_video_and_rate_only(make_video, decoder):
    video, other = make_video("a.mp4", sound=tone(2)), make_video("b.mp4", sound=tone(1))
    decoder.also_decode_audio(16_000)
    decoder.frame_times(video, None)
    for path, rate_hz in ((video, 8_000), (other, 16_000), (video, 16_000)):
        audio, expected = collect_audio(decoder.audio(path, rate_hz)), read_audio(path, rate_hz)
        np.testing.assert_array_equal(audio.samples, expected.samples)
    decoder.also_decode_audio(None)


def test_faces_are_cut_out_of_the_frames_that_have_one(make_video, decoder):
    video, alignment = make_large(make_video, sound=tone(2.4)), AlignmentConfig()
    frames, expected_times = collect_frames(decoder.frames(video, None))
    landmarks = np.array(TEMPLATE_PX, np.float32) + np.arange(50, dtype=np.float32)[:, None, None]
    landmarks[20:40] = np.nan  # the last ten of the sixty frames have none, either
    decoder.also_decode_audio(16_000)

    crops, times = collect_frames(
        decoder.face_crops(video, None, EVERY_FRAME, BY_FILE, alignment, landmarks)
    )

    seen = [*range(20), *range(40, 50)]
    expected = [alignment.crop(frames[row], landmarks[row]) for row in seen]
    np.testing.assert_array_equal(crops, expected)
    np.testing.assert_array_equal(times.time_s, expected_times.time_s)
    audio, expected_audio = collect_audio(decoder.audio(video, 16_000)), read_audio(video, 16_000)
    np.testing.assert_array_equal(audio.samples, expected_audio.samples)
    decoder.also_decode_audio(None)


def test_a_frame_without_a_face_lets_audio_through_at_once():
    image = np.zeros((2, 2, 3), np.uint8)

    found = [len(piece) for piece in pieces([image, None, image, None])]

    assert found == [0, 0, 2]


def test_long_audio_comes_in_blocks(make_video, decoder, monkeypatch):
    video = make_video(sound=tone(2))
    expected = read_audio(video, 16_000)
    monkeypatch.setattr("features.media.audio.BLOCK", 1000)
    pieces, end = collect(decode_audio(str(video), 16_000, limits=decoder.limits))
    blocks = [block for piece in pieces for block in piece]
    assert {len(block) for block in blocks} > {1000}
    assert max(len(block) for block in blocks) == 1000
    np.testing.assert_array_equal(np.concatenate(blocks), expected.samples)
    assert end.start_s == expected.start_s
    assert end.n_samples == len(expected.samples)


def test_memory_does_not_grow_with_the_length_of_a_video(make_video, make_decoder):
    frames = np.zeros((300, 600, 800, 3), np.uint8)  # 412 MiB of pixels
    video = make_video(time_s=np.arange(300) / 25, frames=frames)
    items = make_decoder(memory_mib=256).frames(video, None)
    assert sum(len(item) for item in items if isinstance(item, list)) == 300


def test_a_process_that_crashes_is_replaced_and_leaves_no_file_open(make_video, hostile_decoder):
    decoder, video = hostile_decoder, make_video()
    assert len(decoder.frame_times(video, None).time_s) == 50
    n_open = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(MediaError, match="was ended by SIGSEGV") as failure:
            request(decoder, "crash", video)
        assert failure.value.code == "crashed"
        assert len(decoder.frame_times(video, None).time_s) == 50
    del failure  # its frames refer to the shared memory
    assert len(os.listdir("/proc/self/fd")) == n_open


def test_a_request_that_is_not_in_the_table_is_refused(make_video, hostile_decoder):
    decoder, video = hostile_decoder, make_video()
    with pytest.raises(MediaError, match="there is no request 'eval'; there are decode_video, "):
        request(decoder, "eval", video)
    assert decoder.probe(video).n_frames == 50


def test_the_product_serves_no_hostile_request(make_video, decoder):
    with pytest.raises(MediaError, match="there is no request 'crash'"):
        request(decoder, "crash", make_video())


def test_a_process_that_hangs_is_killed_with_its_group(make_video, make_decoder):
    decoder, video = make_decoder(wall_s=0.5), make_video()
    decoder.client.start()
    group = decoder.client.pid
    with pytest.raises(MediaError, match="takes longer than limits.wall_s = 0.5; ") as failure:
        request(decoder, "hang", video)
    assert failure.value.code == "limit-wall"
    wait_until(lambda: not processes_of_group(group))


def test_time_between_two_pieces_does_not_count_as_waiting(make_video, make_decoder, monkeypatch):
    later_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later_s)
    monkeypatch.setattr("features.media.worker.client.time", clock)
    pieces = make_decoder(wall_s=600).client.request("send_slowly", str(make_video()))
    next(pieces)
    later_s = 10_000.0  # as if the encoder took hours
    assert [piece[0][0] for piece in pieces] == [1, 2, 3, 4, 5]


def test_each_request_has_its_own_processor_time(make_video, make_decoder):
    decoder, video = make_decoder(cpu_s=1), make_video()
    decoder.probe(video)
    pid = decoder.client.pid
    for _ in range(3):
        request(decoder, "use_cpu", video)
    used = sum(map(int, Path(f"/proc/{pid}/stat").read_text().split()[13:15]))
    assert used / os.sysconf("SC_CLK_TCK") > 1
    assert decoder.client.pid == pid


def test_an_answer_that_is_no_message_is_a_failure_of_the_file(make_video, hostile_decoder):
    decoder, video = hostile_decoder, make_video()
    with pytest.raises(MediaError, match="sent an invalid answer") as failure:
        request(decoder, "send_list", video)
    assert failure.value.code == "crashed"
    assert decoder.probe(video).n_frames == 50


def test_a_long_message_of_an_error_is_cut(make_video, hostile_decoder):
    decoder, video = hostile_decoder, make_video()
    with pytest.raises(MediaError, match="the decoder failed .ValueError: xxx") as failure:
        request(decoder, "fail_at_length", video)
    assert len(str(failure.value)) < 10_000
    assert decoder.probe(video).n_frames == 50


def test_the_process_has_no_rights_that_decoding_does_not_need(make_video, make_decoder):
    decoder = make_decoder(memory_mib=300)
    decoder.probe(make_video())
    process = Path(f"/proc/{decoder.client.pid}")
    rows = [re.split(r"\s{2,}", row) for row in (process / "limits").read_text().splitlines()]
    soft = {name: limit for name, limit, *_ in rows}
    assert soft["Max data size"] == str(300 * 2**20)
    assert soft["Max file size"] == "0"
    assert soft["Max core file size"] == "0"
    assert soft["Max open files"] == "64"
    assert re.search(r"NoNewPrivs:\s+1", (process / "status").read_text())
    own_nice = os.getpriority(os.PRIO_PROCESS, 0)
    nice = os.getpriority(os.PRIO_PROCESS, decoder.client.pid)
    assert nice == min(19, own_nice + 10)


def test_frames_of_an_abandoned_video_do_not_appear_in_the_next(make_video, hostile_decoder):
    decoder = hostile_decoder
    items = decoder.frames(make_large(make_video, "long.mp4"), None)
    next(items)
    items.close()
    assert len(collect_frames(decoder.frames(make_video(), None))[0]) == 50


def test_stop_from_another_thread_ends_a_request(make_video, make_decoder):
    decoder, video, raised = make_decoder(), make_video(), []

    def read() -> None:
        try:
            request(decoder, "hang", video)
        except Stopped as stopped:
            raised.append(stopped)

    decoder.probe(video)
    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: len(processes_of_group(decoder.client.pid)) == 2)  # it has forked
    decoder.client.stop()
    thread.join(timeout=300)
    assert raised
    with pytest.raises(Stopped):
        decoder.probe(video)


def test_a_process_that_cannot_start_is_one_error(make_video, make_decoder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(VaflowError, match="a process that decodes media cannot start"):
        make_decoder().probe(make_video())


SPIN_FOREVER = """
from contextlib import closing
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from tests.helpers.hostile_server import HOSTILE_SERVER

with closing(Decoder(DecodeLimits(), server=HOSTILE_SERVER)) as decoder:
    decoder.client.start()
    print(decoder.client.pid, flush=True)
    list(decoder.client.request("spin", "clip.mp4"))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_parent(end):
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", SPIN_FOREVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    group = int(parent.stdout.readline())
    assert processes_of_group(group) == [group]
    parent.send_signal(end)
    parent.communicate(timeout=300)
    wait_until(lambda: not processes_of_group(group))


def test_a_clip_that_exceeds_a_limit_names_its_key(make_video, make_decoder):
    video = make_video(sound=tone(2))
    for key, value, code in [
        ("frames", 49, "limit-frames"),
        ("pixels", 64 * 64 - 1, "limit-pixels"),
        ("duration_s", 1.5, "limit-duration"),
        ("streams", 1, "limit-streams"),
        ("file_bytes", 1000, "limit-bytes"),
    ]:
        message = rf"limits\.{key} = {value}; .*limits\.{key}="
        limits = DecodeLimits(**{key: value})
        with pytest.raises(MediaError, match=message) as failure:
            list(decode_video(str(video), None, {}, None, limits=limits, n_threads=1))
        assert failure.value.code == code
    with pytest.raises(MediaError, match=r"limits\.frames = 49; "):
        make_decoder(frames=49).frame_times(video, None)  # limits reach the process, too
    exact = {"frames": 50, "pixels": 64 * 64, "streams": 2, "file_bytes": video.stat().st_size}
    assert len(make_decoder(**exact).frame_times(video, None).time_s) == 50
    assert len(read_frame_times(video, None).time_s) == 50


@pytest.mark.parametrize(
    "name",
    [
        "4.05\u202fPM",
        "a\u202e4pm",
        "\U0001f600",
        "e\u0301",
        "a\\b",
        "caf\udce9",
        "a:b",
        "%03d",
        "\n",
    ],
)
def test_a_file_of_any_name_is_decoded_and_named_in_errors(decoder, make_video, tmp_path, name):
    path = make_video(time_s=np.arange(5) / 25, sound=tone(0.2)).rename(tmp_path / f"{name}.mp4")
    assert decoder.probe(path).n_frames == 5
    assert len(decoder.frame_times(path, None).time_s) == 5
    assert len(list(decoder.audio(path, 16_000))) > 1
    path.write_bytes(b"GIF89a")
    with pytest.raises(MediaError) as raised:
        decoder.probe(path)
    assert str(raised.value).startswith(printable(f"{path} is a GIF file", layout=""))
