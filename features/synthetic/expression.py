"""The cues by which a face and a voice express valence and arousal, and the noise in them.

A cue is a number in standard deviations: 0 is usual, 2 is strong. Each cue is a weighted sum of V
and A, plus disturbances: a resting expression and a gain of the subject, moods that the face or the
voice shows but that are not felt, and slow and quick noise. `Difficulty` holds their strengths.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from features.synthetic.trajectory import GRID_HZ, Trajectory, noises

CUE_LIMIT = 2.4  # beyond it a drawn face breaks

# Weights of standardised V and A in each cue of the face, which shows V more than A.
FACE_WEIGHTS = {
    "smile": (0.80, 0.10),  # corners of the mouth up, or down
    "mouth_width": (0.45, 0.10),
    "mouth_open": (0.05, 0.50),  # of the jaw at rest; speech is added
    "brow_raise": (0.05, 0.55),
    "frown": (-0.60, 0.30),  # inner ends of the brows down, or up
    "lids": (-0.05, 0.60),  # eyes wide, or narrow
    "cheeks": (0.55, 0.10),  # raised under the eyes
    "nod": (0.10, 0.30),  # head up, or down
}
FACE_CUES = tuple(FACE_WEIGHTS)
# Weights of standardised V and A in each cue of the voice, which shows A more than V.
VOICE_WEIGHTS = {
    "pitch": (0.20, 0.70),
    "loudness": (0.00, 0.75),
    "tempo": (0.05, 0.60),
    "brightness": (0.15, 0.60),  # strength of the high harmonics
    "lilt": (0.60, 0.15),  # melody within a phrase: rising and lively, or falling and flat
    "roughness": (-0.60, 0.25),  # a growl; its opposite is a clear voice
    "spread": (0.50, 0.00),  # formants up, as when lips are drawn back in a smile
}
VOICE_CUES = tuple(VOICE_WEIGHTS)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Strengths of the disturbances, in standard deviations of a cue."""

    face_rest_sd: float = 0.30
    """Resting expression of a subject, per cue."""
    face_mood_sd: float = 0.40
    """V and A that the face shows for a few seconds but that are not felt."""
    face_slow_sd: float = 0.45
    face_quick_sd: float = 0.55
    voice_rest_sd: float = 0.35
    voice_mood_sd: float = 0.45
    voice_slow_sd: float = 0.45
    voice_quick_sd: float = 0.50
    gain_sd: float = 0.20
    """Spread of the logarithm of a subject's gain."""
    mood_tau_s: float = 1.2
    slow_tau_s: float = 1.0
    quick_tau_s: float = 0.07
    hands_per_min: float = 2.0
    """How often a hand covers the face."""
    turned_per_min: float = 1.5
    """How often the head turns away."""
    background_db: float = -36.0
    """The loudest background noise, relative to full scale; in a clip it is up to 20 dB lower."""
    music_share: float = 0.25
    """Share of the clips with soft music."""
    second_voice_share: float = 0.3
    """Share of the clips in which a second person sometimes speaks."""
    second_voice_db: float = -33.0
    """Loudness of that voice, relative to full scale; neutral speech is at -19."""


DEFAULT_DIFFICULTY = Difficulty()


@dataclass(frozen=True, slots=True)
class Temper:
    """How strongly one subject expresses V and A: cue = gain * felt + rest."""

    face_rest: Float64[np.ndarray, "F"]
    voice_rest: Float64[np.ndarray, "G"]
    face_gain: float
    voice_gain: float


def draw_temper(rng: np.random.Generator, difficulty: Difficulty) -> Temper:
    """A random resting expression and gain."""
    return Temper(
        face_rest=rng.normal(0, difficulty.face_rest_sd, len(FACE_CUES)),
        voice_rest=rng.normal(0, difficulty.voice_rest_sd, len(VOICE_CUES)),
        face_gain=float(np.exp(rng.normal(0, difficulty.gain_sd))),
        voice_gain=float(np.exp(rng.normal(0, difficulty.gain_sd))),
    )


def face_cues(
    rng: np.random.Generator, trajectory: Trajectory, temper: Temper, difficulty: Difficulty
) -> Float64[np.ndarray, "T F"]:
    """The cues of the face on the grid, columns as FACE_CUES."""
    felt_va = temper.face_gain * trajectory.standard()
    sds = (difficulty.face_mood_sd, difficulty.face_slow_sd, difficulty.face_quick_sd)
    return _cues(rng, felt_va, FACE_WEIGHTS, temper.face_rest, sds, difficulty)


def voice_cues(
    rng: np.random.Generator, trajectory: Trajectory, temper: Temper, difficulty: Difficulty
) -> Float64[np.ndarray, "T G"]:
    """The cues of the voice on the grid, columns as VOICE_CUES."""
    felt_va = temper.voice_gain * trajectory.standard()
    sds = (difficulty.voice_mood_sd, difficulty.voice_slow_sd, difficulty.voice_quick_sd)
    return _cues(rng, felt_va, VOICE_WEIGHTS, temper.voice_rest, sds, difficulty)


def _cues(
    rng: np.random.Generator,
    felt_va: Float64[np.ndarray, "T 2"],
    weights: Mapping[str, tuple[float, float]],
    rest: Float64[np.ndarray, "K"],
    sds: tuple[float, float, float],
    difficulty: Difficulty,
) -> Float64[np.ndarray, "T K"]:
    """The weighted sums of V and A with moods, plus rest and noise per cue.

    `sds` are the strengths of moods, slow noise and quick noise.
    """
    mood_sd, slow_sd, quick_sd = sds
    moods = noises(rng, 2, len(felt_va), difficulty.mood_tau_s)
    cues = (felt_va + mood_sd * moods) @ np.array(list(weights.values())).T + rest
    cues += slow_sd * noises(rng, len(weights), len(felt_va), difficulty.slow_tau_s)
    cues += quick_sd * noises(rng, len(weights), len(felt_va), difficulty.quick_tau_s)
    return np.clip(cues, -CUE_LIMIT, CUE_LIMIT)


def blinks(rng: np.random.Generator, n_steps: int) -> Float64[np.ndarray, "T"]:
    """How far the lids are open: 1, and for an instant 0 every few seconds."""
    open_share = np.ones(n_steps)
    at = 0.0
    while (at := at + rng.uniform(1.5, 6.0) * GRID_HZ) < n_steps:
        distance_s = np.abs(np.arange(n_steps) - at) / GRID_HZ
        open_share = np.minimum(open_share, np.clip(distance_s / 0.09, 0, 1))
    return open_share
