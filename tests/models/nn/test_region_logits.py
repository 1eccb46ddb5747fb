import numpy as np
import pytest
import torch

from models.nn.region_logits import RegionLogits, RegionToVa
from models.regions.grid import NINE, Grid
from models.regions.soft_labels import soft_labels


def test_logits_of_a_stream_equal_numpy_on_its_own_weights():
    torch.manual_seed(0)
    branch = RegionLogits(6, 4, fixed_scale=None)
    stream, prototypes = torch.randn(2, 3, 6), torch.nn.functional.normalize(torch.randn(9, 4))
    p = {name: value.detach().numpy() for name, value in branch.named_parameters()}
    joint = stream.numpy() @ p["to_joint.weight"].T + p["to_joint.bias"]
    joint = joint / np.linalg.norm(joint, axis=-1, keepdims=True)
    expected = joint @ prototypes.numpy().T / 0.07
    np.testing.assert_allclose(branch(stream, prototypes).detach(), expected, atol=1e-4)


def test_an_embedding_of_the_joint_space_is_not_projected():
    branch = RegionLogits(4, 4, fixed_scale=10.0)
    assert list(branch.parameters()) == []
    unit = torch.eye(4)[None]
    torch.testing.assert_close(branch(3 * unit, unit[0]), 10 * unit)


def test_the_learned_scale_is_clamped():
    branch = RegionLogits(4, 4, fixed_scale=None)
    with torch.no_grad():
        branch.log_scale.fill_(20.0)
    assert branch.scale().item() == pytest.approx(100)


def test_the_barycentre_by_hand():
    link = RegionToVa(NINE)
    with torch.no_grad():
        link.factor.copy_(torch.tensor([2.0, 1.0]))
        link.shift.copy_(torch.tensor([0.1, -0.1]))
    shares = torch.zeros(1, 2, 9)
    shares[0, 0, 8], shares[0, 0, 6] = 0.25, 0.75  # high valence; high and low arousal
    told = link(shares, torch.tensor([[True, False]]))
    # .66 in valence; .25 * .66 - .75 * .66 = -.33 in arousal
    expected = torch.tensor([[[2 * 0.66 + 0.1, -0.33 - 0.1], [0.0, 0.0]]])
    torch.testing.assert_close(told, expected)


def test_a_barycentre_of_soft_labels_shrinks():
    # of (.66, .66) at sigma .45 it is .48, which is what the factors are for
    label = soft_labels(torch.tensor([[[0.66, 0.66]]]), 0.45)
    told = RegionToVa(NINE)(label, torch.tensor([[True]]))
    assert told[0, 0, 0].item() == pytest.approx(0.48, abs=5e-3)


def test_the_link_follows_the_grid():
    link = RegionToVa(Grid(levels=("low", "high"), centres=(-0.5, 0.5)))
    assert link.centres.tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
    assert set(link.state_dict()) == {"factor", "shift"}
