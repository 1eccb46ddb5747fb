import numpy as np
import pytest

from features.faces.framing import framing_of
from features.media.alignment import AlignmentConfig


@pytest.mark.parametrize("margin", [0.0, 0.12, 0.5])
def test_the_margin_of_our_own_crops_is_found(margin):
    template = AlignmentConfig(side_px=200, margin=margin).template_px / 200
    noise = np.random.default_rng(0).normal(0, 0.02, (400, 5, 2))
    framing = framing_of(template + noise - noise.mean(axis=0))

    assert framing.margin == pytest.approx(margin, abs=1e-9)
    assert framing.error == pytest.approx(0, abs=1e-9)


def test_what_no_margin_gives_is_told():
    template = AlignmentConfig(margin=0.2).template_px / 112
    framing = framing_of(template[None] + (0.05, 0.0))

    # a shift to the right says nothing about the scale: the template is as wide left as right
    assert framing.margin == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(framing.shift, (0.05, 0.0), atol=2e-3)
    assert framing.error == pytest.approx(0.05, abs=2e-3)


def test_crops_that_are_closer_than_the_template_have_no_margin():
    template = AlignmentConfig().template_px / 112

    assert framing_of(((template - 0.5) * 1.3 + 0.5)[None]).margin == 0
