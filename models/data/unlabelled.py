"""Clips that are trained on without their labels, and what they must not share with other clips."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

from features.clip import Clip
from features.errors import InputError, list_names
from features.manifest.manifest import Manifest, read_manifest
from models.data.feature_sets import FeatureSets
from models.data.splits import ClipGroups

UNLABELLED = "unlabelled"
"""The name of their group."""
Trait = Literal["id", "video", "subject"]
HELD_OUT = ("val", "test")


def shared_with(
    manifest: Manifest, clips: Sequence[Clip], other: Manifest, others: Sequence[Clip]
) -> Iterator[tuple[Clip, Trait, Clip]]:
    """Yield each clip with the id, video or subject of another manifest's: which, and whose."""
    known = {trait: clip for clip in others for trait in _traits(other, clip)}
    for clip in clips:
        for trait in _traits(manifest, clip):
            if trait in known:
                yield clip, trait[0], known[trait]
                break


def _traits(manifest: Manifest, clip: Clip) -> Iterator[tuple[Trait, str]]:
    yield "id", clip.id.casefold()
    for path in (clip.video, clip.frames):
        if path is not None:
            yield "video", str(manifest.path(path).resolve())
    if clip.subject is not None:
        yield "subject", clip.subject


def unlabelled_clips(
    sets: FeatureSets,
    manifest: Path,
    unlabelled: Path,
    *,
    transductive: bool,
    inner: Collection[str] = (),
) -> tuple[ClipGroups, tuple[str, ...]]:
    """Return the clips of the manifest `unlabelled` as a group, and notes on those left out.

    Their labels are not read. Those that share their id, video or subject with a clip in `inner`,
    the ids of the training clips that are held out, are left out. Raises `InputError` if one is in
    the train split of `manifest` or, unless `transductive`, shares its id, video or subject with a
    clip of the val or test split.
    """
    listed, extra = read_manifest(manifest), read_manifest(unlabelled)
    trained = {clip.id.casefold() for clip in listed.clips if clip.split == "train"}
    if twice := [clip.id for clip in extra.clips if clip.id.casefold() in trained]:
        raise InputError(
            f"train.unlabelled = {unlabelled}: {len(twice)} of its clips are in the train split "
            f"with their labels ({list_names(twice)}); take them out of one of the two manifests"
        )
    held_out = [clip for clip in listed.clips if clip.split in HELD_OUT]
    shared = list(shared_with(extra, extra.clips, listed, held_out))
    if shared and not transductive:
        clip, what, other = shared[0]
        raise InputError(
            f"train.unlabelled = {unlabelled}: {len(shared)} of its {len(extra.clips)} clips are "
            f"of people or videos that are held out: clip {clip.id!r} has the {what} "
            f"of {other.id!r} in the split {other.split!r}; take them out, or set "
            "train.transductive=true, which scores will mention"
        )
    held_out = [clip for clip in listed.clips if clip.id in inner]
    theirs = {clip.id for clip, *_ in shared_with(extra, extra.clips, listed, held_out)}
    kept = tuple(clip for clip in extra.clips if clip.id not in theirs)
    note = (
        f"{len(theirs)} of the {len(extra.clips)} clips of train.unlabelled = {unlabelled} are of "
        "people or videos that train.select = inner holds out"
    )
    if theirs and not kept:
        raise InputError(f"{note}; give clips of other people, or set train.select to last")
    groups = ClipGroups(sets, {UNLABELLED: kept}, dict.fromkeys(clip.id for clip in kept))
    return groups, (f"{note}: they are not trained on",) if theirs else ()
