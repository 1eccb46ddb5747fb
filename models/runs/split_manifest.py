"""Copies of a manifest with other splits, for trainings on parts of a data set."""

from collections.abc import Mapping
from pathlib import Path

from features.clip import PATH_FIELDS, Clip, Split
from features.manifest.manifest import Manifest, write_manifest
from models.runs.folder import INPUTS


def write_split_manifest(
    path: Path,
    manifest: Manifest,
    splits: Mapping[str, Split | None],
    labels: Mapping[str, str] | None = None,
) -> None:
    """Write the clips in `splits`, by id, with these splits, in the order of `manifest`.

    Paths go through the link to the folder of `manifest` (`link_manifest_root`), because labels may
    be licensed and copies would become outdated. `labels` replaces those of some clips by files
    below the folder of `path`.
    """

    def linked(clip: Clip) -> Clip:
        given = {name: p for name in PATH_FIELDS if (p := getattr(clip, name)) is not None}
        paths = {name: p if p.startswith("/") else f"{INPUTS}/{p}" for name, p in given.items()}
        if labels and clip.id in labels:
            paths["labels"] = labels[clip.id]
        return clip.model_copy(update={**paths, "split": splits[clip.id]})

    clips = [linked(clip) for clip in manifest.clips if clip.id in splits]
    write_manifest(path, clips, manifest.allow_outside)
