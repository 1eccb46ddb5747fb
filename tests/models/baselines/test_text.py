"""The choice of the settings of `text`; its contract is in test_baselines.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from features.errors import InputError
from models.baselines.text import SCALES, TextConfig, fit_text
from models.data.packed import PackedFeatures
from models.metrics.predict import concordance
from models.metrics.smoothing import WINDOWS_S
from models.metrics.zero_shot import barycentres, predict_zero_shot, region_cosines, smooth_seen
from models.regions.zero_shot import Moments, RegionPrototypes
from tests.helpers.two_streams import packed_streams

pytestmark = pytest.mark.slow

REGIONS = RegionPrototypes(torch.eye(9))
N = 200
PEOPLE = {f"c{k}": f"p{k % 4}" for k in range(8)}


@pytest.fixture(scope="module")
def bank() -> PackedFeatures:
    """Eight clips of four people, labelled with their barycentres at scale 20; V is smoothed.

    Some rows are not seen and some are not annotated.
    """
    rng = np.random.default_rng(0)
    n = 8 * N
    seen, known = (torch.from_numpy(rng.random(n) > 0.1) for _ in range(2))
    blank = PackedFeatures(
        tuple(PEOPLE),
        np.arange(0, n + 1, N),
        np.tile(np.arange(N) / 10, 8),
        streams=packed_streams(
            torch.from_numpy(rng.standard_normal((n, 9))).half(),
            seen,
            torch.zeros(n, 1, dtype=torch.float16),
            torch.ones(n, dtype=torch.bool),
        ),
        va=torch.zeros(n, 2, dtype=torch.float64),
        va_valid=known,
    )
    raw = barycentres(region_cosines(blank, REGIONS), REGIONS, (20.0, 20.0))
    smoothed = smooth_seen(raw, seen.numpy(), blank, (1.0, 0.0))
    va = np.nan_to_num(0.1 + 0.5 * smoothed) + 0.02 * rng.standard_normal((n, 2))
    return replace(blank, va=torch.from_numpy(va) * known.unsqueeze(-1))


def test_scale_and_width_of_each_dimension_are_found(bank):
    settings = fit_text(bank, PEOPLE, REGIONS)
    assert settings.scale == (20.0, 20.0)
    assert settings.width_s == (1.0, 0.0)
    rows = (bank.va_valid & bank["visual"].valid).numpy()
    assert settings.wanted == Moments.of(bank.va.numpy()[rows])
    score = concordance(predict_zero_shot(bank, REGIONS, settings), bank)
    assert min(score.ccc()) > 0.8  # rows that are not seen have a label of 0.1


def test_given_settings_are_kept(bank):
    settings = fit_text(bank, PEOPLE, REGIONS, scale=7.0)
    assert settings.scale == (7.0, 7.0)
    assert settings.width_s == (1.0, 0.0)
    settings = fit_text(bank, PEOPLE, REGIONS, width_s=0.5)
    assert settings.scale[0] in SCALES
    assert settings.width_s == (0.5, 0.5)


def test_with_nothing_to_choose_one_person_is_enough(bank):
    one = dict.fromkeys(PEOPLE, "p")
    settings = fit_text(bank, one, REGIONS, scale=10.0, width_s=2.0)
    assert (settings.scale, settings.width_s) == ((10.0, 10.0), (2.0, 2.0))
    with pytest.raises(InputError, match="give it clips of two subjects to train on"):
        fit_text(bank, one, REGIONS)


def test_the_score_of_a_candidate_is_of_people_whose_moments_were_not_seen(bank, monkeypatch):
    seen = []
    original = Moments.of.__func__

    def watched(cls, va):
        seen.append(len(va))
        return original(cls, va)

    monkeypatch.setattr(Moments, "of", classmethod(watched))
    fit_text(bank, PEOPLE, REGIONS)
    n_rows = int((bank.va_valid & bank["visual"].valid).sum())
    assert seen[-2:] == [n_rows] * 2  # of what was chosen
    folds = np.array(seen[:-2])
    assert len(folds) == len(SCALES) * len(WINDOWS_S) * 4 * 2  # four people, found and wanted
    assert folds.max() < 0.8 * n_rows  # three people of four


def test_rows_without_labels_decide_nothing(bank):
    other = torch.where(bank.va_valid.unsqueeze(-1), bank.va, 1.0)
    assert fit_text(replace(bank, va=other), PEOPLE, REGIONS) == fit_text(bank, PEOPLE, REGIONS)


def test_a_trailing_mean_is_chosen_among_trailing_means(bank):
    raw = barycentres(region_cosines(bank, REGIONS), REGIONS, (20.0, 20.0))
    late = np.nan_to_num(
        smooth_seen(raw, bank["visual"].valid.numpy(), bank, (0.6, 0.6), trailing=True)
    )
    labelled = replace(bank, va=torch.from_numpy(late))
    assert fit_text(labelled, PEOPLE, REGIONS, trailing=True).width_s == (0.6, 0.6)


def test_prompts_are_fixed_and_the_modality_is_given():
    with pytest.raises(ValidationError, match="fixed"):
        TextConfig.model_validate({"prompts": {"kind": "coop"}})
    with pytest.raises(ValidationError, match="Extra inputs"):
        TextConfig.model_validate({"streams": ["audio"]})
