"""Folds of clips by the person they show, and the manifests that make each fold a val split."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from features.clip import Clip
from features.errors import InputError
from features.manifest.manifest import Manifest
from models.data.splits import clips_of_split, subject_by_clip

Folds = Annotated[int, Field(ge=2, le=20)]  # how many
Over = Literal["train", "train+val"]
"""The splits whose clips are dealt into folds."""


def clips_over(manifest: Manifest, over: Over) -> tuple[Clip, ...]:
    """The clips of the splits, in the manifest's order; `InputError` where a split has none."""
    wanted = {clip.id for split in over.split("+") for clip in clips_of_split(manifest, split)}
    return tuple(clip for clip in manifest.clips if clip.id in wanted)


def deal_folds(clips: Sequence[Clip], folds: int) -> dict[str, tuple[Clip, ...]]:
    """The clips of each fold by its name; a subject is in one fold, and folds are about equal.

    The same whatever order the clips come in, but for the order within a fold. `InputError` where
    there are fewer subjects than folds.
    """
    owners = list(subject_by_clip(clips).values())
    if (n := len(set(owners))) < folds:
        raise InputError(
            f"folds = {folds}: the clips show {n} subject{'' if n == 1 else 's'}, and a fold needs "
            "one of its own; give fewer folds, or clips of more people"
        )
    from sklearn.model_selection import GroupKFold  # half a second, that no other stage needs

    dealt = GroupKFold(folds).split(clips, groups=owners)
    return {
        f"fold-{k}": tuple(clips[index] for index in sorted(held))
        for k, (_, held) in enumerate(dealt, 1)
    }
