"""The stage `baselines`: what a head must be better than, on the same rows by the same score."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.durable import refuse_unless_writable
from features.errors import InputError
from features.manifest import read_manifest
from features.timeline import MAX_ROWS_APART, RowsApart
from models.bank import Bank
from models.baselines import AnyBaselineConfig
from models.baselines.mean import MeanConfig
from models.baselines.mlp import MlpConfig
from models.baselines.ridge import RidgeConfig
from models.baselines.ridge_window import RidgeWindowConfig
from models.baselines.rows import predict_baseline
from models.feature_sets import open_sets
from models.loading import clips_of_split, constant_labels, load_bank, read_all_labels, subjects
from models.runs import write_json
from models.scores import SplitScore, split_score

Baselines = Annotated[tuple[AnyBaselineConfig, ...], Field(min_length=1)]

BASELINES: tuple[AnyBaselineConfig, ...] = (
    MeanConfig(),
    RidgeConfig(modalities=("visual",)),
    RidgeConfig(modalities=("audio",)),
    RidgeConfig(),
    RidgeWindowConfig(),
    MlpConfig(),
)


@dataclass(frozen=True, slots=True)
class Splits:
    """What baselines learn from and are scored on."""

    train: Bank
    val: Bank
    subject_of: dict[str, str]
    """Whom each clip of both shows."""
    visual: str
    """Name of the feature set; so is the next."""
    audio: str
    notes: tuple[str, ...] = ()
    """What is odd about the labels."""


@dataclass(frozen=True, slots=True)
class BaselineScore:
    """One line of the table."""

    baseline: AnyBaselineConfig
    score: SplitScore


@dataclass(frozen=True, slots=True)
class BaselineScores:
    """Every baseline on the val split."""

    scores: tuple[BaselineScore, ...]
    notes: tuple[str, ...] = ()
    output: Path | None = None


def load_splits(
    manifest: Path,
    store: str,
    visual: str | None = None,
    audio: str | None = None,
    max_rows_apart: int = MAX_ROWS_APART,
) -> Splits:
    """The train and the val split; errors as of `train_head`."""
    listed, sets = read_manifest(manifest), open_sets(store, visual, audio)
    clips = {split: clips_of_split(listed, split) for split in ("train", "val")}
    labels = {split: read_all_labels(listed, clips[split], required=True) for split in clips}
    return Splits(
        **{split: load_bank(sets, labels[split], max_rows_apart) for split in clips},
        subject_of=subjects((*clips["train"], *clips["val"])),
        visual=sets.visual.name,
        audio=sets.audio.name,
        notes=constant_labels(labels["train"] | labels["val"]),
    )


def score_baselines(
    *,
    manifest: Path,
    store: str,
    baselines: Baselines = BASELINES,
    visual: str | None = None,
    audio: str | None = None,
    max_rows_apart: RowsApart = MAX_ROWS_APART,
    output: Path | None = None,
    on_baseline: Callable[[AnyBaselineConfig, int], None] | None = None,
) -> BaselineScores:
    """Learn each baseline on the train split and score it on the val split.

    Nothing is chosen on the val split. The scores go to `output` as JSON, if it is given.
    Errors as of `train_head`.
    """
    if output:
        _refuse_unless_file(output)
    splits = load_splits(manifest, store, visual, audio, max_rows_apart)
    if not splits.val.va_valid.any():
        raise InputError("no row of the val split is annotated: there is nothing to score on")
    scores = []
    for baseline in baselines:
        if on_baseline:
            on_baseline(baseline, len(baselines))
        prediction = predict_baseline(baseline, splits.train, splits.val, splits.subject_of)
        score = split_score(prediction, splits.val, splits.subject_of)
        assert score is not None  # a row is annotated
        scores.append(BaselineScore(baseline, score))
    found = BaselineScores(tuple(scores), splits.notes, output)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, _as_json(found, splits))
    return found


def _refuse_unless_file(output: Path) -> None:
    """Raise where the scores could not be written, before they are made."""
    refuse_unless_writable(output.parent, "output")
    if output.is_dir():
        raise InputError(f"output = {output} is a folder; give the name of a file, such as b.json")


def _as_json(found: BaselineScores, splits: Splits) -> dict[str, object]:
    """What was scored on what; no paths or times: equal input gives an equal file."""
    return {
        "visual": splits.visual,
        "audio": splits.audio,
        "val": [
            {"baseline": each.baseline.model_dump(mode="json"), **asdict(each.score)}
            for each in found.scores
        ],
    }
