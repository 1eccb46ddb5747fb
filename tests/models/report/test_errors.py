"""Where the errors are, by hand; and what the page draws of it."""

import json

import numpy as np
import pytest
import torch

from features.errors import InputError
from models.metrics.predict import RegionPosterior
from models.metrics.scores import SplitScore
from models.nn.attention import attend, attention_weights
from models.nn.fusion import GatedFusion
from models.regions.grid import NINE
from models.regions.soft_labels import soft_labels
from models.report.charts import live, still
from models.report.epochs import epoch_charts, read_epoch_values
from models.report.error_charts import error_chart
from models.report.errors import GroupError, arrows_of, errors_by_region
from models.report.live import CLIP_ROWS, REPORT_ROWS, rows_of_clip
from models.report.references import Reference, read_references
from models.report.region_report import read_regions
from models.runs.folder import BASELINES, METRICS

SCORE = SplitScore(0.5, 0.5, 0.5, 40, 2, 0, 3)


def test_errors_of_a_region_by_hand():
    # two frames in the region V+ A+, off by 0.3 and -0.1 in valence; one in V0 A0, which is right
    truth = np.array([[0.9, 0.9], [0.7, 0.9], [0.0, 0.0]])
    predicted = truth + np.array([[0.3, 0.0], [-0.1, 0.0], [0.0, 0.0]])
    middle, corner = errors_by_region(truth, predicted, (0.5, 0.6), NINE)
    assert (middle.name, middle.n_frames, middle.rmse) == ("V0 A0", 1, (0, 0))
    assert (corner.name, corner.n_frames) == ("V+ A+", 2)
    assert corner.bias == pytest.approx((0.1, 0))  # (0.3 - 0.1) / 2
    assert corner.rmse == pytest.approx((np.sqrt((0.09 + 0.01) / 2), 0))
    assert corner.rmse_constant == pytest.approx((np.sqrt((0.16 + 0.04) / 2), 0.3))


def test_arrows_lead_from_the_mean_truth_to_the_mean_prediction():
    truth = np.array([[0.1, 0.1], [0.2, 0.2], [1.0, -1.0]])  # the corner is in the last cell
    predicted = np.array([[0.0, 0.1], [0.1, 0.3], [0.5, -0.5]])
    one, other = arrows_of(truth, predicted)
    assert one.truth == pytest.approx((0.15, 0.15))
    assert one.predicted == pytest.approx((0.05, 0.2))
    assert (one.n_frames, other.n_frames) == (2, 1)
    assert other.predicted == (0.5, -0.5)


def test_calibration_by_hand():
    # four frames in region 4, to which 0.9 is given: one bin of 4 pairs; the other regions get
    # 0.0125 each, 32 pairs, of which none is the region of the frame
    va = torch.zeros(4, 2).double()
    shares = np.full((4, 9), 0.0125)
    shares[:, 4] = 0.9
    known = np.ones(4, dtype=bool)
    found = read_regions(RegionPosterior(shares, known), va, known, 0.45)
    low, high = found.calibration
    assert (low.n, low.mean_probability, low.share) == (32, pytest.approx(0.0125), 0)
    assert (high.n, high.mean_probability, high.share) == (4, pytest.approx(0.9), 1)
    label = float(soft_labels(va, 0.45)[0, 4])
    assert high.mean_label == pytest.approx(label)
    assert low.mean_label == pytest.approx((1 - label) / 8)
    apart = (32 * abs(0.0125 - (1 - label) / 8) + 4 * abs(0.9 - label)) / 36
    assert found.calibration_error == pytest.approx(apart)


def test_attention_weights_are_those_that_attend_sums_with():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 7, 4), torch.randn(2, 2, 7, 4)
    valid = torch.rand(2, 7) > 0.3
    valid[1] = False  # a window without a valid row
    weights = attention_weights(query, key, valid)
    torch.testing.assert_close(
        (weights @ value).transpose(1, 2).flatten(2), attend(query, key, value, valid)
    )
    torch.testing.assert_close(weights[0].sum(dim=-1), torch.ones(2, 5))
    assert not weights[1].any()


@pytest.mark.parametrize("n_streams", [2, 3])
def test_the_weights_of_the_gate_sum_to_one_and_leave_out_what_is_not_valid(n_streams):
    torch.manual_seed(0)
    gate = GatedFusion(n_streams, width=6, dropout=0.0)
    streams = [torch.randn(2, 4, 6) for _ in range(n_streams)]
    valid = [torch.ones(2, 4, dtype=torch.bool) for _ in range(n_streams)]
    valid[1][0, 0] = False
    weights = gate.weights(streams, valid)
    assert weights.shape == (n_streams, 2, 4)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(2, 4))
    assert weights[1, 0, 0] == 0
    assert (weights[1, 1] > 0).all()


def test_a_long_clip_keeps_the_extremes_of_every_curve_and_all_clips_share_the_room():
    rng = np.random.default_rng(0)
    curves = [rng.standard_normal(20_000) for _ in range(5)]
    for n_clips in (1, 76, 1000):
        rows = rows_of_clip(curves, n_clips)
        assert len(rows) <= max(1.1 * CLIP_ROWS, 400)
        assert n_clips * len(rows) <= 1.1 * REPORT_ROWS or n_clips == 1000
        for curve in curves:
            assert curve[rows].max() == curve.max()
            assert curve[rows].min() == curve.min()
    assert len(rows_of_clip([np.zeros(500)], 76)) == 500


def test_every_number_of_the_epochs_is_drawn(tmp_path):
    assert read_epoch_values(tmp_path) == {}
    lines = [
        {"index": k, "loss": 1.0, "loss_regions": 0.5, "ccc_mean": 0.1 * k, "gradient_norm": None}
        | {"learning_rate": 1e-3, "ccc_train_valence": 0.3, "note": "text", "done": True}
        for k in range(3)
    ]
    lines[1]["gradient_norm"] = 2.0
    (tmp_path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = read_epoch_values(tmp_path)
    assert set(values) == set(lines[0]) - {"index", "note", "done"}
    assert values["gradient_norm"] == (None, 2.0, None)
    charts = {c.name: c for c in epoch_charts(values, 3, (Reference("ridge", 0.2, 0.2, 0.2),))}
    assert [s.name for s in charts["loss"].series] == ["whole loss", "regions"]
    assert [s.name for s in charts["val-ccc"].series] == ["mean", "ridge, mean"]
    assert charts["val-ccc"].series[1].y == (0.2, 0.2)
    assert {"train-ccc", "gradient-norm", "epoch-0"} <= set(charts)
    for chart in charts.values():
        looks = [(s.marker, s.dash) for s in chart.series]
        assert len(set(looks)) == len(looks)  # told apart without colour
        json.dumps(live(chart), allow_nan=False)


def test_a_name_is_text_whatever_it_holds():
    hostile = ("$\\frac{", "<b>&%{x}", "x" * 200, "a\u202eb")
    groups = [GroupError(name, 1, (0.1, 0.2), (0.0, 0.0), (0.3, 0.3)) for name in hostile]
    chart = error_chart(groups, "by-subject", "by subject")
    said = still(chart)
    assert "$\\frac{" in said
    assert "x" * 21 not in said
    layout = live(chart)["layout"]
    assert layout["yaxis"]["ticktext"][1] == "&lt;b&gt;&amp;% {x}"
    assert layout["yaxis"]["ticktext"][3] == "a\\u202eb"


def test_baselines_beside_the_run_are_read_best_first(tmp_path):
    references, note = read_references(tmp_path, "val", SCORE, None)
    assert references == ()
    assert f"output={tmp_path / BASELINES}" in note

    def entry(kind, ccc, **more):
        scores = {f"ccc_{name}": ccc for name in ("valence", "arousal", "mean")}
        return {"baseline": {"kind": kind}, "n_frames": 40, "n_subjects": 3, **scores, **more}

    def write(*entries):
        (tmp_path / BASELINES).write_text(json.dumps({"val": entries}))

    write(
        entry("mean", 0.0), entry("ridge", 0.4) | {"baseline": {"kind": "ridge", "streams": ["a"]}}
    )
    references, note = read_references(tmp_path, "val", SCORE, None)
    assert [(each.name, each.ccc_mean) for each in references] == [("ridge (a)", 0.4), ("mean", 0)]
    assert note == ""
    write(entry("ridge", 0.4, n_frames=39))
    references, note = read_references(tmp_path, "val", SCORE, None)  # an old one stops no scoring
    assert references == ()
    assert "scores of other labels than this split's 40 of 3 subjects" in note
    with pytest.raises(InputError, match="scores of other labels than this split's 40 of 3"):
        read_references(tmp_path, "val", SCORE, tmp_path / BASELINES)
    write({"baseline": {}})
    with pytest.raises(InputError, match="is not what `vaflow run baselines output"):
        read_references(tmp_path, "val", SCORE, None)
    with pytest.raises(InputError, match="there is no file .* with the scores of baselines"):
        read_references(tmp_path, "val", SCORE, tmp_path / "none.json")
    assert read_references(tmp_path, "test", SCORE, None) == (
        (),
        "Baselines are scored on the split val only.",
    )
    with pytest.raises(InputError, match="the report is of 'test'; leave the baselines out"):
        read_references(tmp_path, "test", SCORE, tmp_path / BASELINES)
