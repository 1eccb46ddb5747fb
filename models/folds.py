"""Folds of clips by the person they show, and the manifests that make each fold a val split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from features.errors import InputError
from features.manifest import Manifest, write_manifest
from features.records import Clip
from models.loading import clips_of_split, subjects
from models.runs import INPUTS

Folds = Annotated[int, Field(ge=2, le=20)]  # how many
Over = Literal["train", "train+val"]
"""The splits whose clips are dealt into folds."""


def clips_over(manifest: Manifest, over: Over) -> tuple[Clip, ...]:
    """The clips of the splits, in the manifest's order; `InputError` where a split has none."""
    wanted = {clip.id for split in over.split("+") for clip in clips_of_split(manifest, split)}
    return tuple(clip for clip in manifest.clips if clip.id in wanted)


def deal(clips: Sequence[Clip], folds: int) -> dict[str, tuple[Clip, ...]]:
    """The clips of each fold by its name; a subject is in one fold, and folds are about equal.

    The same whatever order the clips come in, but for the order within a fold. `InputError` where
    there are fewer subjects than folds.
    """
    owners = list(subjects(clips).values())
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


def write_fold_manifests(
    folder: Path, manifest: Manifest, dealt: Mapping[str, Sequence[Clip]]
) -> None:
    """In the folder, a manifest per fold: its clips are the val split, the other folds train.

    Clips of the test split stay what they are, others have no split. Paths lead through a link to
    the first manifest's folder: labels may be under an agreement, and a copy would grow old.
    """
    fold_of = {clip.id: name for name, clips in dealt.items() for clip in clips}
    for name in dealt:
        clips: list[Clip] = []
        for clip in manifest.clips:
            own = fold_of.get(clip.id)
            split = "test" if clip.split == "test" else None
            if own:
                split = "val" if own == name else "train"
            paths = {
                field: f"{INPUTS}/{path}"
                for field in ("video", "frames", "labels", "audio")
                if (path := getattr(clip, field)) is not None
            }
            clips.append(clip.model_copy(update={**paths, "split": split}))
        write_manifest(folder / f"{name}.jsonl", clips)
