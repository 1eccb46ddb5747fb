"""Region prototypes: one unit text feature per region, fixed or with learned context vectors."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.regions.text_tower import TextTower
from models.regions.texts import RegionTexts
from models.regions.token_layout import lay_out


class FixedPrototypes(nn.Module):
    """Prototypes that are not trained."""

    prototypes: Float[Tensor, "R D"]

    def __init__(self, prototypes: Float[Tensor, "R D"]) -> None:
        super().__init__()
        self.register_buffer("prototypes", prototypes)

    def forward(self) -> Float[Tensor, "R D"]:
        """Unit features of the regions."""
        return self.prototypes


class CoopPrototypes(nn.Module):
    """Prototypes of prompts with learned context vectors (CoOp, Zhou et al., 2022, sec. 3.1).

    A prompt reads `<start> context description <end>`. The context is shared by all regions, or
    each region has its own. Only the context is a parameter: the text tower is frozen, and is
    neither saved nor moved with this module.
    """

    membership: Float[Tensor, "R N"]

    def __init__(
        self,
        tower: TextTower,
        texts: RegionTexts,
        n_context: int,
        init_std: float,
        sharing: Literal["shared", "per region"],
    ) -> None:
        super().__init__()
        descriptions = [text for region in texts.by_region for text in region]
        weights = membership([len(region) for region in texts.by_region])
        weights = weights.to(tower.embedding.weight)
        self.register_buffer("membership", weights, persistent=False)
        region_of_text = weights.argmax(dim=0)  # (N,)
        context_of_text = region_of_text * 0 if sharing == "shared" else region_of_text
        n_contexts = 1 if sharing == "shared" else len(texts.by_region)
        self.features = lay_out(tower, descriptions, context_of_text, n_context)
        self.context = nn.Parameter(torch.empty(n_contexts, n_context, tower.width))
        nn.init.normal_(self.context, std=init_std)
        self._tower = tower

    def forward(self) -> Float[Tensor, "R D"]:
        """Unit features of the regions under the current context; runs the text tower once."""
        return mean_by_region(self.features(self.context), self.membership)

    def nearest_words(self, n: int) -> tuple[tuple[tuple[tuple[str, float], ...], ...], ...]:
        """The n nearest words of each vector of each context, with their Euclidean distance."""
        return tuple(self._tower.nearest_words(context.detach(), n) for context in self.context)


Prototypes = FixedPrototypes | CoopPrototypes


def prototypes_of_templates(tower: TextTower, texts: RegionTexts) -> FixedPrototypes:
    """Fixed prototypes of every description in every template; runs the text tower once."""
    by_region = [
        [template.format(text) for text in region for template in texts.templates]
        for region in texts.by_region
    ]
    features = tower.encode_texts([text for region in by_region for text in region])
    weights = membership([len(region) for region in by_region]).to(features)
    return FixedPrototypes(mean_by_region(features, weights))


def membership(n_texts: list[int]) -> Float[Tensor, "R N"]:
    """Weights that average texts listed region by region; region r has `n_texts[r]` of them."""
    return torch.block_diag(*(torch.full((1, n), 1 / n) for n in n_texts))


def mean_by_region(
    features: Float[Tensor, "N D"], weights: Float[Tensor, "R N"]
) -> Float[Tensor, "R D"]:
    """Mean of the unit features of each region's texts, scaled to unit length."""
    return F.normalize(weights @ F.normalize(features, dim=-1), dim=-1)
