"""What a frozen embedding passes on its way into a head: known scale, and a learned correction."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.data.statistics import Statistics

BOTTLENECK = 4  # the adapter's inner width is 1/4 of the embedding's (Gao et al., 2021, sec. 3.1)


class Standardise(nn.Module):
    """To mean 0 and deviation 1 by the statistics of the training set, which are saved with it."""

    mean: Float[Tensor, "D"]
    std: Float[Tensor, "D"]

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self.register_buffer("mean", statistics.mean)
        self.register_buffer("std", statistics.std)

    def forward(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Standardised embeddings."""
        return (x - self.mean) / self.std

    def back(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Embeddings as the encoder gave them."""
        return self.mean + self.std * z


class ResidualAdapter(nn.Module):
    """z + W2 relu(W1 z), which is z at the start (after CLIP-Adapter, Gao et al., 2021).

    It works on standardised embeddings: their numbers are of order 1, a CLIP embedding's are not.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.down = nn.Linear(n_inputs, max(1, n_inputs // BOTTLENECK))
        self.up = nn.Linear(self.down.out_features, n_inputs)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Adapted embeddings, still standardised."""
        return z + self.up(torch.relu(self.down(z)))
