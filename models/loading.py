"""From manifest and store to a bank: the only file here that opens a store."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import numpy as np
import torch
from pydantic import JsonValue

from features.errors import InputError, SpecMismatch, StoreError
from features.labels import Labels, is_constant, labels_digest, read_labels
from features.manifest import Manifest
from features.modality import MODALITY
from features.records import Clip, Track
from features.spec import FeatureSpec, canonical
from features.store import FeatureStore
from features.timeline import MAX_ROWS_APART
from models.bank import Bank
from models.clock import hold_or_trim, interpolate

NAMED_AT_MOST = 5  # clips that a message lists before it only counts

Modality = Literal["visual", "audio"]


@dataclass(frozen=True, slots=True)
class FeatureSets:
    """The two feature sets of a store that a head reads."""

    store: FeatureStore
    visual: FeatureSpec
    audio: FeatureSpec

    def encoder_config(self, spec: FeatureSpec, clip_id: str) -> JsonValue:
        """The config of the encoder that made the clip's record; None where it does not say."""
        commit = self.store.commit(spec.name, clip_id)
        return commit.provenance.get("encoder") if commit else None


def open_sets(store: str, visual: str | None, audio: str | None) -> FeatureSets:
    """The sets of the given names, or the only ones there are.

    `InputError` lists the candidates where the choice is not clear.
    """
    opened = FeatureStore.open(store)
    specs = opened.feature_sets()
    return FeatureSets(
        opened,
        _choose(store, specs, "visual", visual),
        _choose(store, specs, "audio", audio),
    )


def open_sets_of_head(store: str, visual: str, audio: str) -> FeatureSets:
    """The sets that a head was trained on; `SpecMismatch` where the store has others."""
    found = sorted(FeatureStore.open(store).feature_sets())
    if lacking := [name for name in (visual, audio) if name not in found]:
        raise SpecMismatch(
            f"{store} holds features of {', '.join(found) or 'no encoder'}, the head was trained "
            f"on {' and '.join(lacking)}; extract with the head's own encoder config (it is in "
            "the run's provenance.json), or retrain"
        )
    return open_sets(store, visual, audio)


def _choose(
    store: str, specs: dict[str, FeatureSpec], modality: Modality, name: str | None
) -> FeatureSpec:
    """The spec of one modality."""
    fitting = {key: spec for key, spec in specs.items() if MODALITY.get(spec.kind) == modality}
    if not fitting:
        raise InputError(
            f"{store} holds no {modality} features, only {', '.join(specs) or 'nothing'}; run "
            f"extract-features with {'a visual' if modality == 'visual' else 'an audio'} encoder"
        )
    if name is None and len(fitting) == 1:
        return next(iter(fitting.values()))
    if name not in fitting:
        problem = f"no {modality} features {name!r}" if name else f"several {modality} feature sets"
        raise InputError(
            f"{store} holds {problem}; choose with {modality}=, of {', '.join(fitting)}"
        )
    return fitting[name]


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


def subjects(clips: Sequence[Clip]) -> dict[str, str]:
    """Whom each clip shows; a clip that does not say shows someone of its own."""
    return {
        clip.id: f"clip {clip.id}" if clip.subject is None else f"subject {clip.subject}"
        for clip in clips
    }


def records_digest(sets: FeatureSets, clips: Sequence[Clip], modality: Modality) -> str:
    """sha256 of what the store holds of the clips in one modality, whoever extracted it.

    `StoreError` where clips are missing.
    """
    spec: FeatureSpec = getattr(sets, modality)
    commits = {clip.id: sets.store.commit(spec.name, clip.id) for clip in clips}
    if missing := [clip_id for clip_id, commit in commits.items() if commit is None]:
        raise StoreError(
            f"{sets.store.place.path()} lacks features {spec.name} of {len(missing)} of "
            f"{len(clips)} clips ({_some(missing)}); run extract-features"
        )
    files: dict[str, JsonValue] = {
        clip_id: dict(commit.files) for clip_id, commit in commits.items() if commit
    }
    return hashlib.sha256(canonical(files)).hexdigest()


def read_all_labels(
    manifest: Manifest, clips: Sequence[Clip], *, required: bool
) -> dict[str, Labels | None]:
    """The labels of each clip, None where it has none; `InputError` where they are required."""
    if required and (without := [clip.id for clip in clips if clip.labels is None]):
        raise InputError(
            f"{len(without)} clips to train on have no labels in the manifest ({_some(without)}); "
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


def digest_of_labels(labels: dict[str, Labels | None]) -> str:
    """sha256 of the labels of all clips."""
    digests = {clip_id: item and labels_digest(item) for clip_id, item in labels.items()}
    return hashlib.sha256(canonical(dict(digests))).hexdigest()


def load_bank(
    sets: FeatureSets,
    labels: dict[str, Labels | None],
    max_rows_apart: int = MAX_ROWS_APART,
) -> Bank:
    """The rows of the clips that `labels` names, in its order; without labels, a row per frame.

    Every row goes straight to its place in one array per modality. `InputError` where label
    rows and frames are further apart than allowed, `StoreError` where a record cannot be read.
    """
    n_rows = [
        len(item.va) if item else _n_frames(sets, clip_id) for clip_id, item in labels.items()
    ]
    offsets = np.concatenate([[0], np.cumsum(n_rows)]).astype(np.int64)
    n = int(offsets[-1])
    time_s = np.zeros(n)
    va, va_valid = np.zeros((n, 2)), np.zeros(n, dtype=bool)
    arrays: dict[str, np.ndarray] = {}
    for (clip_id, item), start, stop in zip(labels.items(), offsets[:-1], offsets[1:], strict=True):
        for modality, track in _on_label_clock(sets, clip_id, int(stop - start), max_rows_apart):
            values, valid = f"{modality}", f"{modality}_valid"
            arrays.setdefault(values, np.zeros((n, track.values.shape[1]), np.float16))
            arrays.setdefault(valid, np.zeros(n, dtype=bool))
            arrays[values][start:stop], arrays[valid][start:stop] = track.values, track.valid
            time_s[start:stop] = track.time_s
        if item:
            va[start:stop], va_valid[start:stop] = item.va, item.valid
    return Bank(
        tuple(labels),
        offsets,
        time_s,
        va=torch.from_numpy(va),
        va_valid=torch.from_numpy(va_valid),
        **{name: torch.from_numpy(array) for name, array in arrays.items()},
    )


def _n_frames(sets: FeatureSets, clip_id: str) -> int:
    return len(sets.store.read(sets.visual.name, clip_id).values)


def _on_label_clock(
    sets: FeatureSets, clip_id: str, n_rows: int, max_rows_apart: int
) -> Iterator[tuple[Modality, Track]]:
    """Both tracks of a clip with one row per label row."""
    try:
        frames = sets.store.read(sets.visual.name, clip_id)
        visual = hold_or_trim(frames, n_rows, max_rows_apart)
    except ValueError as error:
        raise InputError(
            f"clip {clip_id!r}: {error}; is this the annotation of another video? correct it, "
            "take the clip out of the manifest, or allow more with max_rows_apart=N"
        ) from None
    yield "visual", visual
    yield "audio", interpolate(sets.store.read(sets.audio.name, clip_id), visual.time_s)


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
