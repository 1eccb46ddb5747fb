"""Prompt banks: one unit text feature per region, fixed or with learned context words."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.regions.text_tower import TextTower
from models.regions.texts import RegionTexts
from models.regions.token_layout import EachAlone, OneSequence


class FixedPrototypes(nn.Module):
    """Region prototypes that stay as they are."""

    prototypes: Float[Tensor, "R D"]

    def __init__(self, prototypes: Float[Tensor, "R D"]) -> None:
        super().__init__()
        self.register_buffer("prototypes", prototypes)

    def forward(self) -> Float[Tensor, "R D"]:
        """Unit features of the regions."""
        return self.prototypes


class CoopPrototypes(nn.Module):
    """Region prototypes behind learned context vectors (CoOp, Zhou et al., 2022).

    A prompt reads `<start> context description <end>`: the learned words stand where a
    template's would. The context is one for all regions, or one per region. Only it is saved and
    trained; the tower is frozen and not ours.
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
        tokens, ends = tower.tokenise([text for region in texts.by_region for text in region])
        length = tower.length_for(ends + n_context)
        if length > tower.n_tokens_max:
            raise ValueError(
                f"{n_context} context words and the longest description take {length} tokens, "
                f"the text tower has room for {tower.n_tokens_max}; lower n_context, or shorten "
                "the description"
            )
        with torch.no_grad():
            vectors = tower.look_up(tokens[:, : length - n_context])  # (N, L - n, W)
        members = membership([len(region) for region in texts.by_region]).to(vectors)
        self.register_buffer("membership", members, persistent=False)
        own = members.argmax(dim=0)  # (N,) the region of each text
        context_of = own * 0 if sharing == "shared" else own
        n_contexts = 1 if sharing == "shared" else len(texts.by_region)
        self.context = nn.Parameter(torch.empty(n_contexts, n_context, tower.width))
        nn.init.normal_(self.context, std=init_std)
        laid_out = OneSequence if tower.is_causal else EachAlone
        self.features = laid_out(tower, vectors, ends, context_of, n_context)
        self._tower = tower  # no module, so neither saved nor moved with us

    def forward(self) -> Float[Tensor, "R D"]:
        """Unit features of the regions under the current context; one run of the text tower."""
        return pooled(self.features(self.context), self.membership)

    def nearest_words(self, n: int) -> tuple[tuple[tuple[tuple[str, float], ...], ...], ...]:
        """For each context and each place in it the n nearest words, with their distance."""
        return tuple(self._tower.nearest_words(context.detach(), n) for context in self.context)


Prototypes = FixedPrototypes | CoopPrototypes


class FixedPrompts(BaseModel):
    """Settings of prototypes made once, of every description in every template."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["fixed"] = "fixed"
    texts: str = "nine_regions"
    """A name in configs/prompts, or the path of a YAML file."""

    def build(self, tower: TextTower, texts: RegionTexts) -> FixedPrototypes:
        """The bank; runs the text tower once."""
        sentences = [
            [template.format(text) for text in region for template in texts.templates]
            for region in texts.by_region
        ]
        features = tower.encode_texts([text for region in sentences for text in region])
        return FixedPrototypes(
            pooled(features, membership([len(r) for r in sentences]).to(features))
        )


class LearnedPrompts(BaseModel, ABC):
    """What both ways of learning a context are set by."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    n_context: Literal[4, 8, 16] = 8
    """Words before each text that are learned."""
    init_std: float = Field(default=0.02, gt=0)
    """Deviation of their first values (Zhou et al., 2022, sec. 3.1)."""
    texts: str = "nine_regions"
    """A name in configs/prompts, or the path of a YAML file."""

    @abstractmethod
    def build(self, tower: TextTower, texts: RegionTexts) -> CoopPrototypes:
        """The bank, its context drawn from torch's generator."""


class CoopPrompts(LearnedPrompts):
    """Settings of a `CoopPrototypes` with one context for all regions."""

    kind: Literal["coop"] = "coop"

    def build(self, tower: TextTower, texts: RegionTexts) -> CoopPrototypes:
        """The bank, its context drawn from torch's generator."""
        return CoopPrototypes(tower, texts, self.n_context, self.init_std, "shared")


class CoopCscPrompts(LearnedPrompts):
    """`CoopPrototypes` with a context per region (class-specific, Zhou et al., 2022)."""

    kind: Literal["coop_csc"] = "coop_csc"

    def build(self, tower: TextTower, texts: RegionTexts) -> CoopPrototypes:
        """The bank, its contexts drawn from torch's generator."""
        return CoopPrototypes(tower, texts, self.n_context, self.init_std, "per region")


AnyPrompts = Annotated[FixedPrompts | CoopPrompts | CoopCscPrompts, Field(discriminator="kind")]


def membership(n_texts: list[int]) -> Float[Tensor, "R N"]:
    """Row r averages the texts of region r, when they are counted off region by region."""
    return torch.block_diag(*(torch.full((1, n), 1 / n) for n in n_texts))


def pooled(features: Float[Tensor, "N D"], members: Float[Tensor, "R N"]) -> Float[Tensor, "R D"]:
    """Unit mean of the unit features of each region's texts."""
    return F.normalize(members @ F.normalize(features, dim=-1), dim=-1)
