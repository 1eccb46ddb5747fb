"""The embeddings of sound that comes in blocks are those of the record of the whole file."""

import numpy as np
import pytest
import torch

from features.clip import Track
from features.encoders.ast import AstConfig, AstEncoder, WindowLayout
from models.data.alignment import interpolate_track
from models.prediction.live_sound import MAX_WINDOWS, LiveSound

RATE_HZ = 16_000
START_S = 0.3


@pytest.fixture(scope="module")
def encoders(tiny_ast) -> dict[str, AstEncoder]:
    return {
        keep: AstConfig(model=tiny_ast, hop_s=0.64, keep=keep).build(torch.device("cpu"))
        for keep in ("centre", "last")
    }


def samples_of(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)


def record_of(encoder: AstEncoder, samples: np.ndarray) -> Track:
    """The track that an extraction stores."""
    windows = torch.stack(list(encoder.windows.from_blocks([samples])))
    first_frame = np.arange(len(windows)) * encoder.windows.hop_frames
    layout = WindowLayout(START_S, len(samples) / RATE_HZ, first_frame, None)
    return encoder.assemble([encoder.encode(windows)], layout)[0]


# shorter than a window; a window and its neighbours to the sample; several, the last one padded
@pytest.mark.parametrize("seconds", [0.05, 0.5, 1.275, 1.915, 1.9151, 3.3])
@pytest.mark.parametrize("keep", ["centre", "last"])
def test_rows_are_those_of_the_record(encoders, keep, seconds):
    encoder, samples = encoders[keep], samples_of(seconds)
    sound = LiveSound(encoder, drop=False)
    time_s = np.arange(0, seconds + 1, 0.04)
    rows, n_done = [], 0
    for block in np.array_split(samples, range(700, len(samples), 700)):
        sound.add(START_S, [block])
        known = time_s[n_done:][time_s[n_done:] <= sound.known_until_s]
        if len(known):
            rows.append(sound.at(known))
            n_done += len(known)
    sound.finish()
    rows.append(sound.at(time_s[n_done:]))
    whole = interpolate_track(record_of(encoder, samples), time_s)
    found = np.concatenate([each.values for each in rows])
    np.testing.assert_array_equal(np.concatenate([each.valid for each in rows]), whole.valid)
    np.testing.assert_allclose(found.astype(float), whole.values.astype(float), atol=2e-3)
    assert len(rows) > 1 or seconds < 1.28  # rows are known before the end


@pytest.mark.parametrize(("keep", "delay_s"), [("centre", 0.95), ("last", 0.64)])
def test_a_row_is_known_after_the_promised_delay(encoders, keep, delay_s):
    # the first window is complete after 1.26 s; (1.26 + 0.64) / 2 = 0.95
    sound = LiveSound(encoders[keep], drop=False)
    assert (sound.window_s, sound.delay_s) == (pytest.approx(1.26), pytest.approx(delay_s))
    samples, late_s = samples_of(6.0), []
    for first in range(0, len(samples), 800):
        sound.add(0.0, [samples[first : first + 800]])
        heard_s = (first + 800) / RATE_HZ
        if heard_s > 2:
            late_s.append(heard_s - sound.known_until_s)
    # blocks of 0.05 s, spectrograms of 0.1 s, steps 0.1 s apart, and 0.015 s of its last frame
    assert delay_s - 0.1 <= max(late_s) <= delay_s + 0.27


def test_windows_that_come_too_fast_are_left_out_and_their_rows_are_not_valid(encoders):
    samples = samples_of(8.0)
    sound = LiveSound(encoders["last"], drop=True)
    sound.add(0.0, [samples])  # windows end at 1.26 + 0.64 k: eleven are complete
    assert sound.n_dropped == 11 - MAX_WINDOWS
    time_s = np.arange(0, 7, 0.1)
    valid = sound.at(time_s).valid
    assert not valid[time_s < 6].any()
    assert valid[time_s > 6.5].all()
