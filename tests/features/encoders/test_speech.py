"""Rows of `wavlm`, `wav2vec2` and `hubert` equal those of transformers, a window at a time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Wav2Vec2FeatureExtractor

from features.clip import Source
from features.encoder_kinds import config_of
from features.encoders.speech_model import classes_of
from features.encoders.step_windows import StepWindows
from features.errors import InputError, WeightsError
from tests.helpers.small_media import RATE_HZ, tone
from tests.helpers.small_speech import write_speech
from tests.helpers.whole_media import read_audio

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ALIKE = 0.99999  # least cosine of a row to the reference's
STRIDE, RECEPTIVE = 320, 400  # samples of wav2vec 2.0's convolutions (Baevski et al., 2020)


@pytest.fixture(scope="module", params=["wavlm", "wav2vec2", "hubert", "wavlm large"])
def model(request, tmp_path_factory) -> tuple[str, str]:
    kind, _, size = request.param.partition(" ")
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    return kind, write_speech(folder, kind, large=bool(size))


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory) -> str:
    return write_speech(tmp_path_factory.mktemp("wavlm"), "wavlm")


def track_of(encoder, video: Path, decoder):
    *items, layout = encoder.read(Source("a", video, None, None, None), decoder)
    return encoder.assemble([encoder.encode(item) for item in items], layout)


def hidden_states(kind: str, folder: str, samples: np.ndarray) -> list[np.ndarray]:
    """What transformers makes of samples, by layer."""
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    network = classes_of(kind)[1].from_pretrained(folder).eval()
    inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        found = network(inputs, output_hidden_states=True)
    layers = (*found.hidden_states[:-1], found.last_hidden_state)
    return [each[0].numpy() for each in layers]


def least_cosine(found: np.ndarray, wanted: np.ndarray) -> float:
    pair = (torch.from_numpy(np.asarray(each, np.float64)) for each in (found, wanted))
    return float(torch.cosine_similarity(*pair).min())


@pytest.mark.parametrize("layers", [None, (1,), (0, 2, 3)])
def test_rows_of_short_sound_equal_those_of_transformers(model, make_video, decoder, layers):
    kind, folder = model
    video = make_video(sound=tone(2.5), sound_starts_s=0.2)
    encoder = config_of(kind)(model=folder, layers=layers).build(CPU)
    track, note = track_of(encoder, video, decoder)
    sound = read_audio(video, 16_000)
    states = hidden_states(kind, folder, sound.samples)
    wanted = np.mean([states[k] for k in layers or (3,)], axis=0)
    assert track.values.shape == wanted.shape
    assert least_cosine(track.values, wanted) > ALIKE
    other = np.mean([states[k] for k in (2,)], axis=0)
    assert least_cosine(track.values, other) < ALIKE
    times = sound.start_s + (np.arange(len(wanted)) * STRIDE + RECEPTIVE / 2) / 16_000
    np.testing.assert_allclose(track.time_s, times)
    assert note is None


def test_rows_of_long_sound_are_from_the_window_with_most_context(model, make_video, decoder):
    kind, folder = model
    video = make_video(sound=tone(5.03))
    encoder = config_of(kind)(model=folder, window_s=2, hop_s=1).build(CPU)
    track, _ = track_of(encoder, video, decoder)
    samples = read_audio(video, 16_000).samples
    n_steps = (len(samples) - RECEPTIVE) // STRIDE + 1
    assert len(track.values) == n_steps
    starts = [*range(0, n_steps - 100, 50), n_steps - 100]
    windows = [
        hidden_states(kind, folder, samples[s * STRIDE :][: 99 * STRIDE + RECEPTIVE])[-1]
        for s in starts
    ]
    wanted = []
    for step in range(n_steps):
        context = [min(step - s, s + 99 - step) for s in starts]  # steps to the nearer edge
        best = int(np.argmax(context))
        wanted.append(windows[best][step - starts[best]])
    assert least_cosine(track.values, np.stack(wanted)) > ALIKE
    assert least_cosine(track.values[1:], np.stack(wanted)[:-1]) < ALIKE


@given(
    n_samples=st.integers(0, 5000),
    n_steps=st.integers(1, 9),
    hop=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 5000), max_size=5),
)
def test_windows_of_blocks_are_those_of_the_whole(n_samples, n_steps, hop, cuts):
    windows = StepWindows(n_steps, min(hop, n_steps), receptive=40, stride=32)
    samples = np.arange(n_samples, dtype=np.float32)
    total = windows.steps_of(n_samples)
    starts = windows.starts(total)
    bounds = sorted({0, n_samples, *(cut for cut in cuts if cut < n_samples)})
    blocks = [samples[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]  # noqa: RUF007
    found = list(windows.from_blocks(blocks))
    if total <= n_steps and n_samples < windows.n_samples + windows.stride and total:
        assert [each[0] for each in found] == [0]
    assert len(found) == len(starts)
    for window, start in zip(found, starts, strict=True):
        assert window[0] == start * 32
        assert windows.steps_of(len(window)) == min(total, n_steps)
    owner = windows.window_of_steps(total)
    step = np.arange(total) - starts[owner] if total else np.zeros(0)
    assert ((step >= 0) & (step < n_steps)).all()
    assert sorted(set(owner.tolist())) == list(range(len(starts)))[: len(set(owner.tolist()))]


def test_a_click_has_the_time_that_it_has_in_the_sound(wavlm, make_video, decoder):
    sound = np.zeros(3 * RATE_HZ, np.float32)
    sound[int(1.7 * RATE_HZ) : int(1.7 * RATE_HZ) + 200] = 0.9
    video = make_video(sound=sound, sound_starts_s=0.5)
    encoder = config_of("wavlm")(model=wavlm, layers=(0,)).build(CPU)
    track, _ = track_of(encoder, video, decoder)
    silent = make_video("silent.mp4", sound=np.zeros_like(sound), sound_starts_s=0.5)
    quiet, _ = track_of(encoder, silent, decoder)
    change = np.linalg.norm(track.values.astype(float) - quiet.values.astype(float), axis=1)
    assert track.time_s[change.argmax()] == pytest.approx(2.2, abs=0.03)


def test_sound_that_is_too_short_is_an_empty_track_with_a_note(wavlm, make_video, decoder):
    encoder = config_of("wavlm")(model=wavlm).build(CPU)
    track, note = track_of(encoder, make_video(), decoder)
    assert (track.values.shape, note) == ((0, 32), "the clip has no sound")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layers": (1, 4)}, "layers has 4, and the network 3 layers; give numbers from 0 to 3"),
        ({"hop_s": 11.0}, "hop_s = 11.0: must be at least a step of 0.02 s and at most window_s"),
    ],
)
def test_keys_that_do_not_fit_the_network_are_refused(wavlm, keys, message):
    with pytest.raises(InputError, match=message):
        config_of("wavlm")(model=wavlm, **keys).spec()


def test_a_model_of_another_family_or_without_weights_is_refused(wavlm, tmp_path):
    with pytest.raises(WeightsError, match="config of a 'wavlm', not of a 'hubert'.*kind=wavlm"):
        config_of("hubert")(model=wavlm).spec()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_text("")
    with pytest.raises(WeightsError, match="lacks model.safetensors;.*make model.safetensors of"):
        config_of("hubert")(model=str(tmp_path)).spec()


def test_weights_that_do_not_fit_the_config_are_refused(wavlm, tmp_path):
    for path in Path(wavlm).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(WeightsError, match="lacks weights of the wavlm .*encoder.layers.3"):
        config_of("wavlm")(model=str(tmp_path)).build(CPU)


@pytest.mark.parametrize("change", [{"layers": (1,)}, {"window_s": 8.0}, {"hop_s": 2.0}])
def test_each_key_is_in_the_spec(wavlm, change):
    config = config_of("wavlm")(model=wavlm)
    assert config.model_copy(update=change).spec().name != config.spec().name
