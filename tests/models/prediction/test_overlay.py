"""Overlays: the frames, the times and the sound of the source, read back by PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from features.errors import MediaError
from features.media.limits import DEFAULT_LIMITS
from models.metrics.predict import RegionPosterior
from models.prediction.drawing import BACKGROUND, LONGEST_PX, Layout, Overlay, colour_of
from models.prediction.overlay import write_overlay
from models.prediction.rows import PersonRows
from tests.helpers.field_media import Sound, Video, beeps_s, displayed, draw, steps, write_media
from tests.helpers.whole_media import read_audio, read_frame_times, read_images

pytestmark = pytest.mark.slow

UNEVEN_S = np.array([0.0, 0.04, 0.1, 0.12, 0.3, 0.34, 0.5, 0.9, 1.3])
QUARTER_TURN = (0, 1, -1, 0)
BOX = (8.0, 10.0, 24.0, 20.0)


def person_of(time_s: np.ndarray, number: int = 1, *, boxes: bool = True) -> PersonRows:
    n_rows = len(time_s)
    posterior = np.full((n_rows, 9), 1 / 9)
    return PersonRows(
        number,
        time_s,
        np.tile(BOX, (n_rows, 1)) if boxes else None,
        np.arange(n_rows) != 2,
        np.ones(n_rows, bool),
        np.stack([np.linspace(-1, 1, n_rows), np.linspace(0.5, -0.5, n_rows)], axis=1),
        RegionPosterior(posterior, np.ones(n_rows, bool)),
        None,
    )


def overlay_of(video: Path, people: list[PersonRows]) -> Path:
    path = video.with_name("overlay.mp4")
    write_overlay(path, video, people, ("a",) * 9, DEFAULT_LIMITS)
    return path


@pytest.mark.parametrize("start_s", [0.0, 1.4])
def test_every_frame_keeps_its_time_and_the_sound_stays_in_step(tmp_path, start_s):
    sound = Sound(beeps_s=(0.3, 1.1), seconds=1.5, start_s=0.2)
    tracks = Video(UNEVEN_S, options={"bf": "2"}), sound
    source = write_media(tmp_path / "source.mkv", *tracks, start_s=start_s)
    times = read_frame_times(source, None)
    made = overlay_of(source, [person_of(times.time_s)])
    with av.open(str(made)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.codec_context.pix_fmt == "yuv420p"  # what browsers play
        assert video.time_base == Fraction(1, 90_000)
        shown_s = [frame.time for frame in container.decode(video)]
    np.testing.assert_allclose(shown_s, times.time_s, atol=1e-4)
    before, after = (read_audio(path, 48_000) for path in (source, made))
    beeps = [beeps_s(each.samples, each.start_s, 48_000) for each in (before, after)]
    np.testing.assert_allclose(beeps[0], beeps[1], atol=0.003)


def test_a_turned_video_without_sound_is_upright_beside_the_plane(tmp_path):
    frames = draw(6, width=96, height=64)
    source = write_media(
        tmp_path / "source.mp4", Video(UNEVEN_S[:6], frames=frames, matrix=QUARTER_TURN)
    )
    people = [person_of(UNEVEN_S[:6], boxes=False)]
    images = read_images(overlay_of(source, people))
    layout = Layout.of(64, 96, 1)
    assert images[0].shape == (layout.size[1], layout.size[0], 3)
    top = (layout.size[1] - 96) // 2
    shown = np.array([image[top : top + 96, :64] for image in images], float)
    assert np.abs(shown - displayed(QUARTER_TURN, frames)).mean() < 4
    assert np.abs(images[0][:top, :64] - np.array(BACKGROUND, float)).mean() < 4
    with av.open(str(source.with_name("overlay.mp4"))) as container:
        assert not container.streams.audio


def test_times_below_zero_are_moved_with_the_sound(tmp_path):
    source = write_media(
        tmp_path / "source.mkv",
        Video(steps(20, -0.1)),
        Sound(beeps_s=(0.3,), seconds=1.2),
        options={"avoid_negative_ts": "disabled"},
    )
    times = read_frame_times(source, None).time_s
    assert times[0] == pytest.approx(-0.1, abs=0.001)
    made = overlay_of(source, [person_of(times)])
    np.testing.assert_allclose(read_frame_times(made, None).time_s, times + 0.1, atol=0.001)
    before, after = (read_audio(path, 48_000) for path in (source, made))
    beeps = [beeps_s(each.samples, each.start_s, 48_000) for each in (before, after)]
    np.testing.assert_allclose(beeps[1], beeps[0] + 0.1, atol=0.003)


def test_a_video_that_has_changed_since_is_refused_and_leaves_no_file(tmp_path):
    source = write_media(tmp_path / "source.mp4", Video(UNEVEN_S))
    with pytest.raises(MediaError, match="has 9 frames now, and 4 were predicted; run the same"):
        overlay_of(source, [person_of(UNEVEN_S[:4])])
    assert list(tmp_path.iterdir()) == [source]


def is_near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=-1) <= 2


def test_box_trace_and_dot_are_where_the_numbers_say():
    people = [person_of(UNEVEN_S, 1), person_of(UNEVEN_S, 2, boxes=False)]
    people[1].va[:] = people[0].va[:, ::-1] * (-1, 1)  # across the other's trace
    layout = Layout.of(64, 48, 2)
    overlay, grey = Overlay(layout, people, ("a",) * 9), np.full((48, 64, 3), 127, np.uint8)
    last = overlay.draw(grey, 8)
    top = (layout.size[1] - 48) // 2
    box = is_near(last[:, :64], colour_of(1))
    y, x = np.nonzero(box)
    assert (x.min(), x.max()) == (8, 32)
    assert (y.min() - top, y.max() - top) == (10, 30)
    reach, middle = 0.4 * layout.panel, layout.panel / 2
    for number, (valence, arousal) in ((1, (1.0, -0.5)), (2, (0.5, 1.0))):
        column, row = round(64 + middle + reach * valence), round(middle - reach * arousal)
        assert is_near(last[row, column], colour_of(number)), number
    hidden = overlay.draw(grey, 2)  # its value is interpolated: a ring, dark inside
    column, row = (
        round(64 + middle + reach * people[0].va[2, 0]),
        round(middle - reach * people[0].va[2, 1]),
    )
    inside = hidden[row - 1 : row + 2, column + 1]
    assert not is_near(inside, colour_of(1)).all()


def test_layouts_are_even_and_bounded():
    for size in ((63, 47), (1920, 1080), (1080, 1920), (2, 2), (7680, 4320)):
        layout = Layout.of(*size, 3)
        assert max(layout.width, layout.height) <= LONGEST_PX
        assert all(length % 2 == 0 for length in (*layout.size, layout.width, layout.height))
    wide = Layout.of(1920, 1080, 1)
    assert wide.width / wide.height == pytest.approx(16 / 9, rel=0.01)
