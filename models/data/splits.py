"""The clips of a manifest by split or fold, with their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from features.canonical_json import canonical_sha256
from features.clip import Clip
from features.errors import InputError, list_names
from features.manifest.labels import Labels, is_constant, labels_digest, read_labels
from features.manifest.manifest import Manifest, read_manifest
from models.data.data_sets import (
    SEPARATOR,
    DataSet,
    LabelMap,
    LabelMaps,
    check_names,
    clips_by_set,
)
from models.data.feature_sets import FeatureSets
from models.data.label_maps import mapped, matching_maps
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed

Folds = Annotated[int, Field(ge=2, le=20)]
Over = Literal["train", "train+val"]
"""The splits whose clips are divided into folds."""


def clips_of_split(manifest: Manifest, split: str) -> tuple[Clip, ...]:
    """Return the clips of a split; raises `InputError` if it has none."""
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
    """Return the subject of each clip; a clip without one counts as a separate subject."""
    return {
        clip.id: f"clip {clip.id}" if clip.subject is None else f"subject {clip.subject}"
        for clip in clips
    }


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


def read_all_labels(
    manifest: Manifest, clips: Sequence[Clip], *, required: bool
) -> dict[str, Labels | None]:
    """Read each clip's labels, or None; raises `InputError` if required labels are missing."""
    if required and (without := [clip.id for clip in clips if clip.labels is None]):
        raise InputError(
            f"{len(without)} clips to train on have no labels in the manifest "
            f"({list_names(without)}); give them labels, or take them out of the split"
        )
    return {
        clip.id: read_labels(manifest.path(clip.labels), clip.label_lag_s) if clip.labels else None
        for clip in clips
    }


def constant_labels(labels: Mapping[str, Labels | None]) -> tuple[str, ...]:
    """Return a note on each clip whose annotated rows all have the same value."""
    return tuple(
        f"{clip_id}: every annotated row has the same label; is it a placeholder?"
        for clip_id, item in labels.items()
        if item and is_constant(item)
    )


def digest_of_labels(labels: Mapping[str, Labels | None]) -> str:
    """Return the sha256 of the labels of all clips."""
    return canonical_sha256(
        {clip_id: item and labels_digest(item) for clip_id, item in labels.items()}
    )


@dataclass(frozen=True, slots=True)
class ClipGroups:
    """Clips by split or fold, with their labels and feature sets."""

    sets: FeatureSets
    clips: dict[str, tuple[Clip, ...]]
    labels: dict[str, Labels | None]
    """Labels of every clip, group after group."""

    @property
    def all_clips(self) -> tuple[Clip, ...]:
        """The clips of all groups, group after group."""
        return tuple(clip for group in self.clips.values() for clip in group)

    def ids(self, group: str) -> tuple[str, ...]:
        """Return the ids of the clips of one group."""
        return tuple(clip.id for clip in self.clips[group])

    def is_annotated(self, group: str) -> bool:
        """Return whether a clip of the group has an annotated row."""
        return any(self._has_row(clip_id) for clip_id in self.ids(group))

    def check_annotated(self, group: str) -> None:
        """Raise `InputError` unless clips of the group, of each data set, have annotated rows."""
        for name, ids in (clips_by_set(self.ids(group)) or {"": self.ids(group)}).items():
            if not any(self._has_row(clip_id) for clip_id in ids):
                of_set = f" of the data set {name!r}" if name else ""
                raise InputError(
                    f"no row of the split {group!r}{of_set} is annotated (-5 marks a row that is "
                    "not); give it clips with labels"
                )

    def _has_row(self, clip_id: str) -> bool:
        item = self.labels[clip_id]
        return item is not None and bool(item.valid.any())

    def hold_out(self, group: str, share: float, seed: int) -> tuple[str, ...]:
        """Return the ids of the clips of a random share of the annotated subjects of a group.

        At least one subject is held out, and one is left; raises `InputError` if there are fewer
        than two.
        """
        subjects = subject_by_clip(self.clips[group])
        annotated = sorted({subjects[clip_id] for clip_id in subjects if self._has_row(clip_id)})
        if len(annotated) < 2:
            raise InputError(
                f"train.select is inner, and the split {group!r} has {len(annotated)} annotated "
                "subject: one is held out and one is trained on; set train.select to last, or add "
                "clips of other people"
            )
        n = min(max(1, round(share * len(annotated))), len(annotated) - 1)
        drawn = set(np.random.default_rng(seed).permutation(annotated)[:n].tolist())
        return tuple(clip_id for clip_id, subject in subjects.items() if subject in drawn)

    def load(self, max_length_mismatch: int) -> PackedFeatures:
        """Return the rows of all clips, group after group; raises as `load_packed` does.

        All groups share one packed file; `select` returns the rows of one group.
        """
        return load_packed(self.sets, self.labels, max_length_mismatch)


def check_streams(sets: FeatureSets, train: PackedFeatures) -> None:
    """Raise `InputError` unless training rows are annotated, and each stream is valid in some."""
    n_annotated = int(train.va_valid.sum())
    if not n_annotated:
        raise InputError(
            "no row to train on is annotated: all labels lie before or after the rows of their "
            "clips; are their times in seconds since the start of the clip, and is label_lag_s of "
            "the manifest right?"
        )
    for name, stream in train.streams.items():
        if not (stream.valid & train.va_valid).any():
            others = ", ".join(f"{o}: {s}" for o, s in sets.names.items() if o != name)
            rest = f"leave it out with streams={{{others}}}" if others else "choose another one"
            raise InputError(
                f"the stream {name!r} ({sets.names[name]} in {sets.location}) is valid "
                f"in none of the {n_annotated} annotated rows to train on, so nothing can be "
                "learned from it: its clips have no sound or no face there, or its times are "
                f"other ones; {rest}, or extract it again from the right files"
            )


def group_clips(
    manifest: Manifest,
    sets: FeatureSets,
    clips: Mapping[str, tuple[Clip, ...]],
    *,
    labelled: bool = True,
) -> ClipGroups:
    """Return the clips with labels; raises `InputError` if `labelled` and labels are missing."""
    every = [clip for group in clips.values() for clip in group]
    return ClipGroups(sets, dict(clips), read_all_labels(manifest, every, required=labelled))


def group_sets(
    sets: Sequence[DataSet], features: FeatureSets, splits: Sequence[str], *, labelled: bool = True
) -> ClipGroups:
    """Return the clips of these splits of one or several data sets; raises as `group_clips` does.

    With several, ids and subjects have the name of their set before them, and each set must have
    each split.
    """
    parts: list[ClipGroups] = []
    for each in sets:
        content = read_manifest(each.manifest)
        try:
            clips = {split: clips_of_split(content, split) for split in splits}
            part = group_clips(content, features, clips, labelled=labelled)
        except InputError as error:
            if not each.name:
                raise
            raise InputError(f"data set {each.name!r} ({each.manifest}): {error}") from None
        if not each.name:
            return part
        named = {s: tuple(_with_set(each.name, clip) for clip in part.clips[s]) for s in splits}
        ids = (clip.id for group in named.values() for clip in group)
        labels = dict(zip(ids, part.labels.values(), strict=True))
        parts.append(ClipGroups(features, named, labels))
    return ClipGroups(
        features,
        {split: tuple(clip for part in parts for clip in part.clips[split]) for split in splits},
        {
            clip.id: part.labels[clip.id]
            for split in splits
            for part in parts
            for clip in part.clips[split]
        },
    )


def _with_set(name: str, clip: Clip) -> Clip:
    """Return the clip, and its subject, with the name of its set before their own."""
    subject = None if clip.subject is None else f"{name}{SEPARATOR}{clip.subject}"
    return clip.model_copy(update={"id": f"{name}{SEPARATOR}{clip.id}", "subject": subject})


def mapped_labels(groups: ClipGroups, maps: Mapping[str, LabelMap], name: str = "") -> ClipGroups:
    """Return the clips with their labels on the scale of the first data set.

    `name` is that of the set of clips that have no name of a set.
    """
    names = {
        clip_id: set_name
        for set_name, ids in clips_by_set([*groups.labels]).items()
        for clip_id in ids
    }
    found = {clip_id: maps.get(names.get(clip_id, name)) for clip_id in groups.labels}
    labels = {
        clip_id: mapped(item, each) if item and (each := found[clip_id]) else item
        for clip_id, item in groups.labels.items()
    }
    return replace(groups, labels=labels)


def label_maps_of(groups: ClipGroups, maps: LabelMaps) -> dict[str, LabelMap]:
    """Return the map of each set, computed from its training labels if `maps` is `match`.

    Raises `InputError` if an unknown set is named, or there is only one.
    """
    by_set = clips_by_set([*groups.labels])
    if maps != "match":
        check_names("label_maps", maps, [*by_set])
        return maps
    check_names("label_maps", {} if by_set else {"match": None}, [])
    train = set(groups.ids("train"))
    return matching_maps(
        {
            name: [item for each in ids if each in train and (item := groups.labels[each])]
            for name, ids in by_set.items()
        }
    )
