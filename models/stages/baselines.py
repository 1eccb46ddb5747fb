"""The stage `baselines`: what a head must be better than, on the same rows by the same score."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.errors import InputError
from features.system.files import check_writable
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.baselines import AnyBaselineConfig
from models.baselines.mean import MeanConfig
from models.baselines.mlp import MlpConfig
from models.baselines.predict import predict_baseline
from models.baselines.ridge import RidgeConfig
from models.baselines.ridge_window import RidgeWindowConfig
from models.data.train_val import Splits, load_splits
from models.metrics.scores import SplitScore, split_score
from models.runs.folder import write_json

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


def score_baselines(
    *,
    manifest: Path,
    store: str,
    baselines: Baselines = BASELINES,
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    output: Path | None = None,
    on_baseline: Callable[[AnyBaselineConfig, int], None] | None = None,
) -> BaselineScores:
    """Learn each baseline on the train split and score it on the val split.

    Nothing is chosen on the val split. The scores go to `output` as JSON, if it is given.
    Errors as of `train_head`.
    """
    if output:
        _refuse_unless_file(output)
    splits = load_splits(manifest, store, visual, audio, max_length_mismatch)
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
    check_writable(output.parent, "output")
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
