"""The course of V and A: the real set's spread, smoothness, and what depends on what."""

import numpy as np
import pytest

from features.errors import InputError
from features.synthetic.random_streams import stream
from features.synthetic.trajectory import (
    AROUSAL_MEAN,
    AROUSAL_SD,
    GRID_HZ,
    VALENCE_MEAN,
    VALENCE_SD,
    Trajectory,
    clip_levels,
    draw_trajectory,
    smooth_noise,
)

SECONDS = 20.0


@pytest.fixture(scope="module")
def courses() -> list[Trajectory]:
    """Many clips of one set."""
    rng = np.random.default_rng(11)
    return [draw_trajectory(rng, SECONDS, level) for level in clip_levels(rng, 400)]


def test_the_moments_are_those_of_the_real_training_set(courses):
    v = np.concatenate([trajectory.valence for trajectory in courses])
    a = np.concatenate([trajectory.arousal for trajectory in courses])
    assert v.mean() == pytest.approx(VALENCE_MEAN, abs=0.03)
    assert v.std() == pytest.approx(VALENCE_SD, abs=0.03)
    assert a.mean() == pytest.approx(AROUSAL_MEAN, abs=0.03)
    assert a.std() == pytest.approx(AROUSAL_SD, abs=0.03)
    assert (a > 1 / 3).mean() == pytest.approx(0.39, abs=0.03)
    assert (a < -1 / 3).mean() == pytest.approx(0.019, abs=0.01)
    assert abs(np.corrcoef(v, a)[0, 1]) < 0.1
    assert np.abs(np.concatenate([v, a])).max() <= 1


def test_clips_differ_in_their_means_and_move_within(courses):
    for axis, whole_sd in (("valence", VALENCE_SD), ("arousal", AROUSAL_SD)):
        means = np.array([getattr(trajectory, axis).mean() for trajectory in courses])
        within = np.array([getattr(trajectory, axis).std() for trajectory in courses])
        assert 0.35 < means.std() / whole_sd < 0.85
        assert np.median(within) / whole_sd > 0.5


def test_a_course_is_smooth_from_frame_to_frame_and_forgets_over_seconds(courses):
    v = np.stack([trajectory.valence - VALENCE_MEAN for trajectory in courses])
    lag = [float((v[:, n:] * v[:, : v.shape[1] - n]).mean()) for n in (0, 2, int(8 * GRID_HZ))]
    assert lag[1] / lag[0] > 0.99  # 40 ms
    assert lag[2] / lag[0] < 0.5  # 8 s


def test_a_course_is_read_between_grid_points_on_a_line():
    trajectory = Trajectory(valence=np.array([0.0, 0.5, 1.0]), arousal=np.array([0.0, -0.2, -0.2]))
    at = trajectory.at(np.array([0.0, 0.5 / GRID_HZ, 1.0 / GRID_HZ, 9.0]))
    np.testing.assert_allclose(at, [[0, 0], [0.25, -0.1], [0.5, -0.2], [1.0, -0.2]])


@pytest.mark.parametrize("tau_s", [0.07, 1.0, 7.0])
def test_noise_has_unit_variance_whatever_its_time_constant(tau_s):
    rng = np.random.default_rng(0)
    drawn = np.stack([smooth_noise(rng, 500, tau_s) for _ in range(600)])
    assert drawn.var() == pytest.approx(1.0, abs=0.08)


def test_a_set_is_spread_evenly_but_its_order_tells_nothing():
    levels = np.stack([clip_levels(np.random.default_rng(seed), 40) for seed in range(200)])
    assert np.abs(levels.mean(axis=1)).max() < 0.1  # each set is centred
    assert np.abs(levels.mean(axis=0)).max() < 0.35  # each place in the order is, over sets
    order = np.arange(40)
    slopes = [np.corrcoef(order, one[:, 0])[0, 1] for one in levels]
    assert abs(np.mean(slopes)) < 0.05


def test_streams_differ_by_every_part_of_their_address_and_repeat():
    addresses = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (1, 0), (1, 0, 0, 0)]
    draws = [stream(*address).random() for address in addresses]
    assert len(set(draws)) == len(draws)
    assert draws == [stream(*address).random() for address in addresses]


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1; it must be at least 0 and below 2"):
        stream(-1, 0)
