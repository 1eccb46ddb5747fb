"""What an epoch adds up while it trains, on its device, so that no step waits for a value."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from models.data.batch import Targets
from models.metrics.ccc import Concordance

N_OTHERS = 5  # three parts of the loss, that of unlabelled clips, the norm


@dataclass(frozen=True, slots=True)
class EpochMeans:
    """Numbers of an epoch; the fields are those of `EpochResult` with these names."""

    loss: float
    loss_valence: float
    loss_arousal: float
    loss_regions: float
    loss_unlabelled: float
    gradient_norm: float
    gradient_norm_max: float
    ccc_train_valence: float | None
    """None if no row was valid."""
    ccc_train_arousal: float | None


@dataclass(slots=True)
class EpochSums:
    """Sums over the steps of an epoch."""

    loss: Float[Tensor, ""]
    others: Float64[Tensor, "5"]
    """Of the parts of the loss, of the loss of unlabelled clips, and of the gradient's norm."""
    largest_norm: Float[Tensor, ""]
    moments: Float64[Tensor, "6 2"]
    """Of valence and arousal: see `moments_of`."""

    @classmethod
    def zero(cls, device: torch.device) -> "EpochSums":
        """Return the sums of no step."""
        return cls(
            torch.zeros((), device=device),
            torch.zeros(N_OTHERS, dtype=torch.float64, device=device),
            torch.zeros((), device=device),
            torch.zeros((6, 2), dtype=torch.float64, device=device),
        )

    def add(
        self,
        loss: Float[Tensor, ""],
        parts: Float[Tensor, "3"],
        unlabelled: Float[Tensor, ""] | None,
        norm: Float[Tensor, ""],
        predicted: Float[Tensor, "B P 2"],
        targets: Targets,
    ) -> None:
        """Add a step: its loss, the parts of labelled windows, and the weighted loss of others."""
        extra = torch.zeros_like(norm) if unlabelled is None else unlabelled.detach()
        self.loss += loss.detach()
        self.others += torch.cat([parts, torch.stack([extra, norm])])
        self.largest_norm = torch.maximum(self.largest_norm, norm)
        self.moments += moments_of(predicted.detach(), targets)

    def means(self, n_steps: int) -> "EpochMeans":
        """Return the means over the steps of an epoch."""
        loss = self.loss.item() / n_steps
        valence, arousal, regions, unlabelled, norm = (self.others / n_steps).tolist()
        largest = self.largest_norm.item()
        ccc = (_ccc(column) for column in self.moments.T.tolist())
        return EpochMeans(loss, valence, arousal, regions, unlabelled, norm, largest, *ccc)

    def state(self) -> dict[str, Tensor]:
        """Return the sums to go on from."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def restored(cls, state: Mapping[str, Tensor], device: torch.device) -> "EpochSums":
        """Return the sums of a state."""
        return cls(**{name: each.to(device) for name, each in state.items()})


def moments_of(predicted: Float[Tensor, "B P 2"], targets: Targets) -> Float64[Tensor, "6 2"]:
    """Return sums over the valid rows: of 1, truth, prediction, their squares, their product.

    Plain sums will do in float64, as both are of the order of 1.
    """
    weight = targets.valid.unsqueeze(-1).double().expand_as(predicted)
    truth, guess = targets.va.double() * weight, predicted.double() * weight
    terms = [weight, truth, guess, truth.square(), guess.square(), truth * guess]
    return torch.stack([each.sum(dim=(0, 1)) for each in terms])


def _ccc(moments: list[float]) -> float | None:
    n, truth, predicted, squares_truth, squares_predicted, products = moments
    if not n:
        return None
    return Concordance(
        n=round(n),
        mean_truth=truth / n,
        mean_predicted=predicted / n,
        squares_truth=squares_truth - truth**2 / n,
        squares_predicted=squares_predicted - predicted**2 / n,
        products=products - truth * predicted / n,
    ).ccc()
