"""How far the reading of a video is."""

from features.extraction.outcome import ClipRead
from features.media.limits import DEFAULT_LIMITS
from models.prediction.people import whole_frame
from models.prediction.progress import ProgressTeller, VideoProgress


def teller(path, clock_s, told):
    video = whole_frame(path, "talk")
    teller = ProgressTeller({"a": video}, DEFAULT_LIMITS, told.append, iter(clock_s).__next__)
    return lambda n, modality="visual": teller(ClipRead("a", f"{modality}-1", modality, n))


def test_a_video_is_told_of_with_rate_and_time_left_about_every_second(make_video):
    told: list[VideoProgress] = []
    read = teller(make_video(), [10.0, 10.5, 12.0, 12.5, 13.0], told)
    for n_items in (4, 6, 20, 24, 30):
        read(n_items)

    assert [(each.n_frames, each.total, each.seconds) for each in told] == [
        (20, 50, 2.0),
        (30, 50, 3.0),
    ]
    assert (told[0].name, told[0].what) == ("talk", "visual")
    assert (told[0].frames_per_s, told[0].left_s) == (10, 3)


def test_sound_is_not_told_of(make_video):
    told: list[VideoProgress] = []
    read = teller(make_video(), [0.0, 5.0], told)
    read(1, "audio")
    read(2, "audio")

    assert not told


def test_without_a_number_of_frames_no_time_is_left(tmp_path):
    (tmp_path / "none.mp4").write_bytes(b"")
    told: list[VideoProgress] = []
    read = teller(tmp_path / "none.mp4", [0.0, 5.0], told)
    read(1)
    read(2)

    assert [(each.total, each.left_s) for each in told] == [(None, None)]
