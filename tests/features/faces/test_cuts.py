import numpy as np
import pytest

from features.faces.cuts import CutConfig, CutDetector, difference, histogram
from features.synthetic.drawing import Pose
from features.synthetic.people import draw_people

RED, BLUE = (np.full((50, 70, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))


def test_a_difference_is_the_share_of_pixels_that_changed_colour():
    assert difference(histogram(RED), histogram(RED)) == 0
    # two of three channels changed
    np.testing.assert_allclose(difference(histogram(RED), histogram(BLUE)), 2 / 3)
    half = RED.copy()
    half[:25] = BLUE[:25]
    np.testing.assert_allclose(difference(histogram(RED), histogram(half)), 1 / 3, atol=0.02)


@pytest.mark.parametrize("half", [np.s_[:25], np.s_[:, :35]], ids=["upside down", "mirrored"])
def test_a_place_counts_as_well_as_a_colour(half):
    first, second = RED.copy(), BLUE.copy()
    first[half], second[half] = BLUE[half], RED[half]  # the same colours elsewhere

    assert difference(histogram(first), histogram(second)) > 0.5


def test_a_shot_begins_where_the_picture_changes_and_not_where_a_person_moves():
    cuts = CutDetector(CutConfig())
    shots = [draw_people([Pose(100.0 + 5 * k, 95.0, 50.0)]) for k in range(4)]
    shots += [255 - shot for shot in shots]

    assert [cuts.is_cut(shot) for shot in shots] == [False] * 4 + [True] + [False] * 3


def test_an_image_of_one_pixel_has_a_histogram():
    np.testing.assert_allclose(histogram(np.zeros((1, 1, 3), np.uint8)).sum(), 1)
