import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.media.sampling import EVERY_FRAME, Sampling


def select(sampling: Sampling, time_s) -> list[int]:
    """Indices of the sampled frames."""
    return list(sampling.select(enumerate(time_s)))


def test_every_nth_frame_starts_with_the_first():
    assert select(EVERY_FRAME, [0.0, 0.1, 0.2]) == [0, 1, 2]
    assert select(Sampling(every=3), np.arange(8) / 25) == [0, 3, 6]


def test_frames_per_second_selects_the_first_frame_at_or_after_each_point():
    # 2 a second of 10 a second, from 0.3 s on: points at 0.3, 0.8, 1.3
    assert select(Sampling(fps=2), 0.3 + np.arange(12) / 10) == [0, 5, 10]
    # a variable rate: points at 0, .5, 1, 1.5; .9 is the first frame after .5
    assert select(Sampling(fps=2), [0.0, 0.1, 0.9, 1.0, 1.4, 1.51]) == [0, 2, 3, 5]
    # points without a frame are skipped
    assert select(Sampling(fps=2), [0.0, 2.0, 2.1, 2.2, 2.5]) == [0, 1, 4]


def test_a_rate_above_the_frame_rate_selects_each_frame_once():
    assert select(Sampling(fps=100), np.arange(5) / 25) == [0, 1, 2, 3, 4]


def test_time_continues_where_timestamps_go_back():
    once = np.arange(10) / 10
    assert select(Sampling(fps=2), [*once, *once]) == [0, 5, 10, 15]


@given(
    n=st.integers(1, 300),
    fps=st.sampled_from([23.976, 25.0, 29.97, 60.0]),
    wanted=st.floats(0.2, 90),
)
def test_a_constant_rate_is_sampled_evenly(n, fps, wanted):
    time_s = 7.0 + np.arange(n) / fps
    rows = select(Sampling(fps=wanted), time_s)
    points = np.floor((time_s - 7.0 + 1e-6) * wanted)
    assert rows == sorted({int(np.flatnonzero(points >= p)[0]) for p in set(points)})


def test_a_spec_has_the_sampling_and_gives_it_back():
    assert EVERY_FRAME.as_spec() == "every frame"
    assert Sampling(every=5).as_spec() == {"every": 5}
    assert Sampling(fps=2).as_spec() == {"fps": 2}
    for sampling in (EVERY_FRAME, Sampling(every=5), Sampling(fps=2)):
        assert Sampling.from_spec(sampling.as_spec()) == sampling


def test_a_frame_less_than_a_microsecond_early_is_on_time():
    assert select(Sampling(fps=1), [0.0, 0.999_999_5, 1.1]) == [0, 1]
    assert select(Sampling(fps=1), [0.0, 0.999_998, 1.1]) == [0, 2]
    # a sum of ten steps of 0.1 s is 0.9999999999999999
    assert select(Sampling(fps=1), np.cumsum([0.0, *[0.1] * 11])) == [0, 10]


def test_the_interval_of_sampled_frames_is_at_least_that_of_the_video():
    assert Sampling(every=3).interval_s(0.04) == pytest.approx(0.12)
    assert Sampling(fps=5).interval_s(0.04) == pytest.approx(0.2)
    assert Sampling(fps=100).interval_s(0.04) == pytest.approx(0.04)


def test_every_and_fps_exclude_each_other():
    with pytest.raises(ValidationError, match="both say which frames: leave one out"):
        Sampling(every=2, fps=5)
