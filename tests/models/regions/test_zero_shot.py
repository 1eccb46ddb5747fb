import math

import numpy as np
import pytest
import torch

from models.regions.grid import NINE
from models.regions.soft_labels import region_centres
from models.regions.zero_shot import (
    PUBLISHED_MOMENTS,
    Moments,
    ZeroShotSettings,
    barycentre,
    cosines,
)


def test_a_barycentre_by_hand():
    # regions 0 (-.66, -.66) and 8 (.66, .66) have the cosines 0 and .2, the others -9: at scale 10
    # region 8 weighs e^2 times region 0, at scale 0 all weigh the same
    cosine = torch.full((9,), -9.0)
    cosine[0], cosine[8] = 0.0, 0.2
    found = barycentre(cosine, region_centres(NINE), torch.tensor([10.0, 0.0]))
    share = math.exp(2) / (1 + math.exp(2))
    assert found[0].item() == pytest.approx(0.66 * (2 * share - 1))
    assert found[1].item() == pytest.approx(0.0, abs=1e-7)


def test_cosines_do_not_depend_on_the_length_of_an_embedding():
    embeddings = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    found = cosines(embeddings, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.6, 0.8]]))


def test_matching_gives_the_wanted_moments():
    va = np.random.default_rng(0).normal([0.1, -0.2], [0.05, 0.02], (500, 2))
    settings = ZeroShotSettings(found=Moments.of(va), wanted=PUBLISHED_MOMENTS)
    found = Moments.of(settings.match(va))
    assert found.mean == pytest.approx((0.074, 0.297))
    assert found.std == pytest.approx((0.402, 0.298))


def test_a_barycentre_that_does_not_vary_becomes_the_wanted_mean():
    flat = np.full((4, 2), 0.3)
    settings = ZeroShotSettings(found=Moments.of(flat), wanted=PUBLISHED_MOMENTS)
    np.testing.assert_array_equal(settings.match(flat), np.tile([0.074, 0.297], (4, 1)))
