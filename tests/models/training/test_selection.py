"""Which epoch is kept, and whose keys a training has."""

from unittest.mock import Mock

import numpy as np
import pytest
from pydantic import ValidationError

from features.clip import Clip
from features.manifest.labels import Labels
from models.data.feature_sets import FeatureSets
from models.data.splits import ClipGroups
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.training.config import (
    EpochResult,
    TrainConfig,
    kept_epoch,
    preset_train,
    selection_score,
)
from models.training.old_keys import KEYS_OF_0_1, NEW_TRAIN_KEYS


def epochs(*scores: tuple[float, float | None]) -> list[EpochResult]:
    """Epochs of these mean CCC on val and on the held-out subjects."""
    return [EpochResult(k, 1.0, val, val, val, inner) for k, (val, inner) in enumerate(scores)]


SCORES = epochs((0.1, 0.3), (0.5, 0.2), (0.505, 0.4), (0.52, 0.35), (0.5, 0.4))


@pytest.mark.parametrize(
    ("fields", "index"),
    [
        ({}, 4),
        ({"select": "last"}, 4),
        ({"select": "val"}, 3),
        # .505 is not better than .5 by more than .01, .52 is
        ({"select": "val", "min_delta": 0.01}, 3),
        ({"select": "val", "min_delta": 0.03}, 1),  # .52 neither: it is compared with .5
        ({"select": "inner"}, 2),  # the first of two that are equal
    ],
)
def test_the_epoch_that_is_kept_by_hand(fields, index):
    assert kept_epoch(SCORES, TrainConfig(**fields)).index == index


def test_the_score_that_selects():
    epoch = EpochResult(0, 1.0, 0.1, 0.3, 0.2, 0.7)
    assert selection_score(epoch, TrainConfig(select="val")) == 0.2
    assert selection_score(epoch, TrainConfig(select="inner")) == 0.7


@pytest.mark.parametrize("fields", [{"patience": 3}, {"min_delta": 0.1}])
def test_a_training_that_selects_the_last_epoch_does_not_stop_early(fields):
    with pytest.raises(ValidationError, match="select is last, which trains all epochs"):
        TrainConfig(select="last", **fields)


def test_patience_alone_means_what_it_meant():
    assert TrainConfig(patience=3).select == "val"
    assert TrainConfig(patience=None).select == TrainConfig().select == "last"
    assert TrainConfig(select="inner", patience=3).select == "inner"


def test_a_config_survives_being_written():
    for config in (TrainConfig(), TrainConfig(patience=3), TrainConfig(select="inner")):
        assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_preset_sets_its_own_keys_of_train():
    own = dict(ReleasedConfig.trainer)
    resolved = preset_train(ReleasedConfig(), TrainConfig(seed=3))
    assert {key: getattr(resolved, key) for key in own} == own
    assert TrainConfig.model_validate(resolved.model_dump()) == resolved
    assert resolved.seed == 3
    assert resolved.window == TrainConfig().window
    assert preset_train(DsplConfig(), TrainConfig(seed=3)) == TrainConfig(seed=3)


def test_keys_that_are_given_win_over_the_preset():
    given = TrainConfig(epochs=2, mixup=0.4, schedule="cosine", clip_grad_norm=1.0)
    resolved = preset_train(ReleasedConfig(), given)
    assert (resolved.epochs, resolved.mixup, resolved.schedule) == (2, 0.4, "cosine")
    assert resolved.clip_grad_norm == 1.0  # although it is the default of `train`
    assert resolved.patience == 5


def test_a_key_that_is_given_takes_along_those_that_belong_to_it():
    last = preset_train(ReleasedConfig(), TrainConfig(select="last"))
    assert (last.select, last.patience, last.min_delta) == ("last", None, 0)
    rows = preset_train(ReleasedConfig(), TrainConfig(causal_stride=25))
    assert (rows.causal_stride, rows.causal_stride_s) == (25, None)
    assert rows.causal_start_s == 10


def test_a_config_that_is_resolved_or_written_in_full_stays_as_it_is():
    resolved = preset_train(ReleasedConfig(), TrainConfig())
    assert preset_train(ReleasedConfig(), resolved) == resolved
    old = TrainConfig().model_dump(include=set(KEYS_OF_0_1)) | {"patience": 5}
    config = TrainConfig.model_validate(old)
    assert preset_train(ReleasedConfig(), config) == config
    later = NEW_TRAIN_KEYS
    assert {key: getattr(config, key) for key in later} == later


@pytest.mark.parametrize(
    ("n_people", "share", "n_held_out"),
    [
        (5, 0.2, 1),
        (5, 0.01, 1),  # one at least
        (5, 0.3, 2),  # 1.5, to the even number
        (8, 0.5, 4),
        (5, 0.99, 4),  # one is left to train on
        (2, 0.99, 1),
    ],
)
def test_the_number_of_people_that_are_held_out_by_hand(n_people, share, n_held_out):
    clips = [
        Clip(id=f"c{k}-{part}", split="train", subject=f"s{k}")
        for k in range(n_people)
        for part in "ab"
    ]
    labels = Labels(np.zeros((1, 2)), np.ones(1, dtype=bool))
    groups = ClipGroups(Mock(FeatureSets), {"train": tuple(clips)}, {c.id: labels for c in clips})
    held_out = groups.hold_out("train", share, 3)
    people = {clip_id.partition("-")[0] for clip_id in held_out}
    assert (len(people), len(held_out)) == (n_held_out, 2 * n_held_out)  # with both of their clips
