"""The training and validation splits of a manifest, packed."""

from dataclasses import dataclass
from pathlib import Path

from features.manifest.manifest import read_manifest
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.feature_sets import open_sets
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.splits import clips_of_split, constant_labels, read_all_labels, subject_by_clip


@dataclass(frozen=True, slots=True)
class Splits:
    """What baselines learn from and are scored on."""

    train: PackedFeatures
    val: PackedFeatures
    subject_of: dict[str, str]
    """Whom each clip of both shows."""
    visual: str
    """Name of the feature set; so is the next."""
    audio: str
    notes: tuple[str, ...] = ()
    """What is odd about the labels."""


def load_splits(
    manifest: Path,
    store: str,
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: int = MAX_LENGTH_MISMATCH,
) -> Splits:
    """The train and the val split; errors as of `train_head`."""
    listed, sets = read_manifest(manifest), open_sets(store, visual, audio)
    clips = {split: clips_of_split(listed, split) for split in ("train", "val")}
    labels = {split: read_all_labels(listed, clips[split], required=True) for split in clips}
    return Splits(
        **{split: load_packed(sets, labels[split], max_length_mismatch) for split in clips},
        subject_of=subject_by_clip((*clips["train"], *clips["val"])),
        visual=sets.visual.name,
        audio=sets.audio.name,
        notes=constant_labels(labels["train"] | labels["val"]),
    )
