from itertools import product

import open_clip
import pytest
import torch
from pydantic import TypeAdapter

from models.regions.controls import derangement
from models.regions.grid import NINE, Grid
from models.regions.prompts import AnyPrompts, CoopCscPrompts, CoopPrompts, FixedPrompts
from models.regions.prototypes import FixedPrototypes
from models.regions.text_tower import TextTower
from models.regions.texts_file import read_texts
from models.regions.whole_tower import open_tower
from tests.helpers.synthetic import WIDTH_VISUAL, tiny_model

KINDS = (FixedPrompts, CoopPrompts, CoopCscPrompts)
ORDER = (1, 4, 8, 7, 0, 3, 5, 6, 2)
"""The permutation of the nine regions: results with this control are compared across machines."""


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return open_tower(tiny_model(), open_clip.SimpleTokenizer())


def build(kind, tower, **fields) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return kind(**fields).build(tower, read_texts("nine_regions"))()


def test_the_derangement_keeps_no_region_and_no_order():
    assert derangement(NINE) == ORDER
    assert all(k != region for k, region in enumerate(ORDER))
    valence, arousal = [k // 3 - 1 for k in range(9)], [k % 3 - 1 for k in range(9)]
    for one, other in product((valence, arousal), repeat=2):
        assert sum(one[k] * other[region] for k, region in enumerate(ORDER)) == 0


def test_a_grid_of_another_size_is_deranged_too():
    for n in (2, 4):
        grid = Grid(levels=tuple("abcd"[:n]), centres=(-0.6, -0.2, 0.2, 0.6)[:n])
        order = derangement(grid)
        assert sorted(order) == list(range(n * n))
        assert all(k != region for k, region in enumerate(order))


@pytest.mark.parametrize("kind", [FixedPrompts, CoopPrompts], ids=lambda kind: kind.__name__)
def test_permuted_prompts_have_the_prototypes_of_other_regions(tower, kind):
    torch.testing.assert_close(
        build(kind, tower, control="permuted"), build(kind, tower)[list(ORDER)]
    )


def test_permuted_descriptions_keep_the_context_of_their_new_region(tower):
    found, before = (build(CoopCscPrompts, tower, control=each) for each in ("permuted", "none"))
    assert not torch.allclose(found, before[list(ORDER)])  # a context per region stays in its place
    assert not torch.allclose(found, before)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_random_prototypes_are_fixed_unit_vectors_that_have_read_no_text(tower, kind):
    prompts = kind(control="random").build(tower, read_texts("nine_regions"))
    assert isinstance(prompts, FixedPrototypes)
    found = prompts()
    assert found.shape == (9, WIDTH_VISUAL)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(9))
    torch.rand(3)
    again = kind(control="random").build(tower, read_texts("nine_regions"))()
    assert torch.equal(found, again)
    assert (found @ build(FixedPrompts, tower).T).abs().max() < 0.9


def test_prompts_without_the_key_have_no_control():
    prompts = TypeAdapter(AnyPrompts).validate_python({"kind": "coop", "n_context": 4})
    assert prompts.control == "none"
