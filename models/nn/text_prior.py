"""V and A as the texts of the regions say, which a head starts from."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from models.nn.linear_skip import moving_means
from models.regions.grid import Grid
from models.regions.soft_labels import region_centres
from models.regions.zero_shot import ZeroShotSettings, barycentre, cosines

N_ANCHORS = 64
VARIANCE_FLOOR = 1e-12  # of the anchors' barycentres, if all prototypes are equal


@dataclass(frozen=True, slots=True)
class PriorStart:
    """What a prior starts from; the defaults are for weights that are loaded afterwards."""

    settings: ZeroShotSettings = field(default_factory=ZeroShotSettings)
    """Found on the training rows; the widths are not read."""
    n_rows: tuple[int, int] = (1, 1)
    """Rows of the moving means of V and of A."""
    anchors: Float[Tensor, "K D"] | None = None
    """Embeddings of `N_ANCHORS` training rows."""


class TextPrior(nn.Module):
    """The barycentre of the regions by similarity to their prototypes, smoothed and matched.

    At the start it is the zero-shot prediction (models/regions/zero_shot.py). Scale and width stay;
    factor and shift are trained, and the prototypes if they are learned. The mean is over the rows
    with a face around a row of a dense window, and over the last rows of a causal one, which has
    one prediction. Without such a row the prior is the shift.

    A barycentre varies little, so it is multiplied by up to a hundred, and a small step of learned
    prototypes would move V and A by more than their range. It is therefore measured by mean and
    deviation of the barycentres of some training rows, the anchors, under the same prototypes
    (`test_train_head.py::test_a_prior_is_trained_with_its_words_and_saved`).

    Shapes: embedding (B, T, D), valid (B, T), prototypes (R, D) -> (B, P, 2).
    """

    centres: Float[Tensor, "R 2"]
    scale: Float[Tensor, "2"]
    n_rows: Int64[Tensor, "2"]
    anchors: Float[Tensor, "K D"]
    found_mean: Float[Tensor, "2"]

    def __init__(
        self, grid: Grid, start: PriorStart, prototypes: Float[Tensor, "R D"], *, is_causal: bool
    ) -> None:
        super().__init__()
        settings, prototypes = start.settings, prototypes.detach().cpu()
        anchors = torch.zeros(N_ANCHORS, prototypes.shape[1])
        self.is_causal = is_causal
        self.register_buffer("centres", region_centres(grid), persistent=False)
        self.register_buffer("scale", torch.tensor(settings.scale))
        self.register_buffer("n_rows", torch.tensor(start.n_rows))
        self.register_buffer("anchors", anchors if start.anchors is None else start.anchors)
        mean, std = self._anchor_moments(prototypes)
        self.register_buffer("found_mean", (torch.tensor(settings.found.mean) - mean) / std)
        self.factor = nn.Parameter(torch.tensor(settings.factor) * std)
        self.shift = nn.Parameter(torch.tensor(settings.wanted.mean))
        self._spans = start.n_rows  # as numbers: to read a tensor on a GPU is to wait for it
        self.register_load_state_dict_post_hook(_read_spans)

    def forward(
        self,
        embedding: Float[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"],
        prototypes: Float[Tensor, "R D"],
    ) -> Float[Tensor, "B P 2"]:
        """Valence and arousal from embeddings as the encoder returned them, not standardised."""
        with torch.autocast(embedding.device.type, enabled=False):
            prototypes = prototypes.float()
            mean, std = self._anchor_moments(prototypes)
            va = (self._barycentre(embedding.float(), prototypes) - mean) / std - self.found_mean
            mask = valid.unsqueeze(-1)  # (B, T, 1)
            va = va.masked_fill(~mask, 0)
            means = [
                self._mean(va[..., k : k + 1], mask, span) for k, span in enumerate(self._spans)
            ]
            return self.shift + self.factor * torch.cat(means, dim=-1)

    def _barycentre(
        self, embedding: Float[Tensor, "*N D"], prototypes: Float[Tensor, "R D"]
    ) -> Float[Tensor, "*N 2"]:
        return barycentre(cosines(embedding, prototypes), self.centres, self.scale)

    def _anchor_moments(
        self, prototypes: Float[Tensor, "R D"]
    ) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
        va = self._barycentre(self.anchors, prototypes)
        variance = va.var(dim=0, correction=0)
        return va.mean(dim=0), variance.clamp(min=VARIANCE_FLOOR).sqrt()

    def _mean(
        self, va: Float[Tensor, "B T 1"], mask: Bool[Tensor, "B T 1"], span: int
    ) -> Float[Tensor, "B P 1"]:
        """The mean of the valid rows within a span; 0 if there is none."""
        if not self.is_causal:
            return moving_means(va, mask, (span,))[0]
        n = mask[:, -span:].to(va.dtype).sum(dim=1, keepdim=True).clamp(min=1)
        return va[:, -span:].sum(dim=1, keepdim=True) / n


def _read_spans(prior: TextPrior, _: object) -> None:
    valence, arousal = prior.n_rows.tolist()
    prior._spans = valence, arousal
