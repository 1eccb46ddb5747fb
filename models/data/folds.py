"""Folds of clips by subject."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from features.clip import Clip
from features.errors import InputError
from features.manifest.manifest import Manifest
from models.data.splits import clips_of_split, subject_by_clip

Folds = Annotated[int, Field(ge=2, le=20)]
Over = Literal["train", "train+val"]
"""The splits whose clips are divided into folds."""


def clips_over(manifest: Manifest, over: Over) -> tuple[Clip, ...]:
    """Return the splits' clips in manifest order; raises `InputError` if a split is empty."""
    ids = {clip.id for split in over.split("+") for clip in clips_of_split(manifest, split)}
    return tuple(clip for clip in manifest.clips if clip.id in ids)


def deal_folds(clips: Sequence[Clip], folds: int) -> dict[str, tuple[Clip, ...]]:
    """Return the clips of each fold by name: a subject is in one fold, and sizes are about equal.

    The order of `clips` affects only the order within a fold. Raises `InputError` if there are
    fewer subjects than folds.
    """
    subjects = list(subject_by_clip(clips).values())
    if (n := len(set(subjects))) < folds:
        raise InputError(
            f"folds = {folds}: the clips show {n} subject{'' if n == 1 else 's'}, and a fold needs "
            "one of its own; give fewer folds, or clips of more people"
        )
    from sklearn.model_selection import GroupKFold  # takes half a second

    split = GroupKFold(folds).split(clips, groups=subjects)
    return {
        f"fold-{k}": tuple(clips[index] for index in sorted(held_out))
        for k, (_, held_out) in enumerate(split, 1)
    }
