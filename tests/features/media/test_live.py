"""Live sources: what is dropped, what is waited for, and times that go on where clocks jump."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError, MediaError
from features.media.limits import DEFAULT_LIMITS
from features.media.live import reader as live_reader
from features.media.live.clock import LiveClock
from features.media.live.reader import LiveFrame, LiveReader, LiveSamples
from features.media.live.source import LiveSource, find_source
from tests.helpers.small_media import tone, write_video
from tests.helpers.whole_media import read_audio, read_frame_times, read_images

RATE_HZ = 16_000
N_FRAMES = 30


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("live") / "clip.mkv"
    return write_video(path, time_s=np.arange(N_FRAMES) / 25, sound=tone(1.2), sound_starts_s=0.2)


def read(source: LiveSource, *, drop: bool = False, **keys) -> tuple[LiveReader, list]:
    reader = LiveReader(source, RATE_HZ, DEFAULT_LIMITS, drop=drop, **keys)
    return reader, [item for items in reader.items() for item in items]


def test_a_file_gives_the_frames_and_samples_of_its_whole_decoding(video):
    reader, items = read(find_source(str(video), None))
    frames = [item for item in items if isinstance(item, LiveFrame)]
    sound = [item for item in items if isinstance(item, LiveSamples)]
    assert reader.error is None
    assert [frame.number for frame in frames] == list(range(1, N_FRAMES + 1))
    times = read_frame_times(video, None).time_s
    np.testing.assert_array_equal([frame.time_s for frame in frames], times)
    np.testing.assert_array_equal([frame.image for frame in frames], read_images(video))
    whole = read_audio(video, RATE_HZ)
    np.testing.assert_array_equal(np.concatenate([each.samples for each in sound]), whole.samples)
    assert {each.start_s for each in sound} == {whole.start_s}


def fed(path: Path, content: bytes) -> threading.Thread:
    """A thread that writes to a named pipe, and then closes it."""
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(content,))
    thread.start()
    return thread


def test_frames_that_nobody_takes_are_dropped_but_for_the_newest_and_counted(
    video, tmp_path, monkeypatch
):
    monkeypatch.setattr(live_reader, "MAX_WAITING", 3)
    writer = fed(tmp_path / "pipe", video.read_bytes())
    source = find_source(str(tmp_path / "pipe"), None)
    assert source.is_paced
    reader = LiveReader(source, None, DEFAULT_LIMITS, drop=True)
    items = reader.items()
    taken = next(items)
    [thread] = [each for each in threading.enumerate() if each.name == "live reader"]
    writer.join()
    thread.join()  # the whole stream is decoded while nothing is taken
    rest = [item.number for each in items for item in each]
    assert rest == [N_FRAMES - 2, N_FRAMES - 1, N_FRAMES][-len(rest) :]
    assert reader.n_frames == N_FRAMES == len(taken) + len(rest) + reader.n_dropped
    assert reader.n_dropped > 0


def test_a_pipe_that_must_not_drop_waits_and_gives_every_frame(video, tmp_path, monkeypatch):
    monkeypatch.setattr(live_reader, "MAX_WAITING", 2)
    writer = fed(tmp_path / "pipe", video.read_bytes())
    reader, items = read(find_source(str(tmp_path / "pipe"), None))
    writer.join()
    assert sum(isinstance(item, LiveFrame) for item in items) == N_FRAMES
    assert reader.n_dropped == 0


def test_a_growing_file_is_followed_until_it_is_stopped(video, tmp_path):
    content, path, enough = video.read_bytes(), tmp_path / "growing.mkv", threading.Event()
    path.write_bytes(content[: len(content) // 2])
    reader = LiveReader(
        find_source(str(path), 600.0), None, DEFAULT_LIMITS, drop=False, is_stopped=enough.is_set
    )
    numbers: list[int] = []
    for items in reader.items():
        if not numbers:
            with path.open("ab") as file:
                file.write(content[len(content) // 2 :])
        numbers += [item.number for item in items]
        if numbers[-1] > N_FRAMES * 3 // 4:
            enough.set()
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > N_FRAMES * 3 // 4
    assert reader.error is None


def test_a_growing_file_that_does_not_grow_has_ended(video):
    _, items = read(find_source(str(video), 0.01))
    assert sum(isinstance(item, LiveFrame) for item in items) == N_FRAMES


def test_what_is_no_stream_ends_with_a_clear_error(tmp_path):
    (tmp_path / "text.mkv").write_text("no media")
    reader, items = read(find_source(str(tmp_path / "text.mkv"), None))
    assert items == []
    assert isinstance(reader.error, MediaError)
    assert "text.mkv cannot be decoded (Invalid data" in str(reader.error)
    with pytest.raises(InputError, match="is a folder; give a file, a camera such as /dev/video0"):
        find_source(str(tmp_path), None)
    with pytest.raises(InputError, match="cannot be read .No such file"):
        find_source("/dev/video99", None)
    with pytest.raises(InputError, match="addresses are not opened; pipe the stream"):
        find_source("rtsp://camera/1", None)


def test_a_character_device_is_a_camera_and_is_not_followed():
    camera = find_source("/dev/null", None)
    assert (camera.kind, camera.is_paced) == ("camera", True)
    reader, items = read(camera, drop=True)  # as no camera is at hand, FFmpeg refuses it
    assert items == []
    assert "/dev/null cannot be decoded" in str(reader.error)
    with pytest.raises(InputError, match="is a camera and cannot be followed"):
        find_source("/dev/null", 5.0)


def test_times_increase_where_timestamps_are_missing_or_fall_back():
    clock = LiveClock(may_restart=False)
    times = [clock.video_s(stamp) for stamp in (0.0, 0.04, None, 0.08, 0.07, 0.16)]
    np.testing.assert_allclose(times, [0.0, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert clock.n_jumps == 0


def test_both_tracks_stay_in_step_across_a_jump_of_the_clock():
    clock = LiveClock(may_restart=True)
    for k in range(50):
        clock.video_s(100 + k / 25)
        clock.audio_s(100 + k / 25, 0.04)
    # the next recording begins at 5 s: its video goes on a step after the last frame
    assert clock.video_s(5.0) == pytest.approx(102.0)
    assert clock.audio_s(5.1, 0.04) == pytest.approx(102.1)  # shifted as the video is
    assert clock.video_s(5.04) == pytest.approx(102.04)
    assert clock.n_jumps == 1


def test_a_long_pause_is_kept_where_a_format_does_not_restart_its_clock():
    kept, restarted = LiveClock(may_restart=False), LiveClock(may_restart=True)
    for clock in (kept, restarted):
        clock.video_s(0.0)
        clock.video_s(0.04)
    assert kept.video_s(30.0) == 30.0
    assert restarted.video_s(30.0) == pytest.approx(0.08)


def test_the_clock_of_a_camera_begins_with_its_first_frame():
    clock = LiveClock(may_restart=False, from_zero=True)
    assert [clock.video_s(stamp) for stamp in (9000.25, 9000.5, 9000.75)] == [0.0, 0.25, 0.5]
    assert clock.n_jumps == 0
