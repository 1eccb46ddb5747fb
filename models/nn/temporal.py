"""The temporal branch that a config names."""

from typing import assert_never

from torch import nn

from models.nn.bigru import BiGru
from models.nn.kinds import Positions, Temporal
from models.nn.tcn import Tcn
from models.nn.transformer import TemporalTransformer

N_LAYERS = 2  # of the temporal transformer
N_ROWS_MAX = 1024  # rows that the temporal transformer has learned positions for


def temporal_branch(
    kind: Temporal, n_inputs: int, width: int, *, n_heads: int, dropout: float, positions: Positions
) -> nn.Module:
    """A branch (B, T, n_inputs), valid (B, T) -> (B, T, width).

    The heads, dropout and positions are those of the transformer; a TCN has the dropout of its
    source (Jung et al., 2026).
    """
    match kind:
        case "gru":
            return BiGru(n_inputs, width)
        case "tcn":
            return Tcn(n_inputs, width)
        case "tcn_released":
            return Tcn(n_inputs, width, as_released=True)
        case "transformer":
            return TemporalTransformer(
                n_inputs, width, n_heads, N_LAYERS, dropout, positions, N_ROWS_MAX
            )
        case _:
            assert_never(kind)
