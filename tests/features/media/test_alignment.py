import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.media.alignment import TEMPLATE_PX, AlignmentConfig, similarity

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (112, 112, 3), np.uint8)
TEMPLATE = np.array(TEMPLATE_PX, np.float32)


def assert_same(crop):
    """The picture, up to the rounding of its interpolation."""
    assert abs(crop.astype(int) - PICTURE).max() <= 1


def moved(x_px, y_px):
    return TEMPLATE + np.array([x_px, y_px], np.float32)


def test_a_face_that_lies_as_in_the_template_is_cut_out_unchanged():
    assert_same(AlignmentConfig().crop(PICTURE, TEMPLATE))


def test_a_face_elsewhere_in_a_larger_image_gives_the_same_crop():
    image = np.zeros((300, 400, 3), np.uint8)
    image[50:162, 200:312] = PICTURE

    assert_same(AlignmentConfig().crop(image, moved(200, 50)))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_is_turned_upright(turns):
    turned = np.rot90(PICTURE, turns)
    landmarks = TEMPLATE.copy()
    for _ in range(turns):  # (x, y) goes to (y, 111 - x)
        landmarks = np.stack([landmarks[:, 1], 111 - landmarks[:, 0]], axis=1, dtype=np.float32)

    assert_same(AlignmentConfig().crop(turned, landmarks))


def test_a_large_face_is_averaged_before_it_is_sampled():
    stripes = np.zeros((896, 896, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than a pixel of the crop: grey, not a pattern
    landmarks = ((TEMPLATE + 0.5) * 8 - 0.5).astype(np.float32)

    crop = AlignmentConfig().crop(stripes, landmarks)

    assert abs(crop[8:-8, 8:-8].astype(int) - 127).max() <= 1


def test_a_large_face_is_not_shifted_when_it_is_reduced():
    large = PICTURE.repeat(8, axis=0).repeat(8, axis=1)

    assert_same(AlignmentConfig().crop(large, ((TEMPLATE + 0.5) * 8 - 0.5).astype(np.float32)))


def test_what_lies_beyond_the_image_is_black():
    crop = AlignmentConfig().crop(np.full((112, 112, 3), 200, np.uint8), moved(56, 0))

    assert (crop[:, :54] == 200).all()
    assert (crop[:, 57:] == 0).all()
    assert not AlignmentConfig().crop(PICTURE, moved(500, 0)).any()


def test_a_margin_shows_more_around_the_face():
    image = np.zeros((224, 224, 3), np.uint8)
    image[56:168, 56:168] = 255

    crop = AlignmentConfig(margin=0.5).crop(image, moved(56, 56))

    # the face of 112 now takes the middle half of the crop
    assert (crop[30:82, 30:82] == 255).all()
    assert not crop[:26].any()
    assert not crop[:, 86:].any()


def test_another_side_scales_the_template():
    config = AlignmentConfig(side_px=224)

    np.testing.assert_allclose(config.template_px, np.array(TEMPLATE_PX) * 2)
    assert config.crop(PICTURE, TEMPLATE).shape == (224, 224, 3)


@given(
    arrays(np.float64, (5, 2), elements=st.floats(-100, 100, width=32)),
    st.floats(0.1, 10),
    st.floats(-3, 3),
    arrays(np.float64, 2, elements=st.floats(-1000, 1000, width=32)),
)
def test_a_similarity_is_found_from_the_points_that_it_maps(points, scale, angle, shift):
    if np.ptp(points, axis=0).max() < 1:
        return
    cos, sin = np.cos(angle), np.sin(angle)
    linear = scale * np.array([[cos, -sin], [sin, cos]])

    found = similarity(points, points @ linear.T + shift)

    np.testing.assert_allclose(found[:, :2], linear, atol=1e-6 * scale)
    np.testing.assert_allclose(points @ found[:, :2].T + found[:, 2], points @ linear.T + shift,
                               atol=1e-6)  # fmt: skip


def test_a_similarity_is_the_least_squares_solution():
    source, target = RNG.normal(size=(5, 2)), RNG.normal(size=(5, 2))
    # u = a x - b y + c and v = b x + a y + d, solved by another method
    x, y = source.T
    one, zero = np.ones(5), np.zeros(5)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(equations, target.T.ravel(), rcond=None)[0]

    np.testing.assert_allclose(similarity(source, target), [[a, -b, c], [b, a, d]], atol=1e-12)


def test_points_that_coincide_are_shifted():
    found = similarity(np.full((5, 2), 3.0), np.array(TEMPLATE_PX))

    np.testing.assert_allclose(found[:, :2], np.eye(2))
    assert np.isfinite(AlignmentConfig().crop(PICTURE, np.full((5, 2), 3.0, np.float32))).all()
