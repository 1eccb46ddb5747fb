"""`pixels` and `loudness` equal what numpy computes of the same frames and samples."""

from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from features.clip import Source
from features.encoders.loudness import LoudnessConfig
from features.encoders.pixels import PixelsConfig
from tests.helpers.small_media import tone
from tests.helpers.whole_media import read_audio

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def track_of(config, video, decoder):
    encoder = config.build(CPU)
    *items, layout = encoder.read(Source("a", video, None, None, None), decoder)
    return encoder.assemble([encoder.encode(item) for item in items], layout)


def test_pixels_are_mean_and_spread_of_each_cell(make_video, decoder):
    side = 32  # two cells of 16 pixels, so that nothing is resized
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 255, (5, 4, 4, 3), dtype=np.uint8), 8, axis=1)
    video = make_video(frames=np.repeat(frames, 8, axis=2), time_s=np.arange(5) / 25)
    track, note = track_of(PixelsConfig(grid=2), video, decoder)
    with av.open(str(video)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for row, picture in zip(track.values.astype(float), decoded, strict=True):
        assert picture.shape == (side, side, 3)
        cells = (picture / 255).reshape(2, 16, 2, 16, 3)  # row, y, column, x, colour
        mean, std = (fold(cells, axis=(1, 3)) for fold in (np.mean, np.std))
        wanted = [each.transpose(2, 0, 1).ravel() for each in (mean, std)]
        np.testing.assert_allclose(row, np.concatenate(wanted), atol=6e-3)  # a grey level is 4e-3
    assert track.values.shape == (5, 24)
    assert note is None


def test_loudness_is_mean_and_spread_over_ten_milliseconds(make_video, decoder):
    video = make_video(sound=tone(1.95), sound_starts_s=0.25)
    track, note = track_of(LoudnessConfig(), video, decoder)
    sound = read_audio(video, 16_000)
    assert sound is not None
    n_rows = len(sound.samples) // 1600
    np.testing.assert_allclose(track.time_s, sound.start_s + 0.05 + 0.1 * np.arange(n_rows))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(160) / 160)  # torch's hann is periodic
    frequency = np.arange(81) * 100
    for row, wanted in zip(
        track.values.astype(float),
        sound.samples.reshape(-1)[: n_rows * 1600].reshape(n_rows, 10, 160),
        strict=True,
    ):
        power = np.abs(np.fft.rfft(wanted * window)) ** 2
        edges = [0, 250, 500, 1000, 2000, 4000, 8001]
        bands = [
            power[:, (frequency >= low) & (frequency < high)].sum(1)
            for low, high in pairwise(edges)
        ]
        energy = np.log(np.stack([np.square(wanted).mean(1), *bands], axis=1) + 1e-6)
        crossings = (np.diff(wanted >= 0, axis=1)).mean(1)
        measures = np.concatenate([energy, crossings[:, None]], axis=1)
        np.testing.assert_allclose(
            row, np.concatenate([measures.mean(0), measures.std(0)]), atol=1e-2
        )
    assert note is None


def test_sound_that_is_shorter_than_a_row_is_an_empty_track_with_a_note(make_video, decoder):
    track, note = track_of(LoudnessConfig(), make_video(sound=tone(0.04)), decoder)
    assert (track.values.shape, note) == ((0, 16), "the sound is shorter than 100 ms")


def test_the_grid_is_in_the_spec():
    assert PixelsConfig(grid=2).spec().name != PixelsConfig(grid=4).spec().name
