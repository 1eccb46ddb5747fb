import numpy as np
import pytest
import torch

from models.data.packed import PackedFeatures
from models.metrics.smoothing import moving_mean
from models.metrics.zero_shot import predict_zero_shot
from models.regions.grid import NINE
from models.regions.soft_labels import region_centres
from models.regions.zero_shot import Moments, RegionPrototypes, ZeroShotSettings
from tests.helpers.two_streams import changed, packed_streams

REGIONS = RegionPrototypes(torch.eye(9))
SETTINGS = ZeroShotSettings(
    scale=(10.0, 20.0), width_s=(0.2, 0.0), found=Moments((0.1, 0.0), (0.2, 0.1)),
    wanted=Moments((0.0, 0.2), (0.4, 0.1)),
)  # fmt: skip


@pytest.fixture
def bank() -> PackedFeatures:
    """Two clips of 20 rows, a tenth of a second apart; the first has a gap."""
    rng = np.random.default_rng(0)
    seen = torch.ones(40, dtype=torch.bool)
    seen[5:8] = False
    visual = torch.from_numpy(rng.standard_normal((40, 9))).half() * seen[:, None]
    return PackedFeatures(
        ("a", "b"),
        np.array([0, 20, 40]),
        np.tile(np.arange(20) / 10, 2),
        streams=packed_streams(
            visual, seen, torch.zeros(40, 1, dtype=torch.float16), torch.ones(40, dtype=torch.bool)
        ),
        va=torch.zeros(40, 2, dtype=torch.float64),
        va_valid=torch.ones(40, dtype=torch.bool),
    )


def by_hand(bank: PackedFeatures) -> np.ndarray:
    """The same, row by row: softmax, barycentre, mean of the seen rows within .1 s, line, gaps."""
    centres, found = region_centres(NINE).numpy(), np.zeros((40, 2))
    seen, embedding = (
        bank["visual"].valid.numpy(),
        bank["visual"].values.double().numpy(),
    )
    raw = np.zeros((40, 2))
    for row in np.flatnonzero(seen):
        cosine = embedding[row] / np.linalg.norm(embedding[row])
        for k, scale in enumerate((10, 20)):
            weight = np.exp(scale * cosine)
            raw[row, k] = weight @ centres[:, k] / weight.sum()
    for start in (0, 20):
        rows = [row for row in range(start, start + 20) if seen[row]]
        for row in rows:
            near = [other for other in rows if abs(other - row) <= 1]
            found[row, 0] = 0.0 + (raw[near, 0].mean() - 0.1) * 2
            found[row, 1] = 0.2 + (raw[row, 1] - 0.0) * 1
        span = slice(start, start + 20)
        found[span] = np.stack(
            [np.interp(np.arange(20), np.array(rows) - start, found[rows, k]) for k in range(2)], 1
        )
    return np.clip(found, -1, 1)


def test_a_prediction_by_hand(bank):
    found = predict_zero_shot(bank, REGIONS, SETTINGS)
    np.testing.assert_allclose(found.va, by_hand(bank), atol=1e-6)
    np.testing.assert_array_equal(found.interpolated, ~bank["visual"].valid.numpy())


def test_what_lies_behind_the_mask_changes_nothing(bank):
    spoiled = changed(
        bank,
        visual=bank["visual"].values.masked_fill(~bank["visual"].valid[:, None], 6e4),
    )
    before, after = (predict_zero_shot(each, REGIONS, SETTINGS).va for each in (bank, spoiled))
    np.testing.assert_array_equal(before, after)


def test_a_clip_without_a_face_gets_the_wanted_mean(bank):
    seen = bank["visual"].valid.clone()
    seen[:20] = False
    found = predict_zero_shot(changed(bank, visual_valid=seen), REGIONS, SETTINGS)
    np.testing.assert_array_equal(found.va[:20], np.tile([0.0, 0.2], (20, 1)))
    assert not found.interpolated.any()


def test_rows_are_read_in_parts_and_through_the_index(bank, monkeypatch):
    whole = predict_zero_shot(bank, REGIONS, SETTINGS).va
    monkeypatch.setattr("models.metrics.zero_shot.ROWS_AT_ONCE", 7)
    turned = predict_zero_shot(bank.select(("b", "a")), REGIONS, SETTINGS).va
    np.testing.assert_allclose(turned, np.concatenate([whole[20:], whole[:20]]), atol=1e-6)


def test_a_trailing_mean_by_hand():
    # .2 s before each row, which are a tenth of a second apart: the row and up to two before it
    values = np.array([0.0, 0.3, 0.6, 0.0])
    found = moving_mean(values, 0.1 * np.arange(4), 0.2, trailing=True)
    np.testing.assert_allclose(found, [0.0, 0.15, 0.3, 0.3], atol=1e-12)
