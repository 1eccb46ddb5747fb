from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import plant

from features.errors import InputError
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
    dark[5:9] = False
    fewer = replace(val, visual_valid=dark, visual=val.visual * dark.unsqueeze(-1))
    assert both((train, fewer), ("visual",))[0] > 0.95  # the mean face in their place scores .93


def test_neighbouring_frames_help_where_a_frame_is_noisy(banks):
    noise = np.random.default_rng(0)

    def noisy(bank: Bank) -> Bank:
        added = torch.from_numpy(3 * noise.standard_normal(bank.visual.shape)).half()
        return replace(bank, visual=(bank.visual + added) * bank.visual_valid.unsqueeze(-1))

    pair = (noisy(banks[0]), noisy(banks[1]))
    alone, near = both(pair, ("visual",))[0], both(pair, ("visual",), neighbours=True)[0]
    assert near > alone + 0.1


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
