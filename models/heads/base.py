"""The interface of every head: what it is built from, what it reads and what it returns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.data.batch import Batch
from models.data.statistics import Statistics
from models.nn.text_prior import PriorStart
from models.regions.grid import NINE, Grid
from models.regions.prompts import AnyPrompts
from models.regions.prototypes import Prototypes


@dataclass(frozen=True, slots=True)
class RegionOutput:
    """Region logits of the predicted rows."""

    logits: Float[Tensor, "B P R"]
    valid: Bool[Tensor, "B P"]
    """False if the logits were computed from no valid row."""


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """One prediction per row of a dense window (P = T), or one per causal window (P = 1)."""

    va: Float[Tensor, "B P 2"]
    """Valence and arousal, not clipped."""
    regions: RegionOutput | None
    """None if no prototypes were given or the head has no region branch."""

    def in_float32(self) -> "HeadOutput":
        """The output in float32, in which losses are computed whatever the precision of a head."""
        regions = self.regions and RegionOutput(self.regions.logits.float(), self.regions.valid)
        return HeadOutput(self.va.float(), regions)


@dataclass(frozen=True, slots=True)
class HeadInputs:
    """What a head is built from, besides its config."""

    streams: Mapping[str, Statistics]
    """Of each stream, in their order."""
    with_texts: tuple[str, ...]
    """The streams whose encoder has a text tower."""
    prompts: Callable[[AnyPrompts], Prototypes]
    """Builds the prototypes of a config."""
    grid: Grid = NINE
    """The regions that the prompts describe."""
    fit_prior: Callable[[Float[Tensor, "R D"]], PriorStart] = lambda _: PriorStart()
    """Finds what a text prior with these prototypes starts from, on the training rows."""


class Head(nn.Module, ABC):
    """Predicts valence and arousal of each row of a window, or of its last row."""

    reads_regions: bool = False
    """Whether V and A depend on the prototypes, so that `forward` needs them."""

    @abstractmethod
    def prototypes(self) -> Float[Tensor, "R D"] | None:
        """Unit text features of the regions, with gradient; None without a region branch.

        Separate from `forward`, so that a training step runs the text tower once
        (`test_loop.py::test_the_text_tower_runs_once_in_a_step`) and inference never does.
        """

    @abstractmethod
    def forward(self, batch: Batch, prototypes: Float[Tensor, "R D"] | None = None) -> HeadOutput:
        """Predictions, and region logits against the prototypes if these are given."""
