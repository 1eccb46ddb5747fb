"""The words nearest to each learned context vector, and the file of a run that holds them."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from torch import nn

from features.config import Config
from features.errors import InputError
from models.regions.grid import Grid
from models.regions.prototypes import CoopPrototypes

N_WORDS = 5  # per learned vector


class Word(Config):
    """A word of the vocabulary near a context vector."""

    word: str
    distance: Annotated[float, Field(ge=0)]
    """Euclidean distance between the vector and the embedding of the word."""


class Context(Config):
    """The learned vectors before the descriptions of a region."""

    region: str
    """The region; `all` if the context is shared."""
    nearest: tuple[tuple[Word, ...], ...]
    """The words of each vector, nearest first."""


class PromptWords(Config):
    """All contexts of a head."""

    contexts: tuple[Context, ...]


def prompt_words(head: nn.Module, grid: Grid) -> PromptWords | None:
    """The words nearest to the head's context; None if it has no learned prompts."""
    prompts = getattr(head, "prompts", None)
    if not isinstance(prompts, CoopPrototypes):
        return None
    found = prompts.nearest_words(N_WORDS)
    regions = [f"{v} valence, {a} arousal" for v in grid.levels for a in grid.levels]
    names = regions if len(found) == len(regions) else ["all"]
    contexts = [
        {
            "region": name,
            "nearest": [
                [{"word": word, "distance": round(distance, 6)} for word, distance in place]
                for place in context
            ],
        }
        for name, context in zip(names, found, strict=True)
    ]
    return PromptWords.model_validate({"contexts": contexts})


def read_prompt_words(path: Path) -> PromptWords | None:
    """The words in a file; None if there is no file."""
    try:
        return PromptWords.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"{path} is damaged ({why}); delete it, or train again") from None
