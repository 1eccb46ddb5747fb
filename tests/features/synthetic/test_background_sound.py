"""What is heard beside the voice."""

from dataclasses import replace

import numpy as np
import pytest

from features.synthetic.background_sound import background_audio
from features.synthetic.expression import DEFAULT_DIFFICULTY
from features.synthetic.voice import SPEECH_LEVEL, SYNTH_HZ

PLAIN = replace(DEFAULT_DIFFICULTY, music_share=0.0, second_voice_share=0.0)
SECONDS = 20


def heard(seed: int = 0, **changes: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return background_audio(rng, SECONDS * SYNTH_HZ, replace(PLAIN, **changes)).astype(np.float64)


def level_db(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(sound**2)))


def test_noise_is_never_louder_than_its_limit():
    levels = [level_db(heard(seed)) for seed in range(12)]
    assert max(levels) <= PLAIN.background_db + 0.1
    assert min(levels) > PLAIN.background_db - 20.1
    assert np.ptp(levels) > 8


def test_noise_is_pink_and_music_no_louder_than_it():
    noise, music = heard(), heard(music_share=1.0)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / SYNTH_HZ)
    low, high = (power[(hz > a) & (hz < 2 * a)].sum() for a in (100, 3000))
    assert low == pytest.approx(high, rel=0.2)  # equal power in each octave
    assert level_db(music) - level_db(noise) < 6


def test_music_is_tones_and_noise_is_not():
    def peak(sound: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(sound)) ** 2
        return float(power.max() / power.mean())

    assert peak(heard(music_share=1.0)) > 5 * peak(heard())


def test_a_second_voice_speaks_in_turns_well_below_the_first():
    voice = heard(second_voice_share=1.0, background_db=-120.0)
    blocks = np.sqrt(np.mean(voice.reshape(-1, SYNTH_HZ // 4) ** 2, axis=1))
    silent = blocks < 0.02 * blocks.max()
    assert 0.1 < silent.mean() < 0.9
    first_db = 20 * np.log10(SPEECH_LEVEL)
    assert level_db(voice) < first_db - 10
    assert level_db(voice) > first_db - 30


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_heard_repeats(seed):
    options = {"music_share": 1.0, "second_voice_share": 1.0}
    np.testing.assert_array_equal(heard(seed, **options), heard(seed, **options))
