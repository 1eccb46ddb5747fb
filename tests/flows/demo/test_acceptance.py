from pathlib import Path

import pytest
from rich.console import Console

from flows.demo import demo
from flows.demo.acceptance import (
    AUDIO,
    LEAST_EACH,
    LEAST_MEAN,
    MARGIN,
    MAX_CCC,
    VISUAL,
    ScoreRow,
    score_rows,
    table,
)
from models.baselines.predict import predict_baseline
from models.baselines.ridge import RidgeConfig
from models.data.train_val import load_splits
from models.heads.dspl import DsplConfig
from models.metrics.predict import concordance
from models.metrics.scores import SplitScore
from models.runs.folder import RunConfig
from models.training.config import TrainConfig
from tests.helpers.synthetic import plant


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RunConfig:
    planted = plant(tmp_path_factory.mktemp("planted"))
    return RunConfig(
        manifest=planted.manifest,
        store=planted.store,
        run=Path("run"),
        head=DsplConfig(),
        train=TrainConfig(),
    )


def score(valence: float, arousal: float) -> SplitScore:
    no_interval = (None,) * 6
    return SplitScore(valence, arousal, (valence + arousal) / 2, 100, 2, 0, 1, *no_interval)


@pytest.mark.parametrize(
    ("valence", "arousal", "holds"),
    [(0.5, 0.7, True), (0.49, 0.7, False), (0.9, 0.9, False), (0.39, 0.9, False)],
)
def test_a_row_holds_within_its_range_and_above_the_least_of_each(valence, arousal, holds):
    assert ScoreRow("x", valence, arousal, 0.6, 0.8, least_each=0.4).holds == holds


def test_the_band_is_what_the_set_was_made_for():
    assert (VISUAL, AUDIO, MAX_CCC) == ((0.35, 0.65), (0.20, 0.50), 0.90)
    assert (MARGIN, LEAST_MEAN, LEAST_EACH) == (0.08, 0.50, 0.40)


def test_the_rows_are_ridge_and_the_head_each_against_what_came_before(config):
    visual, audio, both, near, head = score_rows(config, score(0.7, 0.72))
    splits = load_splits(config.manifest, config.store)
    found = predict_baseline(
        RidgeConfig(), splits.train, splits.val, splits.subject_by_clip, splits.read_regions
    )
    expected = concordance(found, splits.val)
    assert (both.valence, both.arousal) == (expected.valence.ccc(), expected.arousal.ccc())
    assert visual.valence > 0.9 > audio.valence  # where it was planted
    assert both.low == max(visual.mean, audio.mean)
    assert near.low == both.mean
    assert head.low == max(max(visual.mean, audio.mean) + MARGIN, 0.5)
    assert head.least_each == LEAST_EACH
    assert (head.valence, head.arousal, head.mean) == pytest.approx((0.7, 0.72, 0.71))
    assert table((visual, head)).row_count == 2


def test_the_demo_fails_where_a_row_leaves_the_band(config, tmp_path, monkeypatch, capsys):
    from models.runs.folder import SCORES, write_config, write_json

    run = tmp_path / "run"
    run.mkdir()
    write_config(config.model_copy(update={"run": run}))
    fields = {name: getattr(score(0.6, 0.7), name) for name in SplitScore.__slots__}
    write_json(run / SCORES, {"val": fields})
    for low, status in ((0.6, 0), (0.66, 1)):
        rows = (
            ScoreRow("ridge, visual", 0.5, 0.5, 0.35, 0.65),
            ScoreRow("dspl", 0.6, 0.7, low, 0.9),
        )
        monkeypatch.setattr(demo, "score_rows", lambda *_, rows=rows: rows)
        assert demo.judge(Console(), run) == status
        assert ("does NOT hold" in capsys.readouterr().out) == bool(status)
