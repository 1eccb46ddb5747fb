"""A synthetic voice: syllables and pauses, a glottal source, three formants.

All parameters are on the grid of the trajectory (`GRID_HZ`), and interpolated linearly at the
samples. The source is a sum of harmonics, weighted by the gain of the formants.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from features.synthetic.expression import VOICE_CUES
from features.synthetic.identity import Voice
from features.synthetic.trajectory import GRID_HZ

SYNTH_HZ = 16_000  # the files have three times as many samples
N_HARMONICS = 36
TOP_HZ = 7_000.0  # harmonics above it are left out
SPEECH_LEVEL = 0.11  # root mean square of neutral speech, of full scale
BANDWIDTHS_HZ = np.array([90.0, 130.0, 200.0])
# Peterson and Barney (1952), adult male means
VOWELS_HZ = np.array([
    [730.0, 1090, 2440], [570, 840, 2410], [300, 870, 2240], [390, 1990, 2550],
    [270, 2290, 3010], [530, 1840, 2480], [660, 1720, 2410], [490, 1350, 1690],
])  # fmt: skip
PITCH_SEMITONES = 3.0  # per standard deviation of the cue, as the next four
LOUDNESS_DB = 4.0
TEMPO_SHARE = 0.22
MELODY_SEMITONES, LILT_SEMITONES = 1.5, 4.5  # of a phrase: at rest, per standard deviation
TILT_DB = 2.0
FORMANT_SHARE = 0.11
ROUGH_DEPTH, ROUGH_SHARE, ROUGH_LIMIT = 0.40, 0.40, 0.95  # of the flutter: rest, per sd, most
ROUGH_HZ = 22.0  # of the flutter in a rough voice
HOARSE_DB = 6.0  # of the breath's noise in a rough voice, per standard deviation
SMILE_DB, SMILE_HZ = 3.0, (1_600.0, 4_000.0)  # of the upper formants, per standard deviation
PHRASE_S = (1.0, 3.0)
PAUSE_S = (0.2, 0.9)
SILENCES_PER_MIN = 1.5
SILENCE_S = (2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Speech:
    """Syllables, vowels and melody on the grid."""

    envelope: Float64[np.ndarray, "T"]
    """0 silent, 1 the middle of a syllable."""
    hiss: Float64[np.ndarray, "T"]
    """Loudness of consonants."""
    formants_hz: Float64[np.ndarray, "T 3"]
    melody: Float64[np.ndarray, "T"]
    """-1..1 within each phrase: its beginning, its end, and the beat of its syllables."""


def plan_speech(rng: np.random.Generator, cues: Float64[np.ndarray, "T G"], voice: Voice) -> Speech:
    """Random phrases and pauses whose pace follows the tempo cue, with longer silences."""
    n_steps = len(cues)
    tempo = cues[:, VOICE_CUES.index("tempo")]
    envelope, hiss, melody = np.zeros(n_steps), np.zeros(n_steps), np.zeros(n_steps)
    formants_hz = np.tile(VOWELS_HZ[-1], (n_steps, 1))
    seconds = n_steps / GRID_HZ
    grid_s = np.arange(n_steps) / GRID_HZ
    at_s = float(rng.uniform(0.0, 0.6))
    while at_s < seconds:
        phrase_s, phrase_end_s = at_s, at_s + rng.uniform(*PHRASE_S)
        while at_s < min(phrase_end_s, seconds):
            pace = 1 + TEMPO_SHARE * tempo[min(int(at_s * GRID_HZ), n_steps - 1)]
            length_s = rng.uniform(0.8, 1.25) / (voice.tempo_hz * max(pace, 0.45))
            inside = (grid_s >= at_s) & (grid_s < at_s + length_s)
            share = (grid_s[inside] - at_s) / length_s
            envelope[inside] = np.sin(np.pi * share) ** 0.7 * rng.uniform(0.75, 1.0)
            if rng.random() < 0.5:
                hiss[inside] = rng.uniform(0.2, 1.0) * np.exp(-(((share - 0.06) / 0.12) ** 2))
            formants_hz[inside] = VOWELS_HZ[rng.integers(len(VOWELS_HZ))]
            along = (grid_s[inside] - phrase_s) / (phrase_end_s - phrase_s)
            melody[inside] = (1.4 * along - 0.7) + 0.3 * np.sin(2 * np.pi * share)
            at_s += length_s
        slow = 1 - TEMPO_SHARE * tempo[min(int(at_s * GRID_HZ), n_steps - 1)]
        at_s += rng.uniform(*PAUSE_S) * max(slow, 0.4)
        if rng.random() < SILENCES_PER_MIN / 60 * (sum(PHRASE_S) + sum(PAUSE_S)) / 2:
            at_s += rng.uniform(*SILENCE_S)
    smooth = np.hanning(5) / np.hanning(5).sum()
    formants_hz = np.stack(
        [np.convolve(np.pad(f, 2, "edge"), smooth, "valid") for f in formants_hz.T], 1
    )
    return Speech(envelope, hiss, formants_hz, melody)


def synthesise(
    rng: np.random.Generator,
    cues: Float64[np.ndarray, "T G"],
    speech: Speech,
    voice: Voice,
    n_samples: int,
) -> Float32[np.ndarray, "S"]:
    """The samples of the voice at `SYNTH_HZ`, full scale 1."""
    cue = dict(zip(VOICE_CUES, cues.T, strict=True))
    jitter = rng.normal(0, 0.12, len(cues))
    semitones = PITCH_SEMITONES * cue["pitch"] + jitter
    semitones += speech.melody * (MELODY_SEMITONES + LILT_SEMITONES * cue["lilt"])
    f0_hz = voice.pitch_hz * 2 ** (semitones / 12)
    level = 10 ** ((LOUDNESS_DB * cue["loudness"] + voice.gain_db) / 20) * speech.envelope
    tilt_db = voice.tilt_db + TILT_DB * cue["brightness"]
    shift = voice.formant_scale * (1 + FORMANT_SHARE * cue["spread"])
    smile_db = SMILE_DB * cue["spread"]
    gains = _harmonic_gains(f0_hz, tilt_db, smile_db, speech.formants_hz * shift[:, None])
    grid = np.arange(len(cues)) / GRID_HZ * SYNTH_HZ
    sample = np.arange(n_samples)
    phase = 2 * np.pi * np.cumsum(np.interp(sample, grid, f0_hz)) / SYNTH_HZ
    voiced = _sum_of_harmonics(phase, gains * level[:, None], grid)
    depth = np.clip(ROUGH_DEPTH + ROUGH_SHARE * cue["roughness"], 0, ROUGH_LIMIT)
    flutter = 0.5 + 0.5 * np.sin(2 * np.pi * ROUGH_HZ * sample / SYNTH_HZ)
    voiced *= 1 - np.interp(sample, grid, depth) * flutter
    noise = rng.standard_normal(n_samples + 1)
    hoarse = 10 ** (HOARSE_DB * cue["roughness"] / 20)
    breath = voice.breath * hoarse * np.clip(1 - 0.3 * cue["loudness"], 0.3, 2.0) * level
    voiced += np.interp(sample, grid, breath) * noise[1:]
    voiced += np.interp(sample, grid, 0.35 * speech.hiss * level) * np.diff(noise)
    return (SPEECH_LEVEL * voiced).astype(np.float32)


def _harmonic_gains(
    f0_hz: Float64[np.ndarray, "T"],
    tilt_db: Float64[np.ndarray, "T"],
    smile_db: Float64[np.ndarray, "T"],
    formants_hz: Float64[np.ndarray, "T 3"],
) -> Float64[np.ndarray, "T H"]:
    """The amplitude of each harmonic: tilt times formants, normalised at a tilt of -7 dB."""
    number = np.arange(1, N_HARMONICS + 1)
    hz = f0_hz[:, None] * number  # (T, H)
    gain = 10 ** (tilt_db[:, None] * np.log2(number) / 20)
    for k, bandwidth_hz in enumerate(BANDWIDTHS_HZ):
        centre = formants_hz[:, k, None]
        gain *= centre**2 / np.sqrt((centre**2 - hz**2) ** 2 + (bandwidth_hz * hz) ** 2)
    smiled = (hz > SMILE_HZ[0]) & (hz < SMILE_HZ[1])
    gain *= np.where(smiled, 10 ** (smile_db[:, None] / 20), 1.0)
    gain *= hz < TOP_HZ
    plain = 10 ** (-7.0 * np.log2(number) / 20)
    return gain / np.sqrt((plain**2).sum()) / 2.0


def _sum_of_harmonics(
    phase: Float64[np.ndarray, "S"],
    gains: Float64[np.ndarray, "T H"],
    grid: Float64[np.ndarray, "T"],
) -> Float64[np.ndarray, "S"]:
    """The sum over k of gain_k sin(k phase), by the recurrence of sin((k + 1) x)."""
    sample = np.arange(len(phase))
    twice_cos = 2 * np.cos(phase)
    before, now = np.zeros_like(phase), np.sin(phase)
    total = np.zeros_like(phase)
    for k in range(gains.shape[1]):
        total += np.interp(sample, grid, gains[:, k]) * now
        before, now = now, twice_cos * now - before
    return total
