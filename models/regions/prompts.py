"""Configs of the prompts that describe the regions. Imports no torch, so that configs load fast."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from models.regions.prototypes import CoopPrototypes, FixedPrototypes, Prototypes
    from models.regions.text_tower import TextTower
    from models.regions.texts import RegionTexts


class PromptsConfig(BaseModel, ABC):
    """What every kind of prompts has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    texts: str = "nine_regions"
    """A name in configs/prompts, or the path of a YAML file."""
    control: Literal["none", "permuted", "random"] = "none"
    """Texts of other regions, or random directions: a gain that is left is not the words'."""

    def build(self, tower: "TextTower", texts: "RegionTexts") -> "Prototypes":
        """The prototypes of the texts, with the context drawn from torch's generator.

        With the control `random` they are fixed, and nothing is learned.
        """
        from models.regions.controls import permute_texts, random_prototypes

        match self.control:
            case "none":
                return self.encode(tower, texts)
            case "permuted":
                return self.encode(tower, permute_texts(texts))
            case "random":
                return random_prototypes(tower, texts)
            case _:
                assert_never(self.control)

    @abstractmethod
    def encode(self, tower: "TextTower", texts: "RegionTexts") -> "Prototypes":
        """The prototypes of these texts."""


class FixedPrompts(PromptsConfig):
    """Every description in every template, encoded once."""

    kind: Literal["fixed"] = "fixed"

    def encode(self, tower: "TextTower", texts: "RegionTexts") -> "FixedPrototypes":
        """The prototypes; runs the text tower once."""
        from models.regions.prototypes import prototypes_of_templates

        return prototypes_of_templates(tower, texts)


class LearnedPrompts(PromptsConfig, ABC):
    """Settings of a learned context."""

    sharing: ClassVar[Literal["shared", "per region"]]

    n_context: Literal[4, 8, 16] = 8
    """Number of learned vectors before each description."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of their initial values (Zhou et al., 2022, sec. 3.1)."""

    def encode(self, tower: "TextTower", texts: "RegionTexts") -> "CoopPrototypes":
        """The prototypes, with the contexts drawn from torch's generator."""
        from models.regions.prototypes import CoopPrototypes

        return CoopPrototypes(tower, texts, self.n_context, self.init_std, self.sharing)


class CoopPrompts(LearnedPrompts):
    """One context, shared by all regions (CoOp, Zhou et al., 2022)."""

    kind: Literal["coop"] = "coop"
    sharing = "shared"


class CoopCscPrompts(LearnedPrompts):
    """A context per region (class-specific context, Zhou et al., 2022)."""

    kind: Literal["coop_csc"] = "coop_csc"
    sharing = "per region"


AnyPrompts = Annotated[FixedPrompts | CoopPrompts | CoopCscPrompts, Field(discriminator="kind")]
