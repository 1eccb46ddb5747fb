import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.regions.grid import NINE, Grid
from models.regions.soft_labels import hard_labels, region_centres, region_index, soft_labels

SIGMA = 0.45
COORDINATE = st.floats(-1, 1, width=32)


def test_valence_is_the_outer_axis():
    # k = 3v + a: low valence with high arousal is 3 * 0 + 2
    assert region_centres(NINE).shape == (9, 2)
    torch.testing.assert_close(region_centres(NINE)[2], torch.tensor([-0.66, 0.66]))
    torch.testing.assert_close(region_centres(NINE)[3], torch.tensor([0.0, -0.66]))


@pytest.mark.parametrize(
    ("va", "expected"),
    [
        ((0, 0), {4: 0.353, 1: 0.121, 3: 0.121, 5: 0.121, 7: 0.121, 0: 0.041, 2: 0.041, 8: 0.041}),
        ((0.66, 0.66), {8: 0.545, 7: 0.186, 5: 0.186}),
        ((1, 1), {8: 0.806}),
    ],
)
def test_soft_labels_at_the_method_s_check_values(va, expected):
    labels = soft_labels(torch.tensor([va], dtype=torch.float64), SIGMA)[0]
    for region, share in expected.items():
        assert labels[region].item() == pytest.approx(share, abs=5e-4)


def test_an_asymmetric_point_by_hand():
    # squared distances of (.66, 0): to itself 0; to (0, 0) and the two above and below .4356;
    # to (0, +-.66) .8712; to (-.66, 0) 1.7424; to (-.66, +-.66) 2.178. exp(-d / .405):
    # 1, .3411, .1164, .01354, .00462; sum 1 + 3 * .3411 + 2 * .1164 + .01354 + 2 * .00462
    labels = soft_labels(torch.tensor([[0.66, 0.0]]), SIGMA)[0]
    total = 1 + 3 * 0.3411 + 2 * 0.1164 + 0.01354 + 2 * 0.00462
    assert labels[7].item() == pytest.approx(1 / total, abs=1e-3)  # high valence, mid arousal
    assert labels[1].item() == pytest.approx(0.01354 / total, abs=1e-3)


@given(COORDINATE, COORDINATE)
def test_soft_labels_sum_to_one_and_mirror_with_the_plane(valence, arousal):
    point = torch.tensor([[valence, arousal]], dtype=torch.float64)
    labels = soft_labels(point, SIGMA).view(3, 3)
    assert labels.sum().item() == pytest.approx(1)
    mirrored = soft_labels(point * torch.tensor([-1, 1]), SIGMA).view(3, 3)
    torch.testing.assert_close(mirrored, labels.flip(0))
    swapped = soft_labels(point.flip(-1), SIGMA).view(3, 3)
    torch.testing.assert_close(swapped, labels.T)


def test_a_point_belongs_to_the_nearest_centre():
    # the cuts lie half-way: at -.33 and .33, and a point on a cut belongs above
    levels = {-0.9: 0, -0.34: 0, -0.33: 1, 0.0: 1, 0.32: 1, 0.33: 2, 1.0: 2}
    for (v, v_level), (a, a_level) in itertools.product(levels.items(), repeat=2):
        index = region_index(torch.tensor([v, a], dtype=torch.float64))
        assert index.item() == 3 * v_level + a_level


def test_every_centre_lies_in_its_region():
    assert region_index(region_centres(NINE)).tolist() == list(range(9))


def test_hard_labels_are_soft_labels_of_no_width():
    va = torch.rand(50, 2, dtype=torch.float64) * 2 - 1
    labels = hard_labels(va)
    torch.testing.assert_close(labels, soft_labels(va, sigma=1e-3))
    assert labels.sum(dim=-1).eq(1).all()


def test_a_grid_of_another_size_by_hand():
    # two levels at -.5 and .5: of (.5, -.5), region 2, squared distances 1, 2, 0, 1
    grid = Grid(levels=("low", "high"), centres=(-0.5, 0.5))
    assert grid.n_regions == 4
    assert grid.cuts == (0.0,)
    point = torch.tensor([[0.5, -0.5]], dtype=torch.float64)
    weights = torch.exp(-torch.tensor([1.0, 2, 0, 1], dtype=torch.float64) / 2)
    torch.testing.assert_close(soft_labels(point, 1.0, grid)[0], weights / weights.sum())
    assert region_index(point, grid).item() == 2
    assert hard_labels(point, grid).tolist() == [[0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": ("low", "high")}, "2 levels and 3 centres; give as many"),
        ({"levels": ("one",), "centres": (0,)}, "at least two"),
        ({"levels": ("a", "b", "a")}, "a, b, a are not all different"),
        ({"centres": (0.5, 0, 0.6)}, "do not rise; list them from low to high"),
        ({"centres": (-2, 0, 0.6)}, "greater than or equal to -1"),
    ],
)
def test_a_grid_that_is_none_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Grid(**fields)
