import csv
import io
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.clip import Clip
from features.errors import Incomplete, InputError
from features.manifest.labels import Labels, read_labels, write_labels
from features.manifest.manifest import Manifest, read_manifest
from flows.messages import describe
from flows.stages import raise_if_incomplete
from models.ablation.conditions import (
    KNOTS_S,
    Condition,
    people_in_order,
    with_rater_error,
    write_training_set,
)
from models.ablation.plan import DEFAULT, ablation_cases, read_plan
from models.ablation.table import CurveRow, Predictions, as_csv, curve_markdown, curve_rows
from models.data.train_val import load_splits
from models.heads.dspl import DsplConfig
from models.regions.prompts import FixedPrompts
from models.runs.folder import HEAD_FILE, read_config
from models.stages import trials
from models.stages.learning_curve import OTHERS, learning_curve
from models.training.config import TrainConfig

TIME_S = np.arange(200) / 25
HEAD = DsplConfig(width=8, n_heads=2, prompts=FixedPrompts())
TRAIN = TrainConfig(
    epochs=1, window=40, stride=40, batch_size=4, learning_rate=1e-2, threads=1, device="cpu"
)
CSV, MARKDOWN, PAGE = (f"learning_curve.{ending}" for ending in ("csv", "md", "html"))
PLAN = """
groups:
  - name: unlabelled clips
    variants:
      by text: {train: {unlabelled: others}}
  - name: without words
    variants:
      ridge: {baseline: {kind: ridge}}
"""


# Draws of people --------------------------------------------------------------------------------


def clips_of(n: int) -> list[Clip]:
    """Two clips of each of n people."""
    return [
        Clip(id=f"c{k}-{part}", video=f"{k}.mp4", labels=f"c{k}-{part}.txt", subject=f"s{k}")
        for k in range(n)
        for part in "ab"
    ]


def test_a_draw_is_an_order_of_the_people_whatever_that_of_the_clips():
    clips = clips_of(9)
    orders = [people_in_order(clips, draw) for draw in range(20)]
    assert len(set(orders)) == 20
    assert {frozenset(order) for order in orders} == {frozenset(f"subject s{k}" for k in range(9))}
    assert people_in_order(clips[::-1], 3) == orders[3]


def test_the_people_of_a_draw_are_among_those_of_its_larger_numbers(tmp_path):
    clips = [clip.model_copy(update={"split": "train"}) for clip in clips_of(6)]
    kept = [Clip(id="v", split="val", labels="v.txt"), Clip(id="t", split="test"), Clip(id="n")]
    manifest = Manifest(tmp_path / "data", (*clips, *kept))
    (tmp_path / "data").mkdir()
    before: set[str] = set()
    for n in (2, 3, 5):
        condition = Condition(0.0, n, is_all=False)
        drawn_path, others_path = write_training_set(tmp_path / "run", manifest, condition, 7, {})
        written = read_manifest(drawn_path)
        splits = {clip.id: clip.split for clip in written.clips}
        drawn = {clip.subject for clip in written.clips if clip.split == "train"}
        assert len(drawn) == n
        assert before < drawn
        before = drawn
        others = read_manifest(others_path)
        assert {clip.subject for clip in others.clips} == {f"s{k}" for k in range(6)} - drawn
        assert sum(split == "train" for split in splits.values()) + len(others.clips) == 12
        assert (splits["v"], splits["t"], splits["n"]) == ("val", "test", None)
        for clip in others.clips:
            assert others.path(clip.video).resolve() == tmp_path / "data" / Path(clip.video).name


# The error of a rater ---------------------------------------------------------------------------


def test_the_error_is_drawn_at_knots_and_straight_between_them():
    labels = Labels(np.zeros((200, 2)), np.ones(200, dtype=bool))
    error = with_rater_error(labels, TIME_S, 0.1, 0, "a").va
    at_knots = np.flatnonzero(np.isclose(TIME_S % KNOTS_S, 0))
    bends = np.flatnonzero(np.abs(np.diff(error, 2, axis=0)).max(axis=1) > 1e-12) + 1
    assert bends.tolist() == at_knots[1:].tolist()
    np.testing.assert_allclose(2 * error, with_rater_error(labels, TIME_S, 0.2, 0, "a").va)
    assert not np.allclose(error[:, 0], error[:, 1])
    for draw, clip in ((1, "a"), (0, "b")):
        assert not np.allclose(error, with_rater_error(labels, TIME_S, 0.1, draw, clip).va)


def test_the_error_has_the_given_deviation():
    labels = Labels(np.zeros((1, 2)), np.ones(1, dtype=bool))
    drawn = [with_rater_error(labels, TIME_S[:1], 0.2, k, "a").va for k in range(4000)]
    # the deviation of 8000 normal deviates has a standard error of .2 / sqrt(16000) = .0016
    assert np.std(drawn) == pytest.approx(0.2, abs=0.005)


@given(std=st.floats(0.01, 2), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_noisy_labels_stay_in_range_and_annotated_where_they_were(std, seed):
    rng = np.random.default_rng(seed)
    valid = rng.random(200) < 0.8
    labels = Labels(np.where(valid[:, None], rng.uniform(-1, 1, (200, 2)), 0), valid)
    found = with_rater_error(labels, TIME_S, std, seed, "a")
    assert np.abs(found.va).max() <= 1
    assert (found.valid == valid).all()
    assert not found.va[~valid].any()


def test_noise_is_added_to_the_training_labels_only(tmp_path):
    labels = Labels(np.zeros((200, 2)), np.ones(200, dtype=bool))
    clips = [Clip(id=f"{s}-0", split=s, labels=f"{s}.txt") for s in ("train", "val", "test")]
    for clip in clips:
        write_labels(tmp_path / clip.labels, labels)
    manifest = Manifest(tmp_path, tuple(clips))
    condition = Condition(0.3, 1, is_all=True)
    path, others = write_training_set(tmp_path / "run", manifest, condition, 0, {"train-0": TIME_S})
    assert others is None
    written = read_manifest(path)
    noisy, val, test = (read_labels(written.path(clip.labels)).va for clip in written.clips)
    expected = with_rater_error(labels, TIME_S, 0.3, 0, "train-0").va
    np.testing.assert_allclose(noisy, expected, atol=5e-4)  # labels are written with three decimals
    assert not val.any()
    assert not test.any()
    assert not read_labels(tmp_path / "train.txt").va.any()


# The stage --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def in_turn():
    """Trials one after the other in this process: test_ablation.py runs them in processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "map_in_processes", lambda function, items, *_: map(function, items))
        yield


def run(planted, plan, folder, **changes):
    keys = {"people": (2, 3), "noise": (0.3,), "draws": 2, "head": HEAD, "train": TRAIN}
    return learning_curve(
        manifest=planted.manifest,
        store=planted.store,
        run=folder,
        variants=str(plan),
        workers=1,
        **(keys | changes),
    )


@pytest.fixture(scope="module")
def done(planted, plan, tmp_path_factory):
    return run(planted, plan, tmp_path_factory.mktemp("runs") / "curve")


@pytest.mark.slow
def test_every_variant_is_trained_under_every_condition(done):
    assert [(row.people, row.noise, row.row, row.n_draws) for row in done.rows] == [
        (2, 0.0, DEFAULT, 2),
        (2, 0.0, "by text", 2),
        (2, 0.0, "ridge", 2),
        (3, 0.0, DEFAULT, 2),  # nobody is left for `others`
        (3, 0.0, "ridge", 2),
        (3, 0.3, DEFAULT, 2),
        (3, 0.3, "ridge", 2),
    ]
    assert (done.n_trained, done.n_present, done.failed) == (8, 0, ())
    assert done.notes == ("people = 3: left out, as the train split shows 3, who are all",)
    config = read_config(done.run / "people-2" / "unlabelled-clips-by-text" / "draw-1")
    assert config.train.seed == 1
    assert config.train.unlabelled.name == "people-2-draw-1-others.jsonl"
    assert config.manifest.name == "people-2-draw-1.jsonl"
    assert len(list(done.run.rglob(HEAD_FILE))) == 8


@pytest.mark.slow
def test_a_curve_that_was_killed_goes_on_where_it_was(done, planted, plan, tmp_path):
    n_done = 0

    def killed(name: str, total: int) -> None:
        nonlocal n_done
        n_done += 1
        if n_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(planted, plan, tmp_path / "curve", on_case=killed)
    again = run(planted, plan, tmp_path / "curve")
    assert again.n_present >= 3
    assert again.n_trained == 8 - again.n_present
    for name in (CSV, MARKDOWN, PAGE):
        assert (tmp_path / "curve" / name).read_bytes() == (done.run / name).read_bytes()


@pytest.mark.slow
def test_the_files_say_the_same_as_the_table(done):
    rows = list(csv.DictReader(io.StringIO((done.run / CSV).read_text())))
    assert tuple(rows[0]) == tuple(field.name for field in fields(CurveRow))
    page, text = ((done.run / name).read_text() for name in (PAGE, MARKDOWN))
    for row, line in zip(rows, done.rows, strict=True):
        assert float(row["ccc_mean"]) == line.ccc_mean
        assert line.ccc_mean_low <= line.ccc_mean <= line.ccc_mean_high
        assert f"{line.difference:+.3f}" in page
        assert f"{line.ccc_mean:.3f} [" in text
    assert page.count("<svg") == 2  # one per group
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert sum("learning-curve: 7 rows; 8 heads trained" in str(x) for x in describe(done)) == 1


@pytest.mark.slow
def test_a_trial_that_fails_is_listed_and_the_others_go_on(planted, plan, tmp_path):
    blocked = tmp_path / "curve" / "people-2" / "default-default" / "draw-0"
    blocked.mkdir(parents=True)
    (blocked / "letter.txt").write_text("not a run's")
    found = run(planted, plan, tmp_path / "curve", noise=(), draws=2)
    assert [row.n_draws for row in found.rows] == [1, 2, 2, 2, 2]
    (failure,) = found.failed
    assert failure.startswith("people-2/default-default/draw-0: run = ")
    with pytest.raises(Incomplete, match="1 trainings of the learning curve failed"):
        raise_if_incomplete(found)


@pytest.mark.slow
def test_a_row_is_paired_with_the_default_by_draw(planted):
    splits = load_splits(planted.manifest, planted.store)
    truth = splits.val.va.numpy()
    rng = np.random.default_rng(0)
    noisy = {k: truth + 0.3 * rng.standard_normal(truth.shape) for k in (4, 5)}
    condition = Condition(0.0, 2, is_all=False)
    default = Predictions(DEFAULT, DEFAULT, noisy)
    half = Predictions("g", "half", {5: noisy[5] * 0.5})
    none = Predictions("g", "none", {})
    both = [(condition, each) for each in (default, half, none)]
    rows = curve_rows(both, splits)
    alone = (condition, replace(default, va={5: noisy[5]}))
    one = curve_rows([alone], splits)
    assert (rows[0].difference, rows[0].difference_low, rows[0].difference_high) == (0, 0, 0)
    assert rows[1].difference == pytest.approx(rows[1].ccc_mean - one[0].ccc_mean)
    assert rows[1].differs
    assert rows[2].n_draws == 0
    assert set(as_csv(rows).splitlines()[3].split(",")[5:]) == {""}
    assert "| none | 0 | – | – |" in curve_markdown(rows, "")  # noqa: RUF001


def test_the_default_cannot_train_on_the_others(planted, plan, tmp_path):
    train = TRAIN.model_copy(update={"unlabelled": OTHERS})
    with pytest.raises(InputError, match="only a variant of the plan can have"):
        run(planted, plan, tmp_path / "curve", train=train)
    assert not (tmp_path / "curve").exists()


@pytest.mark.slow
def test_the_folder_of_a_head_is_not_taken(planted, plan, done):
    with pytest.raises(InputError, match="folder of a trained head; a learning curve has many"):
        run(planted, plan, done.run / "people-all" / "default-default" / "draw-0")


def test_the_plan_has_controls_for_the_words():
    cases = ablation_cases(read_plan("learning_curve"), DsplConfig(), TrainConfig())
    names = {case.name for case in cases}
    assert {"text prior", "text prior, permuted words", "text prior, random words"} <= names
    assert {"pseudo-labels by text", "pseudo-labels by permuted words"} <= names
    assert {"text alone", "text alone, permuted words", "ridge per frame"} <= names
    on_others = {
        case.name
        for case in cases
        if isinstance(case.model, tuple) and case.model[1].unlabelled == OTHERS
    }
    assert on_others == {name for name in names if name.startswith("pseudo-labels")}
