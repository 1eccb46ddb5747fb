"""The record of an ensemble: its members, its out-of-fold scores and its smoothing windows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from features.clip import Clip, Split
from features.config import Config
from features.config_errors import describe
from features.errors import InputError
from features.manifest.manifest import Manifest
from features.system.files import sha256_of
from models.data.splits import Folds, Over
from models.metrics.scores import SplitScore
from models.metrics.smoothing import SmoothingWindows
from models.runs.folder import ENSEMBLE, HEAD_FILE, RunConfig, check_format
from models.runs.split_manifest import write_split_manifest

FORMAT = "vaflow-ensemble-1"


class EnsembleConfig(RunConfig):
    """The keys of `vaflow run train-ensemble`."""

    folds: Folds
    over: Over


class Member(Config):
    """One head of an ensemble."""

    folder: str
    """Name of its run folder in the ensemble's folder."""
    head_sha256: str
    held_out: tuple[str, ...]
    """The clips that it was not trained on; with `train.select` val, they chose its epoch."""
    ccc_mean: float


class EnsembleRecord(Config):
    """A finished ensemble."""

    format: str = FORMAT
    key: str
    """sha256 of everything that determines the weights and the smoothing windows."""
    over: Over
    members: tuple[Member, ...] = Field(min_length=2)
    widths_s: SmoothingWindows
    """Chosen on all out-of-fold predictions."""
    out_of_fold: SplitScore
    """Each clip predicted by the member that was not trained on it, without smoothing. Too high
    if `train.select` is val, because the clips then chose that member's epoch."""
    out_of_fold_smoothed: SplitScore
    """The same, each fold smoothed with the windows chosen on the other folds."""

    @property
    def clip_ids(self) -> set[str]:
        """The clips that members were trained on: each one on all but its own fold."""
        return {clip_id for member in self.members for clip_id in member.held_out}


def read_record(run: Path) -> EnsembleRecord:
    """Return the record of the ensemble in a folder.

    Raises `InputError` if the record is missing or unreadable or a member is missing or changed,
    and `LaterVersion` if its format is unknown.
    """
    path = run / ENSEMBLE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"the ensemble in {run} is not finished; run train-ensemble again: what is done is kept"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); run train-ensemble again") from None
    version = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(version, str):
        check_format(path, "an ensemble", version, FORMAT, "train-ensemble")
    try:
        record = EnsembleRecord.model_validate(fields)
    except ValidationError as error:
        why = describe(error, EnsembleRecord) if error.errors()[0]["loc"] else "it holds no keys"
        raise InputError(f"{path} is not a record of an ensemble: {why}; train it again") from None
    for member in record.members:
        head = run / member.folder / HEAD_FILE
        if not head.is_file() or sha256_of(head) != member.head_sha256:
            problem = "is another head than when it was trained" if head.is_file() else "is gone"
            raise InputError(
                f"{head}, a member of the ensemble in {run}, {problem}; run train-ensemble again: "
                "the other members are kept"
            )
    return record


def write_fold_manifests(
    folder: Path, manifest: Manifest, folds: Mapping[str, Sequence[Clip]]
) -> None:
    """Write a manifest per fold: the fold is its val split, the other folds its train split.

    Clips of the test split stay in it; others have no split.
    """
    fold_of = {clip.id: name for name, clips in folds.items() for clip in clips}
    for name in folds:
        splits: dict[str, Split | None] = {}
        for clip in manifest.clips:
            fold = fold_of.get(clip.id)
            splits[clip.id] = "test" if clip.split == "test" else None
            if fold:
                splits[clip.id] = "val" if fold == name else "train"
        write_split_manifest(folder / f"{name}.jsonl", manifest, splits)
