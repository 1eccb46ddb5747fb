"""A trial of a sweep as its journal has it."""

from dataclasses import dataclass

from features.canonical_json import JsonObject


@dataclass(frozen=True, slots=True)
class DrawnTrial:
    """The settings of a trial, and its result."""

    number: int
    params: JsonObject
    """The value of each key of the space."""
    is_pruned: bool = False
    score: float | None = None
    """If it has ended and was not pruned."""
    curve: tuple[float, ...] = ()
    """The score after each epoch of its first seed, if it has ended."""

    @property
    def has_ended(self) -> bool:
        """Whether it has a result, which is final."""
        return self.is_pruned or self.score is not None
