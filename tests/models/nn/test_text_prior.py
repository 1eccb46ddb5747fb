import numpy as np
import pytest
import torch

from models.nn.text_prior import N_ANCHORS, PriorStart, TextPrior
from models.regions.grid import NINE
from models.regions.soft_labels import region_centres
from models.regions.zero_shot import Moments, ZeroShotSettings

SETTINGS = ZeroShotSettings(
    scale=(10.0, 20.0),
    found=Moments((0.1, -0.1), (0.1, 0.2)),
    wanted=Moments((0.2, 0.3), (0.4, 0.1)),
)
ANCHORS = torch.randn(N_ANCHORS, 9, generator=torch.Generator().manual_seed(1))
START = PriorStart(SETTINGS, (3, 1), ANCHORS)
EYE = torch.eye(9)


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Two windows of eight rows, three of which have no face, and one without any."""
    torch.manual_seed(0)
    valid = torch.ones(2, 8, dtype=torch.bool)
    valid[0, 3:6] = False
    valid[1] = False
    return torch.randn(2, 8, 9) * valid.unsqueeze(-1), valid


def by_hand(embedding: np.ndarray, rows: list[int], k: int) -> float:
    """The matched mean barycentre of some rows on axis k."""
    centre = region_centres(NINE).numpy()[:, k]
    found = []
    for row in rows:
        cosine = embedding[row] / np.linalg.norm(embedding[row])
        weight = np.exp(SETTINGS.scale[k] * cosine)
        found.append(weight @ centre / weight.sum())
    factor = SETTINGS.wanted.std[k] / SETTINGS.found.std[k]
    return SETTINGS.wanted.mean[k] + factor * (np.mean(found) - SETTINGS.found.mean[k])


def test_the_prior_of_a_dense_window_by_hand(rows):
    embedding, valid = rows
    found = TextPrior(NINE, START, EYE, is_causal=False)(embedding, valid, EYE).detach()
    near = {0: [0, 1], 1: [0, 1, 2], 2: [1, 2], 3: [2], 5: [6], 7: [6, 7]}  # of valid rows
    for row, others in near.items():
        assert found[0, row, 0].item() == pytest.approx(
            by_hand(embedding[0].numpy(), others, 0), abs=1e-5
        )
    for row in (0, 1, 2, 6, 7):
        assert found[0, row, 1].item() == pytest.approx(
            by_hand(embedding[0].numpy(), [row], 1), abs=1e-5
        )
    assert found[0, 4].tolist() == pytest.approx([0.2, 0.3])  # no face within reach
    torch.testing.assert_close(found[1], torch.tensor([[0.2, 0.3]]).expand(8, 2))


def test_the_prior_of_a_causal_window_is_of_its_last_rows(rows):
    embedding, valid = rows
    start = PriorStart(SETTINGS, (5, 1), ANCHORS)
    found = TextPrior(NINE, start, EYE, is_causal=True)(embedding, valid, EYE).detach()
    assert found.shape == (2, 1, 2)
    assert found[0, 0, 0].item() == pytest.approx(
        by_hand(embedding[0].numpy(), [6, 7], 0), abs=1e-5
    )
    assert found[0, 0, 1].item() == pytest.approx(by_hand(embedding[0].numpy(), [7], 1), abs=1e-5)
    assert found[1, 0].tolist() == pytest.approx([0.2, 0.3])


@pytest.mark.parametrize("is_causal", [False, True])
def test_weights_bring_scale_and_width_along(rows, is_causal):
    embedding, valid = rows
    fitted = TextPrior(NINE, START, EYE, is_causal=is_causal)
    loaded = TextPrior(NINE, PriorStart(), EYE, is_causal=is_causal)
    buffers = {"scale", "n_rows", "anchors", "found_mean"}
    assert set(fitted.state_dict()) == {"factor", "shift", *buffers}
    loaded.load_state_dict(fitted.state_dict())
    both = [prior(embedding, valid, EYE) for prior in (fitted, loaded)]
    assert torch.equal(*both)


def test_factor_shift_and_prototypes_are_trained_and_nothing_else(rows):
    embedding, valid = rows
    prior, prototypes = (
        TextPrior(NINE, START, EYE, is_causal=False),
        torch.eye(9, requires_grad=True),
    )
    assert {name for name, _ in prior.named_parameters()} == {"factor", "shift"}
    prior(embedding, valid, prototypes).square().sum().backward()
    for each in (prototypes, prior.factor, prior.shift):
        assert each.grad.any()


def test_in_lower_precision_the_prior_keeps_its_digits(rows):
    embedding, valid = rows
    prior = TextPrior(NINE, START, EYE, is_causal=False)
    whole = prior(embedding, valid, EYE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prior(embedding, valid, EYE), whole)


def test_prototypes_that_move_all_barycentres_alike_leave_the_prior_s_range():
    # prototypes that are nearer to each other make every barycentre narrower and move it
    embedding, valid = ANCHORS.unsqueeze(0), torch.ones(1, N_ANCHORS, dtype=torch.bool)
    prior = TextPrior(NINE, PriorStart(SETTINGS, (1, 1), ANCHORS), EYE, is_causal=False)
    close = torch.nn.functional.normalize(0.1 * EYE + torch.arange(9) / 9, dim=-1)
    before, after = prior(embedding, valid, EYE), prior(embedding, valid, close)
    torch.testing.assert_close(after.mean(dim=1), before.mean(dim=1))
    torch.testing.assert_close(after.std(dim=1), before.std(dim=1), rtol=1e-3, atol=1e-5)
