"""The 95 % rule from both sides, for each container."""

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from features.errors import MediaError
from tests.helpers.field_media import Sound, Video, cut_before_frame, held, steps, write_media
from tests.helpers.whole_media import read_audio, read_frame_times

N_FRAMES = 200
FASTSTART = {"movflags": "faststart"}  # or the index would be cut off
LIVE = {"live": "1"}
NO_B = {"bf": "0"}
CONTAINERS = {
    "index-first.mp4": ("libx264", "aac", FASTSTART),
    "index-first.mov": ("libx264", "aac", FASTSTART),
    "a.mkv": ("libx264", "libopus", {}),
    "a.webm": ("libvpx", "libopus", {}),
    "a.avi": ("mpeg4", "pcm_s16le", {}),
    "a.flv": ("libx264", "aac", {}),
}
# nothing in these files says how long they are: what is left of one is a whole file
WITHOUT_PROMISE = {
    "a.ts": ("libx264", "aac", {}),
    "a.mpg": ("mpeg2video", "ac3", {}),
    "live.mkv": ("libx264", "aac", LIVE),
    "live.webm": ("libvpx", "libopus", LIVE),
}


@functools.cache
def encoded(name: str, with_sound: bool) -> bytes:
    """A file of 200 frames."""
    video_codec, audio_codec, options = (CONTAINERS | WITHOUT_PROMISE)[name]
    tracks = [Video(steps(N_FRAMES), video_codec, options=NO_B if video_codec == "libx264" else {})]
    tracks += [Sound(seconds=N_FRAMES / 25, codec=audio_codec)] if with_sound else []
    with TemporaryDirectory() as folder:
        path = write_media(Path(folder) / name, *tracks, start_s=0.2, options=options)
        return path.read_bytes()


def written(folder: Path, name: str, *, kept: int | None = None, with_sound: bool = True) -> Path:
    """A file of 200 frames, or what of it comes before the packet of frame `kept`."""
    path = folder / name
    path.write_bytes(encoded(name, with_sound))
    return path if kept is None else cut_before_frame(path, kept)


@pytest.mark.parametrize("with_sound", [False, True], ids=["silent", "with sound"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_of_which_94_percent_are_left_is_incomplete(name, with_sound, tmp_path):
    path = written(tmp_path, name, kept=188, with_sound=with_sound)
    with pytest.raises(MediaError, match="fewer than 95%: the file is truncated or damaged"):
        read_frame_times(path, None)
    if with_sound:
        with pytest.raises(MediaError, match="seconds of audio that the container promises are"):
            read_audio(path, 16_000)


@pytest.mark.parametrize("with_sound", [False, True], ids=["silent", "with sound"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_of_which_96_percent_are_left_is_accepted(name, with_sound, tmp_path):
    path = written(tmp_path, name, kept=193, with_sound=with_sound)
    assert len(read_frame_times(path, None).time_s) in (192, 193)
    if with_sound:
        found = read_audio(path, 16_000)
        assert len(found.samples) / 16_000 == pytest.approx(0.96 * N_FRAMES / 25, abs=0.15)


@pytest.mark.parametrize("name", WITHOUT_PROMISE)
def test_a_container_that_promises_nothing_is_whole_wherever_it_ends(name, tmp_path):
    path = written(tmp_path, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    times_s = read_frame_times(path, None).time_s
    assert 40 < len(times_s) < 160
    found = read_audio(path, 16_000)
    end_s = found.start_s + len(found.samples) / 16_000
    assert end_s == pytest.approx(times_s[-1], abs=1.5)


@pytest.mark.parametrize("kept", [50, 188])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_download_that_was_given_up_is_incomplete_although_it_has_its_size(name, kept, tmp_path):
    path = written(tmp_path, name, kept=kept)
    path.write_bytes(path.read_bytes().ljust(len(encoded(name, True)), b"\0"))
    with pytest.raises(MediaError, match="fewer than 95%: the file is truncated or damaged"):
        read_frame_times(path, None)


@pytest.mark.parametrize("kept", [94, 96])
def test_a_last_picture_that_stands_is_no_loss_but_one_that_is_missing_is(kept, tmp_path):
    still = Video(steps(100), options=NO_B, change=held(4))
    path = write_media(tmp_path / "a.mkv", still)
    assert len(read_frame_times(path, None).time_s) == 100
    cut_before_frame(path, kept)  # the last picture stands for half of the time
    with pytest.raises(MediaError, match="fewer than 95%: the file is truncated or damaged"):
        read_frame_times(path, None)
