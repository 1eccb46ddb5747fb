from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import plant
from sklearn.linear_model import Ridge

from features.errors import InputError
from models import baselines
from models.bank import Bank
from models.baselines import load_banks, score_ridge


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> tuple[Bank, Bank]:
    planted = plant(tmp_path_factory.mktemp("planted"))
    return load_banks(planted.manifest, planted.store)


def both(banks: tuple[Bank, Bank], modalities, **options) -> tuple[float, float]:
    score = score_ridge(*banks, modalities, **options)
    return score.valence.ccc(), score.arousal.ccc()


def test_each_modality_tells_what_was_planted_in_it(banks):
    sight, sound = both(banks, ("visual",)), both(banks, ("audio",))
    assert sight[0] > 0.95
    assert sight[1] < 0.5
    assert sound[1] > 0.95
    assert sound[0] < 0.5
    assert min(both(banks, ("visual", "audio"))) > 0.95


def test_ridge_is_blind_to_what_is_behind_the_mask(banks):
    train, val = banks
    spoiled = val.visual.masked_fill(~val.visual_valid.unsqueeze(-1), 6e4)
    assert not torch.equal(spoiled, val.visual)
    found = both((train, replace(val, visual=spoiled)), ("visual", "audio"))
    assert found == both(banks, ("visual", "audio"))


def test_rows_without_a_face_are_read_from_their_neighbours_in_time(banks):
    train, val = banks
    dark = val.visual_valid.clone()
    dark[torch.arange(len(dark)) % 3 != 0] = False
    fewer = replace(val, visual_valid=dark, visual=val.visual * dark.unsqueeze(-1))
    # measured: 0.98, and 0.45 where the mean face is read in their place
    assert both((train, fewer), ("visual",))[0] > 0.95


def test_neighbouring_frames_help_where_a_frame_is_noisy(banks):
    noise = np.random.default_rng(0)

    def noisy(bank: Bank) -> Bank:
        added = torch.from_numpy(3 * noise.standard_normal(bank.visual.shape)).half()
        return replace(bank, visual=(bank.visual + added) * bank.visual_valid.unsqueeze(-1))

    pair = (noisy(banks[0]), noisy(banks[1]))
    alone, near = both(pair, ("visual",))[0], both(pair, ("visual",), neighbours=True)[0]
    assert near > alone + 0.1


def test_rows_that_are_not_annotated_teach_nothing(banks):
    train, val = banks
    marked = train.va_valid.clone()
    marked[::2] = False
    blank = train.va * marked.unsqueeze(-1)  # as a bank has it: 0 where not annotated
    found = both((replace(train, va=blank, va_valid=marked), val), ("visual", "audio"))
    assert min(found) > 0.95  # measured: 0.77 where the blank rows teach 0


def test_strength_is_chosen_on_clips_that_were_not_fitted(banks, monkeypatch):
    seen = []
    monkeypatch.setattr(
        baselines,
        "RidgeCV",
        lambda alphas, cv: seen.append(cv) or Ridge(1.0),
    )
    both(banks, ("visual",))
    clips = np.repeat(np.arange(len(banks[0].clip_ids)), np.diff(banks[0].offsets))
    clips = clips[banks[0].va_valid.numpy() & banks[0].visual_valid.numpy()]
    assert len(seen[0]) == 5
    for fitted, tried in seen[0]:
        assert not set(clips[fitted]) & set(clips[tried])


def test_predictions_stay_within_the_scale(banks):
    train, val = banks
    wide = replace(val, visual=(5 * (val.visual - 3) + 3) * val.visual_valid.unsqueeze(-1))
    clipped = score_ridge(train, wide, ("visual",)).valence
    assert abs(clipped.mean_predicted) <= 1
    assert clipped.squares_predicted <= clipped.n  # each within 1 of 0; unclipped it is several


def test_training_clips_without_sound_are_refused(banks):
    train, val = banks
    mute = replace(train, audio_valid=torch.zeros_like(train.audio_valid))
    with pytest.raises(InputError, match="no row of the training clips has audio features"):
        both((mute, val), ("visual", "audio"))


def test_one_clip_is_too_few_to_choose_by_folds(banks):
    train = banks[0]
    n = int(train.offsets[1])
    tensors = {
        name: getattr(train, name)[:n]
        for name in ("time_s", "visual", "visual_valid", "audio", "audio_valid", "va", "va_valid")
    }
    lone = Bank(train.clip_ids[:1], train.offsets[:2], **tensors)
    with pytest.raises(InputError, match="give it two clips to train on"):
        score_ridge(lone, banks[1], ("visual",))
