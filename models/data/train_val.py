"""The packed train and val splits of a manifest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from features.errors import InputError
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.data_sets import LabelMaps, Manifests, Stores, data_sets
from models.data.feature_sets import FeatureSets
from models.data.joined_sets import open_sets_of
from models.data.packed import PackedFeatures
from models.data.region_prototypes import read_regions
from models.data.splits import (
    ClipGroups,
    check_streams,
    constant_labels,
    group_sets,
    label_maps_of,
    mapped_labels,
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
    manifest: Manifests,
    store: Stores,
    streams: Mapping[str, str | None] | None = None,
    label_maps: LabelMaps | None = None,
) -> ClipGroups:
    """Return the clips of the train and val splits, with labels and feature sets.

    Labels of several data sets are mapped. Raises `InputError` or `StoreError` if a split is empty,
    or labels or feature sets are missing.
    """
    found = data_sets(manifest, store)
    groups = group_sets(found, open_sets_of(found, streams), TRAIN_VAL)
    return mapped_labels(groups, label_maps_of(groups, label_maps)) if label_maps else groups


def load_splits(
    manifest: Manifests,
    store: Stores,
    streams: Mapping[str, str | None] | None = None,
    max_length_mismatch: int = MAX_LENGTH_MISMATCH,
    label_maps: LabelMaps | None = None,
) -> Splits:
    """Return the packed train and val splits; raises as `train_head` does."""
    groups = train_val_clips(manifest, store, streams, label_maps)
    if not groups.is_annotated("val"):
        raise InputError("no row of the val split is annotated: there is nothing to score on")
    packed = groups.load(max_length_mismatch)
    train = packed.select(groups.ids("train"))
    check_streams(groups.sets, train)
    return Splits(
        train=train,
        val=packed.select(groups.ids("val")),
        subject_by_clip=subject_by_clip(groups.all_clips),
        sets=groups.sets,
        read_regions=partial(read_regions, groups.sets, groups.ids("train")[0]),
        notes=constant_labels(groups.labels) + groups.sets.notes,
    )
