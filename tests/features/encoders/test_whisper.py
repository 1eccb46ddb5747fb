"""Rows of `whisper` equal those of transformers, a window at a time and without padding."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperFeatureExtractor, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from features.clip import Source
from features.encoders.whisper import WhisperConfig
from features.errors import InputError, WeightsError
from tests.helpers.small_media import RATE_HZ, tone
from tests.helpers.small_whisper import POSITIONS, write_whisper
from tests.helpers.whole_media import read_audio

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ALIKE = 0.99999  # least cosine of a row to the reference's
STRIDE = 320  # samples of a step: a hop of 160, and the second convolution's stride of 2
TWO_S = {"window_s": 2, "hop_s": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return write_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture
def changed(folder, tmp_path):
    """A copy of the folder with other keys in its files."""

    def make(config: dict | None = None, preprocessor: dict | None = None) -> str:
        for path in Path(folder).iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        for name, keys in (("config", config), ("preprocessor_config", preprocessor)):
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **(keys or {})}))
        return str(tmp_path)

    return make


def track_of(encoder, video: Path, decoder):
    *items, layout = encoder.read(Source("a", video, None, None, None), decoder)
    return encoder.assemble([encoder.encode(item) for item in items], layout)


def hidden_states(folder: str, samples: np.ndarray, **padding) -> list[np.ndarray]:
    """What transformers makes of samples, by layer, with as many positions as there are steps."""
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    spectrogram = extractor(
        samples, sampling_rate=16_000, return_tensors="pt", **padding
    ).input_features
    whole = WhisperModel.from_pretrained(folder).encoder.eval()
    n_steps = spectrogram.shape[2] // 2
    whole.config.max_source_positions = n_steps
    network = WhisperEncoder(whole.config).eval()
    weights = whole.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:n_steps]
    network.load_state_dict(weights)
    with torch.inference_mode():
        found = network(spectrogram, output_hidden_states=True)
    return [each[0].numpy() for each in (*found.hidden_states[:-1], found.last_hidden_state)]


def cosines(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    pair = (torch.from_numpy(np.asarray(each, np.float64)) for each in (found, wanted))
    return torch.cosine_similarity(*pair).numpy()


@pytest.mark.parametrize("layers", [None, (1,), (0, 2, 3)])
def test_rows_of_a_full_window_equal_those_of_transformers(folder, make_video, decoder, layers):
    video = make_video(sound=tone(2.0), sound_starts_s=0.2)
    encoder = WhisperConfig(model=folder, layers=layers, **TWO_S).build(CPU)
    track, note = track_of(encoder, video, decoder)
    sound = read_audio(video, 16_000)
    samples = sound.samples[: POSITIONS * STRIDE]
    states = hidden_states(folder, samples)
    wanted = np.mean([states[k] for k in layers or (3,)], axis=0)
    n_steps = len(sound.samples) // STRIDE
    assert cosines(track.values[:50], wanted[:50]).min() > ALIKE
    assert cosines(track.values[:50], states[2][:50]).min() < ALIKE
    np.testing.assert_allclose(track.time_s, sound.start_s + np.arange(n_steps) * 0.02)
    assert note is None


def test_rows_of_short_sound_equal_those_of_transformers_on_the_sound_alone(
    folder, make_video, decoder
):
    video = make_video(sound=tone(0.93))
    track, _ = track_of(WhisperConfig(model=folder, **TWO_S).build(CPU), video, decoder)
    samples = read_audio(video, 16_000).samples
    alone = samples[: len(samples) // STRIDE * STRIDE]
    wanted = hidden_states(folder, alone, padding="do_not_pad")[-1]
    assert track.values.shape == wanted.shape
    assert cosines(track.values, wanted).min() > ALIKE
    padded = hidden_states(folder, samples)[-1][: len(wanted)]  # as transformers does it
    assert cosines(track.values, padded).max() < ALIKE


def test_rows_do_not_depend_on_the_length_of_a_window_that_the_sound_does_not_fill(
    tmp_path, make_video, decoder
):
    long = write_whisper(tmp_path, max_source_positions=500)  # positions are the same sinusoids
    video = make_video(sound=tone(0.93))
    rows = [
        track_of(WhisperConfig(model=long, window_s=w, hop_s=1).build(CPU), video, decoder)[0]
        for w in (1, 2, 10)
    ]
    for other in rows[1:]:
        np.testing.assert_array_equal(rows[0].values, other.values)


def test_rows_of_long_sound_are_from_the_window_with_most_context(folder, make_video, decoder):
    video = make_video(sound=tone(5.03))
    track, _ = track_of(WhisperConfig(model=folder, **TWO_S).build(CPU), video, decoder)
    samples = read_audio(video, 16_000).samples
    n_steps = len(samples) // STRIDE
    assert len(track.values) == n_steps
    starts = [*range(0, n_steps - 100, 50), n_steps - 100]
    windows = [hidden_states(folder, samples[s * STRIDE :][: 100 * STRIDE])[-1] for s in starts]
    wanted = []
    for step in range(n_steps):
        context = [min(step - s, s + 99 - step) for s in starts]  # steps to the nearer edge
        best = int(np.argmax(context))
        wanted.append(windows[best][step - starts[best]])
    assert cosines(track.values, np.stack(wanted)).min() > ALIKE
    assert cosines(track.values[1:], np.stack(wanted)[:-1]).min() < ALIKE


def test_a_click_has_the_time_that_it_has_in_the_sound(folder, make_video, decoder):
    sound = 0.02 * tone(1.9)
    click = sound.copy()
    click[int(1.1 * RATE_HZ) : int(1.1 * RATE_HZ) + 200] += 0.3
    encoder = WhisperConfig(model=folder, layers=(0,), **TWO_S).build(CPU)
    tracks = [
        track_of(encoder, make_video(f"{k}.mp4", sound=each, sound_starts_s=0.5), decoder)[0]
        for k, each in enumerate((sound, click))
    ]
    without, with_click = (track.values.astype(float) for track in tracks)
    change = np.linalg.norm(with_click - without, axis=1)
    assert tracks[0].time_s[change.argmax()] == pytest.approx(1.6, abs=0.03)


def test_sound_that_is_missing_or_too_short_is_an_empty_track_with_a_note(
    folder, make_video, decoder
):
    encoder = WhisperConfig(model=folder, **TWO_S).build(CPU)
    track, note = track_of(encoder, make_video(), decoder)
    assert (track.values.shape, note) == ((0, 32), "the clip has no sound")


def test_a_whole_whisper_and_its_encoder_alone_give_the_same_rows(
    folder, make_video, decoder, tmp_path
):
    video = make_video(sound=tone(1.2))
    whole, _ = track_of(WhisperConfig(model=folder, **TWO_S).build(CPU), video, decoder)
    weights = load_file(Path(folder) / "model.safetensors")
    prefix = "model.encoder."
    alone = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    assert 0 < len(alone) < len(weights)
    for path in Path(folder).glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for names in (alone, {f"encoder.{k}": v for k, v in alone.items()}):
        save_file(names, tmp_path / "model.safetensors", metadata={"format": "pt"})
        config = WhisperConfig(model=str(tmp_path), **TWO_S)
        track, _ = track_of(config.build(CPU), video, decoder)
        np.testing.assert_array_equal(track.values, whole.values)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layers": (1, 4)}, "whisper.layers has 4, and the network 3 layers; give numbers from 0"),
        ({"hop_s": 3.0}, "hop_s = 3.0: must be at least a step of 0.02 s and at most window_s"),
        ({"window_s": 30.0}, "window_s = 30: the network has positions for 2 s; give at most that"),
    ],
)
def test_keys_that_do_not_fit_the_network_are_refused(folder, keys, message):
    with pytest.raises(InputError, match=message):
        WhisperConfig(model=folder, **TWO_S | keys).spec()


@pytest.mark.parametrize(
    ("config", "preprocessor", "message"),
    [
        ({"model_type": "wavlm"}, {}, "config of a 'wavlm', not of a 'whisper'; give the folder"),
        ({"d_model": "many"}, {}, "is no config of a Whisper"),
        ({}, {"feature_size": 128}, "makes 128 mel bands, .*wants 80; both must be of one model"),
        ({}, {"dither": 0.1}, "dither = 0.1, which adds noise.*; set it to 0"),
        ({}, {"hop_length": "x"}, "is no preprocessing of a Whisper"),
    ],
)
def test_files_that_are_not_of_one_whisper_are_refused(changed, config, preprocessor, message):
    with pytest.raises(WeightsError, match=message):
        WhisperConfig(model=changed(config, preprocessor), **TWO_S).spec()


def test_weights_that_do_not_fit_the_config_are_refused(changed):
    model = changed({"encoder_layers": 4})
    with pytest.raises(WeightsError, match="lacks weights of the Whisper .*layers.3"):
        WhisperConfig(model=model, **TWO_S).build(CPU)


@pytest.mark.parametrize(
    "change", [{"layers": (1,)}, {"window_s": 1.5}, {"hop_s": 0.5}, {"precision": "float16"}]
)
def test_each_key_is_in_the_spec(folder, change):
    config = WhisperConfig(model=folder, **TWO_S)
    assert config.model_copy(update=change).spec().name != config.spec().name
