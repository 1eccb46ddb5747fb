"""The pages of comparisons as a browser shows them."""

import numpy as np
import pytest

from models.ablation.html import ablation_page, curve_page
from models.ablation.table import CurveRow, Predictions, table_rows
from models.data.train_val import load_splits
from tests.helpers.browser import PHONE_PX, chromium, resize
from tests.helpers.synthetic import plant

pytestmark = [pytest.mark.slow, pytest.mark.browser]

CELLS = """const rows = [...document.querySelectorAll('#table tr')];
return rows.map(row => [...row.cells].map(cell => ({
  text: cell.innerText, align: getComputedStyle(cell).textAlign,
  cut: cell.scrollWidth > cell.clientWidth + 1})))"""
WORDS = {"group", "row"}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    planted = plant(tmp_path_factory.mktemp("ablation"), ("train",) + ("val",) * 3)
    return load_splits(planted.manifest, planted.store)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture
def ablation(splits, tmp_path):
    """A page with the longest names and every interval."""
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
    path = tmp_path / "ablation.html"
    path.write_text(ablation_page(lines, splits, "No epoch is chosen here."))
    return path.as_uri()


@pytest.fixture
def curve(splits, tmp_path):
    """A page with the longest names, numbers and intervals."""
    scores = (-0.123, 0.456, -0.167, -0.345, 0.678, -0.123, -0.345, 0.234)
    rows = [
        CurveRow(243, 0.25, group, name, 20, *scores)
        for group, name in (
            ("default", "default"),
            ("region loss and its weight", "attention then gate, partner visual"),
        )
    ]
    path = tmp_path / "learning_curve.html"
    path.write_text(curve_page(rows, splits, "No epoch is chosen here."))
    return path.as_uri()


@pytest.mark.parametrize("name", ["ablation", "curve"])
def test_no_column_is_cut_off_and_numbers_stand_below_each_other(window, name, request):
    page = request.getfixturevalue(name)
    for width_px in (PHONE_PX, 1280):
        resize(window, width_px, mobile=width_px == PHONE_PX)
        window.get(page)
        whole = window.execute_script("return document.documentElement.scrollWidth")
        assert whole == width_px  # the page itself does not scroll sideways
    hidden = window.execute_script(
        "const box = document.querySelector('.scroll');return box.scrollWidth - box.clientWidth"
    )
    assert hidden <= 1  # a phone scrolls the table, a desk need not
    head, *rows = window.execute_script(CELLS)
    assert len(rows) >= 2
    for cells in (head, *rows):
        for title, cell in zip(head, cells, strict=True):
            assert cell["align"] == ("left" if title["text"] in WORDS else "right"), cell
            assert not cell["cut"], cell
    assert "No epoch is chosen here." in window.find_element("css selector", "main").text


def test_what_differs_is_bold(window, ablation):
    window.get(ablation)
    assert len(window.find_elements("css selector", "tbody strong")) == 1
    text = window.find_element("css selector", "main").text
    assert "BCa" in text
    assert "corrected by Holm\u2019s method" in text.replace("'", "\u2019")
