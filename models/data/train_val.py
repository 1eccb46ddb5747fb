"""The packed train and val splits of a manifest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from features.errors import InputError
from features.manifest.manifest import read_manifest
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.feature_sets import FeatureSets, open_sets
from models.data.packed import PackedFeatures
from models.data.region_prototypes import read_regions
from models.data.splits import (
    ClipGroups,
    clips_of_split,
    constant_labels,
    group_clips,
    subject_by_clip,
)
from models.regions.prompts import AnyPrompts
from models.regions.zero_shot import RegionPrototypes

TRAIN_VAL = ("train", "val")


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits that baselines are fitted to and scored on."""

    train: PackedFeatures
    val: PackedFeatures
    subject_by_clip: dict[str, str]
    sets: FeatureSets
    read_regions: Callable[[AnyPrompts], RegionPrototypes]
    """Encodes the texts of prompts; raises as `load_text_tower` does."""
    notes: tuple[str, ...] = ()
    """Warnings about the labels."""


def train_val_clips(
    manifest: Path, store: str, streams: Mapping[str, str | None] | None = None
) -> ClipGroups:
    """Return the clips of the train and val splits, with labels and feature sets.

    Raises `InputError` or `StoreError` if a split is empty, or labels or feature sets are missing.
    """
    content, sets = read_manifest(manifest), open_sets(store, streams)
    return group_clips(content, sets, {s: clips_of_split(content, s) for s in TRAIN_VAL})


def load_splits(
    manifest: Path,
    store: str,
    streams: Mapping[str, str | None] | None = None,
    max_length_mismatch: int = MAX_LENGTH_MISMATCH,
) -> Splits:
    """Return the packed train and val splits; raises as `train_head` does."""
    groups = train_val_clips(manifest, store, streams)
    if not groups.is_annotated("val"):
        raise InputError("no row of the val split is annotated: there is nothing to score on")
    packed = groups.load(max_length_mismatch)
    return Splits(
        train=packed.select(groups.ids("train")),
        val=packed.select(groups.ids("val")),
        subject_by_clip=subject_by_clip(groups.all_clips),
        sets=groups.sets,
        read_regions=partial(read_regions, groups.sets, groups.ids("train")[0]),
        notes=constant_labels(groups.labels),
    )
