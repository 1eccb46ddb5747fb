"""The stage `zero-shot`: V and A of every clip from the region texts alone; labels are optional."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from features.clip import Clip
from features.errors import InputError
from features.manifest.manifest import read_manifest
from features.system.files import check_writable
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.baselines.text import fit_text
from models.data.data_sets import OneManifest
from models.data.feature_sets import open_sets
from models.data.packed import PackedFeatures
from models.data.region_prototypes import read_regions
from models.data.splits import constant_labels, group_clips, subject_by_clip
from models.data.stream_names import Streams
from models.metrics.predict import Prediction
from models.metrics.scores import SplitScore, split_score
from models.metrics.zero_shot import match_moments, predict_zero_shot
from models.regions.prompts import FixedPrompts
from models.regions.zero_shot import PUBLISHED_MOMENTS, ZeroShotSettings
from models.runs.folder import PREDICTIONS, write_json
from models.stages.score_head import write_predictions

ZERO_SHOT = "zero_shot.json"
"""Settings and scores; it is written last, and commits the folder."""
TRAIN = "train"
NO_SPLIT = "without a split"

Match = Literal["train", "published", "none"]
Scale = Annotated[float, Field(gt=0)]
Width = Annotated[float, Field(ge=0, le=600)]


@dataclass(frozen=True, slots=True)
class ZeroShotResult:
    """The result of a zero-shot prediction."""

    output: Path
    n_clips: int
    n_frames: int
    match: Match
    """What the predictions were matched to."""
    settings: ZeroShotSettings
    scores: dict[str, SplitScore]
    """By split; only of splits with annotated frames."""
    notes: tuple[str, ...] = ()
    """Warnings about the labels."""


def zero_shot(
    *,
    manifest: OneManifest,
    store: str,
    output: Path,
    prompts: FixedPrompts = FixedPrompts(),
    scale: Scale = 10.0,
    width_s: Width = 2.0,
    match: Match | None = None,
    streams: Streams | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
) -> ZeroShotResult:
    """Predict every row of every clip of a manifest from the region texts, without training.

    The predictions are matched to mean and deviation of the annotated rows of the train split, to
    published ones, or to none; by default to the train split's if it has labels. Writes
    `predictions.csv` and `zero_shot.json`, with the score of each annotated split, to the folder
    `output`. Raises `InputError`, `StoreError` or a subclass if the inputs do not fit together,
    before anything is written.
    """
    check_output(output)
    content, sets = read_manifest(manifest), open_sets(store, streams)
    if not content.clips:
        raise InputError(f"{manifest} has no clips; give a manifest with the clips to predict")
    splits: dict[str, tuple[Clip, ...]] = {}
    for clip in content.clips:
        split = clip.split or NO_SPLIT
        splits[split] = (*splits.get(split, ()), clip)
    groups = group_clips(content, sets, splits, labelled=False)
    has_labels = TRAIN in groups.clips and groups.is_annotated(TRAIN)
    if match == "train" and not has_labels:
        raise InputError(
            "match = train, and no row of the split 'train' is annotated; give its clips labels, "
            "or match = published or none"
        )
    match = match or ("train" if has_labels else "published")
    regions = read_regions(sets, groups.all_clips[0].id, prompts)
    packed, subjects = groups.load(max_length_mismatch), subject_by_clip(groups.all_clips)
    if match == "train":
        train = packed.select(groups.ids(TRAIN))
        settings = fit_text(train, subjects, regions, scale=scale, width_s=width_s)
    else:
        settings = ZeroShotSettings(scale=(scale, scale), width_s=(width_s, width_s))
        if match == "published":
            settings = match_moments(packed, regions, settings, PUBLISHED_MOMENTS)
    prediction = predict_zero_shot(packed, regions, settings)
    scores = _scores_by_split(prediction, packed, {s: groups.ids(s) for s in splits}, subjects)
    output.mkdir(parents=True, exist_ok=True)
    for name in (ZERO_SHOT, PREDICTIONS):
        (output / name).unlink(missing_ok=True)
    write_predictions(output / PREDICTIONS, packed, prediction, set())
    made_with = {
        "visual": sets.specs[regions.stream].name,
        "prompts": prompts.model_dump(mode="json"),
        "match": match,
        "settings": asdict(settings),
        "scores": {split: asdict(score) for split, score in scores.items()},
    }
    write_json(output / ZERO_SHOT, made_with)
    n_clips, n_frames = len(packed.clip_ids), len(packed.time_s)
    notes = constant_labels(groups.labels)
    return ZeroShotResult(output, n_clips, n_frames, match, settings, scores, notes)


def check_output(output: Path) -> None:
    """Raise `InputError` if the folder cannot be written, or holds something else."""
    check_writable(output, "output")
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if names - {PREDICTIONS, ZERO_SHOT}:
        raise InputError(
            f"output = {output} holds files that do not belong to zero-shot; give another folder"
        )


def _scores_by_split(
    prediction: Prediction,
    packed: PackedFeatures,
    clip_ids: dict[str, tuple[str, ...]],
    subjects: dict[str, str],
) -> dict[str, SplitScore]:
    """The score of each split with annotated rows; the splits lie one after the other."""
    scores, start = {}, 0
    for split, ids in clip_ids.items():
        part = packed.select(ids)
        rows = slice(start, start + len(part.time_s))
        start = rows.stop
        own = Prediction(prediction.va[rows], prediction.interpolated[rows])
        if score := split_score(own, part, subjects):
            scores[split] = score
    return scores
