"""The page of an ablation as a browser shows it."""

import numpy as np
import pytest

from models.ablation.html import ablation_page
from models.ablation.table import Predictions, table_rows
from models.data.train_val import load_splits
from tests.helpers.browser import PHONE_PX, chromium, resize
from tests.helpers.synthetic import plant

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with the longest names and every interval."""
    folder = tmp_path_factory.mktemp("ablation")
    planted = plant(folder, ("train",) + ("val",) * 3)
    splits = load_splits(planted.manifest, planted.store)
    truth, rng = splits.val.va.numpy(), np.random.default_rng(0)

    def predictions(group, name, deviation):
        drawn = (truth + deviation * rng.standard_normal(truth.shape) for _ in range(2))
        return Predictions(group, name, dict(enumerate(drawn)))

    lines = table_rows(
        [
            predictions("default", "default", 0.1),
            predictions("baseline", "ridge, both with means of 1 s and 4 s", 0.9),
            predictions("region loss", "attention then gate, partner visual", 0.1),
        ],
        splits,
    )
    assert [line.differs for line in lines] == [False, True, False]
    path = folder / "ablation.html"
    path.write_text(ablation_page(lines, splits, "No epoch is chosen here."))
    return path.as_uri()


@pytest.mark.parametrize("width_px", [1280, PHONE_PX])
def test_no_column_is_cut_off(written, width_px, tmp_path):
    with chromium(tmp_path / "profile") as window:
        resize(window, width_px, mobile=width_px == PHONE_PX)
        window.get(written)
        whole = window.execute_script("return document.documentElement.scrollWidth")
        assert whole == width_px  # the page itself does not scroll sideways
        hidden = window.execute_script(
            "const box = document.querySelector('.scroll');return box.scrollWidth - box.clientWidth"
        )
        assert hidden <= 1 or width_px == PHONE_PX  # a phone scrolls the table
        bold = window.find_elements("css selector", "tbody strong")
        assert len(bold) == 1
        text = window.find_element("css selector", "main").text
    assert "BCa" in text
    assert "corrected by Holm\u2019s method" in text.replace("'", "\u2019")
    assert "No epoch is chosen here." in text
