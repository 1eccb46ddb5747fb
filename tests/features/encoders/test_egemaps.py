"""Rows of `egemaps` equal those of openSMILE, a window at a time."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch

from features.clip import Source
from features.encoders import egemaps
from features.encoders.egemaps import EgemapsConfig
from features.errors import InputError
from tests.helpers.small_media import RATE_HZ, tone
from tests.helpers.whole_media import read_audio

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture
def smile():
    opensmile = pytest.importorskip("opensmile")
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
    )


def track_of(config: EgemapsConfig, video, decoder):
    encoder = config.build(CPU)
    *items, layout = encoder.read(Source("a", video, None, None, None), decoder)
    return encoder.assemble([encoder.encode(item) for item in items], layout)


def test_rows_of_a_sound_equal_those_of_opensmile(smile, make_video, decoder):
    video = make_video(sound=tone(2.5), sound_starts_s=0.2)
    track, note = track_of(EgemapsConfig(), video, decoder)
    sound = read_audio(video, 16_000)
    wanted = smile.process_signal(sound.samples, 16_000)
    assert len(track.values) == len(wanted) - 1  # the last one's frame ends beyond the sound
    np.testing.assert_array_equal(track.values, wanted.to_numpy()[:-1].astype(np.float16))
    starts = wanted.index.get_level_values("start").total_seconds().to_numpy()
    np.testing.assert_allclose(track.time_s, sound.start_s + starts[:-1] + 0.01)
    assert note is None


def test_rows_of_long_sound_are_from_the_window_with_most_context(smile, make_video, decoder):
    video = make_video(sound=tone(5.03))
    track, _ = track_of(EgemapsConfig(window_s=2, hop_s=1), video, decoder)
    samples = read_audio(video, 16_000).samples
    n_steps = (len(samples) - 960) // 160 + 1
    assert len(track.values) == n_steps
    starts = [*range(0, n_steps - 200, 100), n_steps - 200]
    windows = [
        smile.process_signal(samples[s * 160 :][: 199 * 160 + 960], 16_000).to_numpy()
        for s in starts
    ]
    wanted = []
    for step in range(n_steps):
        context = [min(step - s, s + 199 - step) for s in starts]  # steps to the nearer edge
        best = int(np.argmax(context))
        wanted.append(windows[best][step - starts[best]])
    np.testing.assert_array_equal(track.values, np.stack(wanted).astype(np.float16))


def test_rows_without_voice_have_the_values_of_opensmile(smile, make_video, decoder):
    sound = np.concatenate([tone(1.0), np.zeros(RATE_HZ, np.float32)])
    track, _ = track_of(EgemapsConfig(), make_video(sound=sound), decoder)
    pitch = smile.feature_names.index("F0semitoneFrom27.5Hz_sma3nz")
    amplitude = smile.feature_names.index("F1amplitudeLogRelF0_sma3nz")
    voiced, silent = track.values[track.time_s < 0.8], track.values[track.time_s > 1.3]
    assert np.median(voiced[:, pitch]) > 20  # semitones: 150 Hz is 29.4
    assert (silent[:, pitch] == 0).all()
    assert (silent[:, amplitude] == -201).all()
    assert track.valid.all()


def test_sound_that_is_missing_or_too_short_is_an_empty_track_with_a_note(
    smile, make_video, decoder
):
    track, note = track_of(EgemapsConfig(), make_video(), decoder)
    assert (track.values.shape, note) == ((0, 25), "the clip has no sound")


def test_without_opensmile_the_message_says_how_to_install_it(monkeypatch):
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(egemaps, "version", absent)
    with pytest.raises(InputError, match=r"not installed: `pip install -e '.\[opensmile\]'`"):
        EgemapsConfig().spec()


def test_a_hop_that_leaves_gaps_is_refused(smile):
    with pytest.raises(InputError, match="egemaps.hop_s = 70.0: must be at least a step of 0.01 s"):
        EgemapsConfig(hop_s=70.0).spec()


@pytest.mark.parametrize("change", [{"window_s": 40.0}, {"hop_s": 20.0}, {"precision": "float16"}])
def test_each_key_is_in_the_spec(smile, change):
    config = EgemapsConfig()
    assert config.model_copy(update=change).spec().name != config.spec().name
