"""What learned prompts came to say: the words nearest to each learned vector, in a run's file."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from features.errors import InputError
from features.system.files import write_atomic
from models.regions.grid import Grid
from models.regions.prototypes import CoopPrototypes

FILE = "prompts.json"
N_WORDS = 5  # per learned vector


class Word(BaseModel):
    """A word of the vocabulary near a learned vector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    word: str
    distance: Annotated[float, Field(ge=0)]
    """Euclidean, between the vector and the word's embedding."""


class Context(BaseModel):
    """The learned vectors that stand before a region's descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    """Which region's; `all` where they are shared."""
    nearest: tuple[tuple[Word, ...], ...]
    """Of each vector in its place, the nearest first."""


class PromptWords(BaseModel):
    """All contexts of a head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contexts: tuple[Context, ...]


def prompt_words(head: nn.Module, grid: Grid) -> PromptWords | None:
    """What the head's prompts came to say; None where it has none that are learned."""
    bank = getattr(head, "prompts", None)
    if not isinstance(bank, CoopPrototypes):
        return None
    found = bank.nearest_words(N_WORDS)
    regions = [f"{v} valence, {a} arousal" for v in grid.levels for a in grid.levels]
    names = regions if len(found) == len(regions) else ["all"]
    return PromptWords(
        contexts=tuple(
            Context(
                region=name,
                nearest=tuple(
                    tuple(Word(word=word, distance=round(distance, 6)) for word, distance in place)
                    for place in context
                ),
            )
            for name, context in zip(names, found, strict=True)
        )
    )


def write_prompt_words(run: Path, words: PromptWords) -> None:
    """Put them into the run's folder."""
    text = json.dumps(words.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_atomic(run / FILE, f"{text}\n".encode())


def read_prompt_words(run: Path) -> PromptWords | None:
    """Those of a run; None where it has none."""
    path = run / FILE
    try:
        return PromptWords.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"{path} is damaged ({why}); delete it, or train again") from None
