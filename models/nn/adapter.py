"""Standardisation of an embedding, and a learned residual correction of it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

REDUCTION = 4  # the inner width is 1/4 of the embedding's (Gao et al., 2021, sec. 3.1)


class Standardise(nn.Module):
    """Scales to mean 0 and standard deviation 1 by statistics that are saved with the module."""

    mean: Float[Tensor, "D"]
    std: Float[Tensor, "D"]

    def __init__(self, mean: Float[Tensor, "D"], std: Float[Tensor, "D"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Standardised embeddings."""
        return (x - self.mean) / self.std

    def inverse(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Embeddings on the encoder's scale."""
        return self.mean + self.std * z


class ResidualAdapter(nn.Module):
    """z + W2 relu(W1 z), the identity at the start (after CLIP-Adapter, Gao et al., 2021).

    The input is standardised, as the numbers of a CLIP embedding are far from order 1.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.down = nn.Linear(n_inputs, max(1, n_inputs // REDUCTION))
        self.up = nn.Linear(self.down.out_features, n_inputs)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Adapted embeddings, still standardised."""
        return z + self.up(torch.relu(self.down(z)))
