"""Random trajectories of valence and arousal, distributed as in the real training set."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

GRID_HZ = 50.0  # sampling rate of every random process, before it is interpolated at the frames
PAD_S = 20.0  # drawn beyond the clip, so that the two ends of a trajectory are independent

VALENCE_MEAN, VALENCE_SD = 0.074, 0.402  # Aff-Wild2, 1.68 million training rows
AROUSAL_MEAN, AROUSAL_SD = 0.297, 0.298
# Standard normal quantiles and the values they are mapped to. Valence is nearer to its middle than
# a normal distribution; arousal is above 1/3 in 39 % of rows and below -1/3 in 1.9 %.
NORMAL_KNOTS = np.array([-3.2, -2.075, -1.0, 0.0, 0.28, 1.0, 2.0, 3.2])
VALENCE_KNOTS = np.array([-1.0, -0.84, -0.31, 0.07, 0.175, 0.475, 0.90, 1.0])
AROUSAL_KNOTS = np.array([-0.70, -0.333, 0.02, 0.252, 0.333, 0.635, 0.95, 1.0])

TIME_CONSTANTS_S = (0.9, 2.5, 7.0)
TIME_WEIGHTS = (0.30, 0.40, 0.30)  # share of the variance within a clip
CLIP_SHARE = 0.30  # share of the whole variance that lies between clips


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Valence and arousal of one person on the grid; row i is at i / GRID_HZ seconds."""

    valence: Float64[np.ndarray, "T"]
    arousal: Float64[np.ndarray, "T"]

    def at(self, time_s: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N 2"]:
        """Return (V, A) at the given times, linear between grid points and constant beyond."""
        grid_s = np.arange(len(self.valence)) / GRID_HZ
        return np.stack([np.interp(time_s, grid_s, x) for x in (self.valence, self.arousal)], 1)

    def standard(self) -> Float64[np.ndarray, "T 2"]:
        """Return (V, A) standardised by the mean and deviation of the real set."""
        both = np.stack([self.valence, self.arousal], axis=1)
        return (both - [VALENCE_MEAN, AROUSAL_MEAN]) / [VALENCE_SD, AROUSAL_SD]


def grid_steps(seconds: float) -> int:
    """Return the number of grid points that cover a clip, with one second to spare."""
    return int(np.ceil((seconds + 1.0) * GRID_HZ))


def smooth_noise(rng: np.random.Generator, n_steps: int, tau_s: float) -> Float64[np.ndarray, "T"]:
    """Return a stationary Gaussian process of unit variance with correlation time `tau_s`."""
    n_drawn = n_steps + int(PAD_S * GRID_HZ)
    hz = np.fft.rfftfreq(n_drawn, 1 / GRID_HZ)
    gain = 1 / (1 + (2 * np.pi * hz * tau_s) ** 2)
    if tau_s * 8 > PAD_S:
        gain[0] = 0  # a slow process must not shift the mean of the clip
    power = (2 * np.sum(gain**2) - gain[0] ** 2) / n_drawn
    drawn = np.fft.irfft(np.fft.rfft(rng.standard_normal(n_drawn)) * gain, n_drawn)
    return drawn[:n_steps] / np.sqrt(power)


def noises(
    rng: np.random.Generator, n: int, n_steps: int, tau_s: float
) -> Float64[np.ndarray, "T N"]:
    """Return `n` independent processes as of `smooth_noise`, a column each."""
    return np.stack([smooth_noise(rng, n_steps, tau_s) for _ in range(n)], axis=1)


def clip_levels(rng: np.random.Generator, n_clips: int) -> Float64[np.ndarray, "N 2"]:
    """Return the mean V and A of each clip in standard deviations, stratified over the set.

    Each axis is cut into `n_clips` equally likely parts, which are assigned in random order. Even
    a small set has the right mean and deviation, independent of order and split.
    """
    parts = np.stack([rng.permutation(n_clips) for _ in range(2)], axis=1)
    share = (parts + rng.uniform(0.05, 0.95, parts.shape)) / n_clips
    return np.vectorize(NormalDist().inv_cdf)(share)


def draw_trajectory(
    rng: np.random.Generator, seconds: float, level: Float64[np.ndarray, "2"]
) -> Trajectory:
    """Return a random trajectory around the level of the clip, in standard deviations."""
    n_steps = grid_steps(seconds)
    axes = []
    for axis, knots in enumerate((VALENCE_KNOTS, AROUSAL_KNOTS)):
        within = sum(
            (
                np.sqrt(weight) * smooth_noise(rng, n_steps, tau_s)
                for weight, tau_s in zip(TIME_WEIGHTS, TIME_CONSTANTS_S, strict=True)
            ),
            start=np.zeros(n_steps),
        )
        normal = np.sqrt(CLIP_SHARE) * level[axis] + np.sqrt(1 - CLIP_SHARE) * within
        axes.append(np.interp(normal, NORMAL_KNOTS, knots))
    return Trajectory(valence=axes[0], arousal=axes[1])
