"""Background audio: noise always, music and a second voice in some clips."""

import numpy as np
from jaxtyping import Float32, Float64

from features.synthetic.expression import VOICE_CUES, Difficulty
from features.synthetic.identity import draw_voice_identity
from features.synthetic.trajectory import GRID_HZ, grid_steps, noises, smooth_noise
from features.synthetic.voice import SPEECH_LEVEL, SYNTH_HZ, plan_speech, synthesise

NOISE_RANGE_DB = 20.0  # between the loudest noise of a set and the softest
TURN_TAU_S = 1.5  # of the second speaker, who speaks about half of the time


def background_audio(
    rng: np.random.Generator, n_samples: int, difficulty: Difficulty
) -> Float32[np.ndarray, "S"]:
    """Return the mixed background at SYNTH_HZ. It is independent of V and A."""
    level = 10 ** ((difficulty.background_db - rng.uniform(0, NOISE_RANGE_DB)) / 20)
    hz = np.fft.rfftfreq(n_samples, 1 / SYNTH_HZ)
    pink = np.fft.irfft(
        np.fft.rfft(rng.standard_normal(n_samples)) / np.sqrt(np.maximum(hz, 40.0)), n_samples
    )
    sound = level * pink / pink.std()
    if rng.random() < difficulty.music_share:
        sound += level * _music(rng, n_samples)
    if rng.random() < difficulty.second_voice_share:
        sound += _second_voice(rng, n_samples, difficulty)
    return sound.astype(np.float32)


def _music(rng: np.random.Generator, n_samples: int) -> Float64[np.ndarray, "S"]:
    """Return plucked notes of one scale, with about half of unit power."""
    time_s = np.arange(n_samples) / SYNTH_HZ
    beat_s = rng.uniform(0.3, 0.6)
    scale = rng.uniform(180, 320) * 2 ** (np.array([0, 2, 4, 7, 9, 12]) / 12)
    notes = rng.choice(scale, int(time_s[-1] / beat_s) + 1)
    beat = np.minimum((time_s / beat_s).astype(int), len(notes) - 1)
    since_s = time_s - beat * beat_s
    return 1.8 * np.sin(2 * np.pi * notes[beat] * since_s) * np.exp(-4 * since_s)


def _second_voice(
    rng: np.random.Generator, n_samples: int, difficulty: Difficulty
) -> Float64[np.ndarray, "S"]:
    n_steps = grid_steps(n_samples / SYNTH_HZ)
    voice = draw_voice_identity(rng)
    cues = noises(rng, len(VOICE_CUES), n_steps, 1.0)
    spoken = synthesise(rng, cues, plan_speech(rng, cues, voice), voice, n_samples)
    turns = np.clip(4 * smooth_noise(rng, n_steps, TURN_TAU_S), 0, 1)
    turns = np.interp(np.arange(n_samples), np.arange(n_steps) / GRID_HZ * SYNTH_HZ, turns)
    level = 10 ** (difficulty.second_voice_db / 20) / SPEECH_LEVEL
    return level * turns * spoken
