"""A name that no branch handles fails, and does not build another layer in its place."""

import pytest
from jaxtyping import TypeCheckError
from pydantic import ValidationError

from models.heads.dspl import DsplConfig
from models.nn.fusion import StreamFusion
from models.nn.temporal import temporal_branch
from models.nn.transformer import TemporalTransformer

REFUSED = (AssertionError, TypeCheckError)  # `assert_never`, or before it the types of the tests


def test_an_unknown_temporal_model_is_no_transformer():
    with pytest.raises(REFUSED):
        temporal_branch("lstm", 4, 8, n_heads=2, dropout=0, positions="rotary")


def test_an_unknown_fusion_is_refused():
    options = {"query": 0, "gate_partner": "others", "n_heads": 2, "dropout": 0}
    with pytest.raises(REFUSED):
        StreamFusion("sum", 2, 8, **options)


def test_unknown_positions_are_refused():
    with pytest.raises(REFUSED):
        TemporalTransformer(4, 8, 2, 1, 0, "sinusoidal", 16)


@pytest.mark.parametrize("key", ["inputs", "adapter", "temporal", "gate_partner", "positions"])
def test_a_config_with_an_unknown_name_is_refused(key):
    with pytest.raises(ValidationError, match="Input should be"):
        DsplConfig(**{key: "other"})


@pytest.mark.parametrize(
    "changes",
    [{"inputs": "other"}, {"adapter": "other"}, {"temporal": "lstm"}],
    ids=str,
)
def test_a_head_with_a_name_that_no_branch_handles_is_not_built(inputs, changes):
    config = DsplConfig(width=8).model_copy(update=changes)
    with pytest.raises(REFUSED):
        config.build(inputs)
