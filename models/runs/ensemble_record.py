"""What an ensemble's folder says of it: the members, how sure they are, how they are smoothed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.clip import Clip
from features.config_errors import describe
from features.errors import InputError, LaterVersion
from features.manifest.manifest import Manifest, write_manifest
from features.system.files import sha256_of
from models.data.folds import Folds, Over
from models.metrics.scores import SplitScore
from models.metrics.smoothing import SmoothingWindows
from models.runs.checkpoint import FILE
from models.runs.folder import ENSEMBLE, INPUTS, RunConfig, write_json

FORMAT = "vaflow-ensemble-1"


class EnsembleConfig(RunConfig):
    """The keys of `vaflow run train-ensemble`."""

    folds: Folds
    over: Over


class Member(BaseModel):
    """One head of an ensemble."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    """Its run's folder, in that of the ensemble."""
    head_sha256: str
    held_out: tuple[str, ...]
    """The clips that it was not trained on; they chose its epoch."""
    ccc_mean: float
    """On them."""


class EnsembleRecord(BaseModel):
    """An ensemble, whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    key: str
    """Digest of everything that decides the weights and the widths."""
    over: Over
    members: tuple[Member, ...] = Field(min_length=2)
    widths_s: SmoothingWindows
    """Chosen on all out-of-fold predictions."""
    out_of_fold: SplitScore
    """Of every clip by the member that was not trained on it, not smoothed. A little high: the
    clips chose that member's epoch."""
    out_of_fold_smoothed: SplitScore
    """The same, each fold smoothed by the widths that the other folds choose."""

    @property
    def clip_ids(self) -> set[str]:
        """The clips that members were trained on: each member on all but its own fold's."""
        return {clip_id for member in self.members for clip_id in member.held_out}


def read_record(run: Path) -> EnsembleRecord:
    """The ensemble in a folder; `InputError` where there is none, or it is not whole any more."""
    path = run / ENSEMBLE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"the ensemble in {run} is not finished; run train-ensemble again: what is done is kept"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); run train-ensemble again") from None
    found = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(found, str) and found != FORMAT:
        raise LaterVersion(
            f"{path} is an ensemble of format {found!r}, this vaflow reads {FORMAT!r}; use the "
            "vaflow that wrote it, give another folder, or replace it with `run train-ensemble` "
            "and force=true"
        )
    try:
        record = EnsembleRecord.model_validate(fields)
    except ValidationError as error:
        why = describe(error, EnsembleRecord) if error.errors()[0]["loc"] else "it holds no keys"
        raise InputError(f"{path} is no record of an ensemble: {why}; train it again") from None
    for member in record.members:
        head = run / member.folder / FILE
        if not head.is_file() or sha256_of(head) != member.head_sha256:
            problem = "is another head than in the making" if head.is_file() else "is gone"
            raise InputError(
                f"{head}, a member of the ensemble in {run}, {problem}; run train-ensemble again: "
                "the other members are kept"
            )
    return record


def write_record(run: Path, record: EnsembleRecord) -> None:
    """Write it whole or not at all; this is what commits an ensemble."""
    write_json(run / ENSEMBLE, record.model_dump(mode="json"))


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
