"""Prompt banks: one unit text feature per region, fixed or with learned context words."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models.regions import LEVELS
from models.text_tower import TextTower

Level = Literal["low", "mid", "high"]
Description = Annotated[str, Field(min_length=1)]
Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]


class RegionTexts(BaseModel):
    """What people in each region look like, in words, and the sentences those words stand in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: tuple[Template, ...] = Field(min_length=1)
    """Sentences with one `{}` for the description."""
    regions: dict[Level, dict[Level, Annotated[tuple[Description, ...], Field(min_length=1)]]]
    """Descriptions by level of valence, then of arousal."""

    @model_validator(mode="after")
    def _all_nine(self) -> "RegionTexts":
        for valence in LEVELS:
            for arousal in LEVELS:
                if arousal not in self.regions.get(valence, {}):
                    raise ValueError(
                        f"no description of {valence} valence with {arousal} arousal; "
                        "each of the nine regions needs one"
                    )
        return self

    @property
    def by_region(self) -> tuple[tuple[str, ...], ...]:
        """The descriptions of region k = 3v + a at place k."""
        return tuple(self.regions[v][a] for v in LEVELS for a in LEVELS)


class FixedBank(nn.Module):
    """Region prototypes that stay as they are."""

    prototypes: Float[Tensor, "R D"]

    def __init__(self, prototypes: Float[Tensor, "R D"]) -> None:
        super().__init__()
        self.register_buffer("prototypes", prototypes)

    def forward(self) -> Float[Tensor, "R D"]:
        """Unit features of the regions."""
        return self.prototypes


class CoopBank(nn.Module):
    """Region prototypes behind learned, shared context vectors (CoOp, Zhou et al., 2022).

    A prompt reads `<start> context description <end>`: the learned words stand where a
    template's would. Only the context is saved and trained; the tower is frozen and not ours.
    """

    prefix: Float[Tensor, "N 1 W"]
    suffix: Float[Tensor, "N S W"]
    ends: Int64[Tensor, "N"]
    membership: Float[Tensor, "R N"]

    def __init__(
        self, tower: TextTower, texts: RegionTexts, n_context: int, init_std: float
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
        self.register_buffer("prefix", vectors[:, :1], persistent=False)
        self.register_buffer("suffix", vectors[:, 1:], persistent=False)
        self.register_buffer("ends", ends + n_context, persistent=False)
        members = membership([len(region) for region in texts.by_region]).to(vectors)
        self.register_buffer("membership", members, persistent=False)
        self.context = nn.Parameter(torch.empty(n_context, tower.width))
        nn.init.normal_(self.context, std=init_std)
        self._encode = tower.encode  # a method, so neither saved nor moved with us

    def forward(self) -> Float[Tensor, "R D"]:
        """Unit features of the regions under the current context; one run of the text tower."""
        context = self.context.expand(len(self.prefix), -1, -1)  # (n, W) -> (N, n, W)
        vectors = torch.cat([self.prefix, context, self.suffix], dim=1)  # (N, L, W)
        return pooled(self._encode(vectors, self.ends), self.membership)


PromptBank = FixedBank | CoopBank


class FixedPrompts(BaseModel):
    """Settings of prototypes made once, of every description in every template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["fixed"] = "fixed"
    texts: str = "nine_regions"
    """A name in configs/prompts, or the path of a YAML file."""

    def build(self, tower: TextTower, texts: RegionTexts) -> FixedBank:
        """The bank; runs the text tower once."""
        sentences = [
            [template.format(text) for text in region for template in texts.templates]
            for region in texts.by_region
        ]
        features = tower.encode_texts([text for region in sentences for text in region])
        return FixedBank(pooled(features, membership([len(r) for r in sentences]).to(features)))


class CoopPrompts(BaseModel):
    """Settings of `CoopBank`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["coop"] = "coop"
    n_context: Literal[4, 8, 16] = 8
    init_std: float = Field(default=0.02, gt=0)  # Zhou et al., 2022, sec. 3.1
    texts: str = "nine_regions"
    """A name in configs/prompts, or the path of a YAML file."""

    def build(self, tower: TextTower, texts: RegionTexts) -> CoopBank:
        """The bank, its context drawn from torch's generator."""
        return CoopBank(tower, texts, self.n_context, self.init_std)


AnyPrompts = Annotated[FixedPrompts | CoopPrompts, Field(discriminator="kind")]


def membership(n_texts: list[int]) -> Float[Tensor, "R N"]:
    """Row r averages the texts of region r, when they are counted off region by region."""
    return torch.block_diag(*(torch.full((1, n), 1 / n) for n in n_texts))


def pooled(features: Float[Tensor, "N D"], members: Float[Tensor, "R N"]) -> Float[Tensor, "R D"]:
    """Unit mean of the unit features of each region's texts."""
    return F.normalize(members @ F.normalize(features, dim=-1), dim=-1)
