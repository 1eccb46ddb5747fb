import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.media.sampling import EVERY_FRAME, Sampling


def taken(sampling: Sampling, time_s) -> list[int]:
    return list(sampling.taken(enumerate(time_s)))


def test_every_nth_frame_begins_with_the_first():
    assert taken(EVERY_FRAME, [0.0, 0.1, 0.2]) == [0, 1, 2]
    assert taken(Sampling(every=3), np.arange(8) / 25) == [0, 3, 6]


def test_so_many_a_second_are_the_first_at_or_after_even_points_from_the_first_frame():
    # 2 a second of 10 a second, from 0.3 s on: points at 0.3, 0.8, 1.3
    assert taken(Sampling(fps=2), 0.3 + np.arange(12) / 10) == [0, 5, 10]
    # a variable rate: points at 0, .5, 1, 1.5; nothing between .1 and .9, which serves two points
    assert taken(Sampling(fps=2), [0.0, 0.1, 0.9, 1.0, 1.4, 1.51]) == [0, 2, 3, 5]
    # points that passed while no frame came are not made up for
    assert taken(Sampling(fps=2), [0.0, 2.0, 2.1, 2.2, 2.5]) == [0, 1, 4]


def test_a_rate_beyond_that_of_the_frames_takes_each_once():
    assert taken(Sampling(fps=100), np.arange(5) / 25) == [0, 1, 2, 3, 4]


def test_where_timestamps_fall_back_time_goes_on():
    once = np.arange(10) / 10
    assert taken(Sampling(fps=2), [*once, *once]) == [0, 5, 10, 15]


@given(
    n=st.integers(1, 300),
    fps=st.sampled_from([23.976, 25.0, 29.97, 60.0]),
    wanted=st.floats(0.2, 90),
)
def test_a_constant_rate_is_thinned_evenly(n, fps, wanted):
    time_s = 7.0 + np.arange(n) / fps
    rows = taken(Sampling(fps=wanted), time_s)
    points = np.floor((time_s - 7.0 + 1e-6) * wanted)
    assert rows == sorted({int(np.flatnonzero(points >= p)[0]) for p in set(points)})


def test_what_a_feature_set_says_of_its_rows():
    assert EVERY_FRAME.as_spec() == "every frame"
    assert Sampling(every=5).as_spec() == {"every": 5}
    assert Sampling(fps=2).as_spec() == {"fps": 2}


def test_only_one_of_both_ways():
    with pytest.raises(ValidationError, match="both say which frames: leave one out"):
        Sampling(every=2, fps=5)
