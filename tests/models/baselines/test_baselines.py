from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import sklearn.linear_model
import torch
from pydantic import ValidationError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from features.clip import Clip
from features.errors import InputError
from models.baselines import AnyBaselineConfig
from models.baselines import training_rows as rows
from models.baselines.base import BaselineConfig, folds_by_subject, smoothed
from models.baselines.late_fusion import LateFusionConfig
from models.baselines.mean import MeanConfig
from models.baselines.mlp import MlpConfig
from models.baselines.predict import predict_baseline
from models.baselines.ridge import RidgeConfig
from models.baselines.ridge_window import RidgeWindowConfig, nearest
from models.baselines.text import TextConfig
from models.data.packed import PackedFeatures
from models.data.splits import subject_by_clip
from models.data.train_val import load_splits
from models.metrics.predict import concordance
from models.regions.prompts import AnyPrompts
from models.regions.zero_shot import RegionPrototypes
from tests.helpers.synthetic import N_FRAMES, WIDTH_VISUAL, plant
from tests.helpers.two_streams import changed, packed_streams

pytestmark = pytest.mark.slow

WINDOW = RidgeWindowConfig(reach_s=0.2, step_s=0.04)  # the planted courses turn within a second
LEARNING = (RidgeConfig(), WINDOW, LateFusionConfig(), MlpConfig(hidden=128, passes=50))
ALL = (MeanConfig(), RidgeConfig(), WINDOW, LateFusionConfig(), MlpConfig(passes=5), TextConfig())


def kind(config: BaselineConfig) -> str:
    return config.kind


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> tuple[PackedFeatures, PackedFeatures]:
    planted = plant(tmp_path_factory.mktemp("planted"))
    splits = load_splits(planted.manifest, planted.store)
    return own_rows(splits.train), own_rows(splits.val)


def own_rows(packed: PackedFeatures) -> PackedFeatures:
    """A copy that shares no rows with other clips, for tests that change them."""
    copy = packed.copy_runs([span for _, span in packed.spans()], packed.device)
    return replace(copy, clip_ids=packed.clip_ids)


def alone(bank: PackedFeatures) -> dict[str, str]:
    return {clip_id: clip_id for clip_id in bank.clip_ids}


def predicted(banks: tuple[PackedFeatures, PackedFeatures], config: BaselineConfig, *modalities):
    if not isinstance(config, TextConfig):
        config = config.model_copy(update={"streams": modalities or ("visual", "audio")})
    return predict_baseline(config, *banks, alone(banks[0]), read_regions)


def read_regions(_: AnyPrompts) -> RegionPrototypes:
    """Nine directions."""
    drawn = torch.randn(9, WIDTH_VISUAL, generator=torch.Generator().manual_seed(0))
    return RegionPrototypes(torch.nn.functional.normalize(drawn, dim=-1))


def score(
    banks: tuple[PackedFeatures, PackedFeatures], config: BaselineConfig, *modalities
) -> tuple[float, float]:
    sums = concordance(predicted(banks, config, *modalities), banks[1])
    return sums.valence.ccc(), sums.arousal.ccc()


def spoiled(bank: PackedFeatures, value: float) -> PackedFeatures:
    """The bank with everything that a mask hides replaced."""
    held = value if value < torch.finfo(torch.float16).max else float("inf")
    return changed(
        bank,
        visual=bank["visual"].values.masked_fill(~bank["visual"].valid.unsqueeze(-1), held),
        audio=bank["audio"].values.masked_fill(~bank["audio"].valid.unsqueeze(-1), held),
        va=bank.va.masked_fill(~bank.va_valid.unsqueeze(-1), value),
    )


def with_gaps(bank: PackedFeatures) -> PackedFeatures:
    """The bank without some of its faces, sounds and labels, 0 in their places."""
    place = torch.arange(len(bank.time_s))
    seen, heard = (
        bank["visual"].valid & (place % 5 != 0),
        bank["audio"].valid & (place % 7 != 0),
    )
    known = bank.va_valid & (place % 3 != 0)
    return replace(
        bank,
        streams=packed_streams(
            bank["visual"].values * seen.unsqueeze(-1),
            seen,
            bank["audio"].values * heard.unsqueeze(-1),
            heard,
        ),
        va=bank.va * known.unsqueeze(-1),
        va_valid=known,
    )


def test_every_baseline_of_the_union_is_tested_here():
    union = get_args(get_args(AnyBaselineConfig)[0])
    assert {type(config) for config in ALL} == set(union)


@pytest.mark.parametrize("config", LEARNING, ids=kind)
def test_each_modality_tells_what_was_planted_in_it(banks, config):
    visual, audio = score(banks, config, "visual"), score(banks, config, "audio")
    assert visual[0] > 0.9
    assert visual[1] < 0.5
    assert audio[1] > 0.9
    assert audio[0] < 0.5
    assert min(score(banks, config)) > 0.9


def test_the_mean_is_that_of_the_rows_to_learn_from_and_scores_nothing(banks):
    train = with_gaps(banks[0])
    known = train.va_valid & (train["visual"].valid | train["audio"].valid)
    found = predicted((train, banks[1]), MeanConfig())
    expected = train.va[known].numpy().mean(axis=0)
    np.testing.assert_allclose(found.va, np.tile(expected, (len(banks[1].time_s), 1)))
    assert score(banks, MeanConfig()) == (0, 0)


@pytest.mark.parametrize("config", ALL, ids=kind)
def test_what_lies_behind_the_masks_changes_nothing(banks, config):
    train, val = with_gaps(banks[0]), with_gaps(banks[1])
    clean = predicted((train, val), config).va
    for value in (6e4, 1e6):  # as far as float16 goes, and beyond: infinite there
        np.testing.assert_array_equal(
            predicted((spoiled(train, value), spoiled(val, value)), config).va, clean
        )


@pytest.mark.parametrize("config", ALL, ids=kind)
def test_equal_input_gives_equal_predictions_on_the_scale(banks, config):
    train, val = banks
    wide = changed(
        val,
        visual=(50 * (val["visual"].values - 3) + 3) * val["visual"].valid.unsqueeze(-1),
    )
    found = predicted((train, wide), config).va
    np.testing.assert_array_equal(found, predicted((train, wide), config).va)
    assert np.abs(found).max() <= 1
    if config in LEARNING:
        assert np.abs(found).max() == 1  # it was clipped


@pytest.mark.parametrize("config", LEARNING, ids=kind)
def test_rows_without_a_face_are_read_from_their_neighbours_in_time(banks, config):
    train, val = banks
    dark = val["visual"].valid.clone()
    dark[torch.arange(len(dark)) % 3 != 0] = False
    fewer = changed(val, visual_valid=dark, visual=val["visual"].values * dark.unsqueeze(-1))
    found = predicted((train, fewer), config, "visual")
    for _, span in fewer.spans():
        seen, time_s = dark[span].numpy(), fewer.time_s[span]
        by_hand = np.interp(time_s, time_s[seen], found.va[span][seen, 0])
        np.testing.assert_allclose(found.va[span][:, 0], by_hand)
    np.testing.assert_array_equal(found.interpolated, ~dark.numpy())


def test_a_clip_of_which_nothing_is_seen_is_not_interpolated(banks):
    train, val = banks
    blind = changed(
        val,
        visual_valid=torch.zeros_like(val["visual"].valid),
        visual=0 * val["visual"].values,
    )
    found = predicted((train, blind), RidgeConfig(), "visual")
    assert not found.interpolated.any()
    assert not np.ptp(found.va, axis=0).any()  # the mean face, in every row


def test_a_missing_modality_counts_as_its_training_mean(banks):
    train, val = banks
    valid = train["audio"].valid.numpy()
    mean = train["audio"].values.numpy()[valid].astype(np.float64).mean(axis=0)
    silent = torch.zeros_like(val["audio"].valid)
    hummed = torch.from_numpy(np.tile(mean, (len(val.time_s), 1))).half()
    quiet = predicted(
        (train, changed(val, audio_valid=silent, audio=0 * val["audio"].values)),
        RidgeConfig(),
    )
    humming = predicted((train, changed(val, audio=hummed)), RidgeConfig())
    seen = val.streams[
        "visual"
    ].valid.numpy()  # elsewhere one is read from its neighbours, one from the mean
    np.testing.assert_allclose(quiet.va[seen], humming.va[seen], atol=2e-3)  # float16 rounds


@pytest.mark.parametrize("config", [RidgeConfig(spans_s=(1.0, 4.0)), WINDOW], ids=kind)
def test_neighbouring_frames_help_where_a_frame_is_noisy(banks, config):
    noise = np.random.default_rng(0)

    def noisy(bank: PackedFeatures) -> PackedFeatures:
        added = torch.from_numpy(3 * noise.standard_normal(bank["visual"].values.shape)).half()
        return changed(
            bank,
            visual=(bank["visual"].values + added) * bank["visual"].valid.unsqueeze(-1),
        )

    pair = (noisy(banks[0]), noisy(banks[1]))
    assert score(pair, config, "visual")[0] > score(pair, RidgeConfig(), "visual")[0] + 0.1


@pytest.mark.parametrize("config", ALL, ids=kind)
def test_the_unit_of_a_feature_does_not_matter(banks, config):
    grown = tuple(changed(bank, visual=16 * bank["visual"].values) for bank in banks)
    one, other = predicted(banks, config).va, predicted(grown, config).va
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_ridge_is_strong_on_noise_and_weak_where_all_is_told():
    rng = np.random.default_rng(0)
    told, people = rng.standard_normal((200, 20)), np.repeat(np.arange(5), 40)
    noise = rng.standard_normal((200, 2))
    for config, strongest in ((RidgeConfig(), 1e5), (RidgeWindowConfig(), 1e6)):
        for va, strength in ((told[:, :2], 1), (noise, strongest)):
            model = config.build([slice(0, 20)], people)
            model.fit(told, va)
            assert model[-1].alpha_ == strength  # pyright: ignore


def test_a_window_may_have_fewer_columns_than_components_are_asked_for(banks):
    many = WINDOW.model_copy(update={"components": 10_000})
    assert min(score(banks, many)) > 0.5


def test_rows_that_are_not_annotated_teach_nothing(banks):
    train, val = banks
    marked = train.va_valid.clone()
    marked[::2] = False
    blank = train.va * marked.unsqueeze(-1)  # as a bank has it: 0 where not annotated
    found = score((replace(train, va=blank, va_valid=marked), val), RidgeConfig())
    assert min(found) > 0.95  # measured: 0.77 where the blank rows teach 0


def test_rows_in_which_nothing_is_valid_teach_nothing(banks):
    train, val = banks
    none = torch.zeros_like(train["visual"].valid)
    none[::4] = True
    dark = {
        "visual_valid": train["visual"].valid & none,
        "audio_valid": train["audio"].valid & none,
    }
    found = predicted((changed(train, **dark), val), RidgeConfig())
    marked = changed(train, **dark, va_valid=train.va_valid & none)
    np.testing.assert_array_equal(found.va, predicted((marked, val), RidgeConfig()).va)


@pytest.mark.parametrize("config", [c for c in LEARNING if c.kind != "late_fusion"], ids=kind)
def test_settings_are_chosen_on_people_that_were_not_fitted(banks, config, monkeypatch):
    seen = []

    def spy(search, rows, va):
        seen.append(search.cv)
        search.predict = Ridge(1.0).fit(rows, va).predict

    def spy_on_ridge(alphas, cv):
        seen.append(cv)
        return Ridge(1.0)

    monkeypatch.setattr(sklearn.linear_model, "RidgeCV", spy_on_ridge)
    monkeypatch.setattr(GridSearchCV, "fit", spy)
    train = banks[0]
    groups = dict(zip(train.clip_ids, "abcacd", strict=True))  # two clips of a, two of c
    predict_baseline(config, *banks, groups, read_regions)
    clips = np.repeat(list(groups.values()), np.diff(train.offsets))[train.va_valid.numpy()]
    (folds,) = seen
    assert len(folds) == 4
    for fitted, tried in folds:
        assert not set(clips[fitted]) & set(clips[tried])
        assert sorted([*fitted, *tried]) == list(range(len(clips)))


def test_folds_hold_each_person_once_and_are_five_at_most():
    people = np.repeat(np.arange(7), [3, 1, 4, 1, 5, 9, 2])
    folds = folds_by_subject(people)
    assert len(folds) == 5
    tried = [set(people[rows]) for _, rows in folds]
    assert sum(map(len, tried)) == 7
    assert set.union(*tried) == set(range(7))


@pytest.mark.parametrize("config", LEARNING, ids=kind)
def test_one_person_is_too_few_to_choose_by_folds(banks, config):
    with pytest.raises(InputError, match="give it clips of two subjects to train on"):
        predict_baseline(config, *banks, dict.fromkeys(banks[0].clip_ids, "one"), read_regions)


def test_a_clip_without_a_subject_is_one_of_its_own():
    clips = [
        Clip(id="x", video="x.mp4", subject="p"),
        Clip(id="y", video="y.mp4", subject="p"),
        Clip(id="p", video="p.mp4"),
        Clip(id="q", video="q.mp4"),
    ]
    found = subject_by_clip(clips)
    assert found["x"] == found["y"]
    assert len(set(found.values())) == 3


def test_training_clips_without_sound_or_labels_are_refused(banks):
    train, val = banks
    mute = changed(train, audio_valid=torch.zeros_like(train["audio"].valid))
    with pytest.raises(InputError, match="no row of the training clips has audio features"):
        predicted((mute, val), RidgeConfig())
    blank = replace(train, va_valid=torch.zeros_like(train.va_valid))
    with pytest.raises(InputError, match="no annotated row .* has visual or audio features"):
        predicted((blank, val), MeanConfig())


def test_of_many_rows_every_kth_is_learnt_from(banks, monkeypatch):
    train, val = banks
    monkeypatch.setattr(rows, "MAX_ROWS", 300)
    few = predicted(banks, RidgeConfig()).va
    n = int(train.va_valid.sum())
    assert n == 6 * N_FRAMES  # 780: more than twice 300, so every third
    marked = torch.zeros_like(train.va_valid)
    marked[torch.arange(0, n, 3)] = True
    monkeypatch.setattr(rows, "MAX_ROWS", n)
    thinned = predicted((replace(train, va_valid=marked), val), RidgeConfig()).va
    np.testing.assert_array_equal(few, thinned)
    assert np.abs(few - predicted(banks, RidgeConfig()).va).max() > 1e-6


def test_modalities_are_one_or_two_and_named_once():
    with pytest.raises(ValidationError, match="names one twice"):
        RidgeConfig(streams=("visual", "visual"))
    with pytest.raises(ValidationError, match="at least 1 item"):
        RidgeConfig(streams=())


def test_the_nearest_row_by_hand():
    time_s = np.array([0.0, 1.0, 3.0])
    wanted_s = np.array([-5.0, 0.4, 0.5, 0.6, 1.0, 2.1, 9.0])
    np.testing.assert_array_equal(nearest(time_s, wanted_s), [0, 0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(nearest(time_s[:1], wanted_s), [0] * 7)


def test_a_window_holds_its_means_in_order_and_the_ends_hold():
    # rows 1 s apart, means over 1 s are the rows themselves: columns are t-2, t-1, t, t+1, t+2
    values, time_s = np.arange(4.0)[:, None], np.arange(4.0)
    found = RidgeWindowConfig(reach_s=2, step_s=1).features(values, time_s)
    expected = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]
    np.testing.assert_array_equal(found, expected)


def test_a_window_does_not_reach_into_the_next_clip(banks):
    train, val = banks
    first, second = (span for _, span in val.spans())
    other = val["visual"].values.clone()
    other[second] = other[second].flip(0) + 1
    for config in (RidgeConfig(spans_s=(4.0,)), RidgeWindowConfig()):
        one = predicted(banks, config).va
        two = predicted((train, changed(val, visual=other)), config).va
        np.testing.assert_array_equal(one[first], two[first])
        assert np.abs(one[second] - two[second]).max() > 0.01


def test_spans_are_measured_on_each_clips_own_clock(banks):
    train, val = banks
    first, second = (span for _, span in val.spans())
    slower = val.time_s.copy()
    slower[second] = 100 + 2 * slower[second]
    for config in (RidgeConfig(spans_s=(1.0,)), WINDOW):
        one = predicted(banks, config).va
        two = predicted((train, replace(val, time_s=slower)), config).va
        np.testing.assert_array_equal(one[first], two[first])
        assert np.abs(one[second] - two[second]).max() > 0.01


def test_a_span_is_smoothed_in_rows_of_its_clip_by_hand():
    # rows .5 s apart: 1.5 s are 3 rows; (0 + 0 + 3) / 3, (0 + 3 + 6) / 3, (3 + 6 + 6) / 3
    values, time_s = np.array([[0.0], [3.0], [6.0]]), np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(smoothed(values, time_s, 1.5), [[1], [3], [5]])
    np.testing.assert_array_equal(smoothed(values, time_s, 0.1), values)


def test_components_are_of_each_modality_by_itself():
    # audio has a thousand times the spread of visual: one search over both would see audio alone
    rng = np.random.default_rng(0)
    visual, audio = rng.standard_normal((200, 3)), 1000 * rng.standard_normal((200, 4))
    people = np.repeat(np.arange(4), 50)
    config = RidgeWindowConfig(components=2)
    model = config.build([slice(0, 3), slice(3, 7)], people)
    rows_of_both = np.concatenate([visual, audio], axis=1)
    model.fit(rows_of_both, rows_of_both[:, :2])
    reduced = model[0].transform(rows_of_both)  # pyright: ignore
    assert reduced.shape == (200, 4)
    by_itself = np.linalg.lstsq(visual - visual.mean(0), reduced[:, :2], rcond=None)[1]
    assert np.abs(by_itself).max() < 1e-12


def test_the_net_depends_on_its_seed_and_no_random_rows_are_held_back(banks):
    config = MlpConfig(passes=2)
    one = predicted(banks, config).va
    assert np.abs(one - predicted(banks, config.model_copy(update={"seed": 1})).va).max() > 0
    model = config.build([slice(0, 2)], np.repeat(np.arange(4), 5))
    net = model.estimator[-1]  # pyright: ignore
    assert not net.early_stopping
    assert net.max_iter == 2
