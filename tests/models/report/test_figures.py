"""Where the figures put what they are given: read back from the SVG, whose y points down."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from models.metrics.ccc import Agreement
from models.metrics.scores import ClipScore, SplitScore
from models.plots.svg import INK, NO_FACE, NO_SOUND, PREDICTED, TRUTH, UNLABELLED
from models.regions.grid import NINE
from models.report.charts import still
from models.report.content import ClipCurves, Content
from models.report.epochs import epoch_charts
from models.report.figures import confusion, planes, region_grids
from models.report.region_report import RegionReading
from models.report.timeline import WIDE_PX, timeline

NONE = Agreement(0.0, 0.0, 0.0, 0.0, 0.0)
SCORE = SplitScore(0.1, 0.1, 0.1, 4, 1, 0, 1, None, None, None, None, None, None)


def regions(label, posterior, counts) -> RegionReading:
    return RegionReading(NINE, np.asarray(label), np.asarray(posterior), counts, 0.1, 0.2)


def texts(figure: str) -> dict[str, tuple[float, float]]:
    """Each text of a figure, and where it stands."""
    found = {}
    for element in ElementTree.fromstring(figure).iter("text"):
        moved = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
        place = moved.groups() if moved else (element.get("x"), element.get("y"))
        found[element.text] = (float(place[0]), float(place[1]))
    return found


def shapes(figure: str, colour: str) -> list[np.ndarray]:
    """The corners of every path drawn or filled in a colour."""
    return [
        np.array(re.findall(r"([-\d.]+) ([-\d.]+)", element.get("d")), dtype=float)
        for element in ElementTree.fromstring(figure).iter("path")
        if re.search(rf"(fill|stroke): {colour.lower()}", element.get("style", ""))
    ]


def test_the_grid_has_valence_to_the_right_and_arousal_upward():
    label = np.arange(1, 10) / 45  # region k = 3v + a has the share (k + 1) / 45
    figure, _ = region_grids(regions(label, label, np.zeros((9, 9), dtype=np.int64)))
    at = texts(figure)
    low_low, low_high = at["2.2 %"], at["6.7 %"]  # k = 0 and k = 2: valence low
    high_low, high_high = at["15.6 %"], at["20.0 %"]  # k = 6 and k = 8
    assert low_low[0] == pytest.approx(low_high[0], abs=1)
    assert low_high[1] < low_low[1]  # high arousal is above
    assert high_low[0] > low_low[0]  # high valence is to the right
    assert (high_high[0], high_high[1]) == pytest.approx((high_low[0], low_high[1]), abs=1)
    assert at["high"][1] < at["mid"][1] < at["low"][1]  # the labels of arousal


def test_both_grids_share_one_scale():
    label, posterior = np.full(9, 1 / 9), np.full(9, 1 / 18)
    posterior[4] = 10 / 18
    one, other = region_grids(regions(label, posterior, np.zeros((9, 9), dtype=np.int64)))
    fills = [set(re.findall(r"fill: (#\w+); stroke: #d0d0d0", figure)) for figure in (one, other)]
    assert [len(each) for each in fills] == [1, 2]
    assert not fills[0] <= {"#08306b"}  # 1 / 9 of a scale up to 10 / 18 is not the darkest shade
    assert "#08306b" in fills[1]


def test_the_rows_of_the_confusion_are_the_truth():
    counts = np.zeros((9, 9), dtype=np.int64)
    counts[0, 8], counts[0, 1] = 1, 3  # of four frames of region 0, one is read as region 8
    at = texts(confusion(regions(np.ones(9) / 9, np.ones(9) / 9, counts)))
    assert at["25"][1] == pytest.approx(at["75"][1], abs=1)  # one row,
    assert at["25"][0] > at["75"][0]  # column 8 to the right of column 1,
    first_row = min(place[1] for text, place in at.items() if text.startswith("V"))
    assert at["25"][1] == pytest.approx(first_row, abs=8)  # and the row is the first


def content_with(truth, predicted) -> Content:
    return Content(
        run="r",
        grid=NINE,
        split="val",
        score=SCORE,
        valence=NONE,
        arousal=NONE,
        epochs=(),
        kept=None,
        kept_why="",
        truth=np.array(truth, dtype=np.float64),
        predicted=np.array(predicted, dtype=np.float64),
        prompts=None,
        regions="none",
        curves=(),
        config="",
        commands=(),
        started_as=None,
        facts=(),
    )


def cells(figure: str) -> list[np.ndarray]:
    """The centres of the cells of a plane."""
    found = re.findall(r'<path d="([^"]+z)" clip-path="[^"]*" style="fill: #\w+"', figure)
    corners = [np.array(re.findall(r"([-\d.]+) ([-\d.]+)", d), dtype=float) for d in found]
    square = [each for each in corners if abs(np.ptp(each[:, 0]) - np.ptp(each[:, 1])) < 0.1]
    return [each[:4].mean(axis=0) for each in square]  # those of the colour bar are no squares


def test_the_plane_has_valence_to_the_right_and_arousal_upward():
    content = content_with([(0.9, -0.9), (-0.9, -0.9)], [(0.9, 0.9), (0.9, -0.9)])
    truth, predicted = (cells(figure) for figure in planes(content))
    assert len(truth) == len(predicted) == 2
    assert truth[0][1] == pytest.approx(truth[1][1], abs=1)  # both at the foot, side by side
    assert abs(truth[0][0] - truth[1][0]) > 150
    assert predicted[0][0] == pytest.approx(predicted[1][0], abs=1)  # one above the other
    assert min(each[1] for each in predicted) < truth[0][1] - 150
    right = max(each[0] for each in truth)
    assert predicted[0][0] == pytest.approx(right, abs=1)


def test_a_point_on_the_edge_of_the_plane_is_counted():
    content = content_with([(1, 1), (-1, -1)], [(1, -1), (-1, 1)])
    assert [len(cells(figure)) for figure in planes(content)] == [2, 2]


def course(n: int = 100, step_s: float = 0.1) -> ClipCurves:
    """Valence: truth at .5, prediction at -.5; arousal the other way round."""
    yes = np.ones(n, dtype=bool)
    truth = np.tile([0.5, -0.5], (n, 1))
    return ClipCurves(
        ClipScore("c", n, 0, 0.0, 0.0), step_s * np.arange(n), truth, -truth, yes, yes.copy()
    )


def test_a_timeline_draws_truth_and_prediction_where_they_belong():
    figure = timeline(course(), "t")
    truth, predicted = (shapes(figure, colour) for colour in (TRUTH, PREDICTED))
    heights = [sorted(float(line[:, 1].mean()) for line in lines) for lines in (truth, predicted)]
    (truth_v, truth_a), (predicted_v, predicted_a) = heights  # valence is the upper panel
    assert truth_v < predicted_v < predicted_a < truth_a
    assert truth[0][0, 0] < truth[0][-1, 0]  # time runs to the right


def test_a_timeline_shows_what_is_missing_where_it_is_missing():
    whole = course()
    assert not any(shapes(timeline(whole, "t"), c) for c in (NO_FACE, NO_SOUND, UNLABELLED))
    seen, has_sound = whole.seen.copy(), whole.has_sound.copy()
    truth = whole.truth.copy()
    seen[:50], has_sound[50:], truth[25:50] = False, False, np.nan
    figure = timeline(replace(whole, seen=seen, has_sound=has_sound, truth=truth), "t")
    line = shapes(figure, PREDICTED)[0][:, 0]
    first, last = line.min(), line.max()
    middle = (first + last) / 2
    assert len(shapes(figure, NO_FACE)) == 2  # in both panels
    for shade in shapes(figure, NO_FACE):
        assert (shade[:, 0].min(), shade[:, 0].max()) == pytest.approx((first, middle), abs=3)
    (silent,), (unlabelled,) = shapes(figure, NO_SOUND), shapes(figure, UNLABELLED)
    assert silent[:, 0].min() == pytest.approx(middle, abs=3)
    span = (unlabelled[:, 0].min(), unlabelled[:, 0].max())
    assert span == pytest.approx(((first + middle) / 2, middle), abs=3)
    assert silent[:, 1].mean() < unlabelled[:, 1].mean()  # two strips, one above the other


def test_the_truth_is_not_drawn_across_a_gap():
    gap = course()
    truth = gap.truth.copy()
    truth[40:60] = np.nan
    figure = timeline(replace(gap, truth=truth), "t")
    starts = [
        element.get("d").count("M")
        for element in ElementTree.fromstring(figure).iter("path")
        if "stroke: #000000" in element.get("style", "")
    ]
    assert starts == [2, 2]


def test_a_long_clip_gets_the_width_of_the_page_and_a_clip_of_one_frame_is_drawn():
    long = ElementTree.fromstring(timeline(course(n=5000, step_s=0.04), "t"))
    assert long.get("viewBox").split()[2] == str(WIDE_PX)
    assert "time (s)" in texts(timeline(course(n=1), "t"))


def test_the_kept_epoch_is_marked():
    names = ("loss", "ccc_valence", "ccc_arousal", "ccc_mean")
    charts = epoch_charts(dict.fromkeys(names, (0.1, 0.3, 0.2)), kept_epoch=2)
    assert [chart.name for chart in charts] == ["loss", "val-ccc"]
    for figure in map(still, charts):
        at = texts(figure)
        assert abs(at["kept"][0] - at["2"][0]) < 12  # px; epochs are counted from 1
        upright = [line for line in shapes(figure, INK) if np.ptp(line[:, 0]) == 0]
        tallest = max(upright, key=lambda line: np.ptp(line[:, 1]))
        others = [line for line in upright if np.ptp(line[:, 1]) > 0.9 * np.ptp(tallest[:, 1])]
        marks = [line[0, 0] for line in others]
        assert any(mark == pytest.approx(at["2"][0], abs=1) for mark in marks)
    assert "0.300 at epoch 2, which is kept" in still(charts[1])
