"""The clips of a split, and their labels."""

import hashlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from features.canonical_json import canonical
from features.clip import Clip
from features.errors import InputError
from features.manifest.labels import Labels, is_constant, labels_digest, read_labels
from features.manifest.manifest import Manifest
from models.data.feature_sets import some


def clips_of_split(manifest: Manifest, split: str) -> tuple[Clip, ...]:
    """The clips of a split; `InputError` where it has none."""
    clips = tuple(clip for clip in manifest.clips if clip.split == split)
    if not clips:
        known = sorted({clip.split for clip in manifest.clips if clip.split})
        if not known:
            raise InputError(
                f"the manifest has no clip of the split {split!r}: none of its clips has a "
                "`split`; give them one in the manifest"
            )
        near = get_close_matches(split, known, n=1, cutoff=0.0)[0]
        raise InputError(
            f"the manifest has no clip of the split {split!r}, only of {', '.join(known)}; the "
            f"nearest is {near!r}; or give clips this split in the manifest"
        )
    return clips


def subject_by_clip(clips: Sequence[Clip]) -> dict[str, str]:
    """Whom each clip shows; a clip that does not say shows someone of its own."""
    return {
        clip.id: f"clip {clip.id}" if clip.subject is None else f"subject {clip.subject}"
        for clip in clips
    }


def read_all_labels(
    manifest: Manifest, clips: Sequence[Clip], *, required: bool
) -> dict[str, Labels | None]:
    """The labels of each clip, None where it has none; `InputError` where they are required."""
    if required and (without := [clip.id for clip in clips if clip.labels is None]):
        raise InputError(
            f"{len(without)} clips to train on have no labels in the manifest ({some(without)}); "
            "give them labels, or take them out of the split"
        )
    return {
        clip.id: read_labels(manifest.path(clip.labels)) if clip.labels else None for clip in clips
    }


def constant_labels(labels: dict[str, Labels | None]) -> tuple[str, ...]:
    """A note on each clip whose annotated rows are all the same point."""
    return tuple(
        f"{clip_id}: every annotated row has the same label; is it a placeholder?"
        for clip_id, item in labels.items()
        if item and is_constant(item)
    )


def digest_of_labels(labels: Mapping[str, Labels | None]) -> str:
    """sha256 of the labels of all clips."""
    digests = {clip_id: item and labels_digest(item) for clip_id, item in labels.items()}
    return hashlib.sha256(canonical(dict(digests))).hexdigest()
