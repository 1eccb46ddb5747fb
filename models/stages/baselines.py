"""The stage `baselines`: simple regressors, scored on the same rows as heads."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.errors import InputError, VaflowError
from features.system.files import check_writable
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.baselines import AnyBaselineConfig
from models.baselines.late_fusion import LateFusionConfig
from models.baselines.mean import MeanConfig
from models.baselines.mlp import MlpConfig
from models.baselines.predict import predict_baseline
from models.baselines.ridge import RidgeConfig
from models.baselines.ridge_window import RidgeWindowConfig
from models.baselines.text import TextConfig
from models.data.data_sets import Manifests, Stores
from models.data.stream_names import Streams
from models.data.train_val import load_splits
from models.metrics.scores import SplitScore, split_score
from models.runs.folder import write_json

Baselines = Annotated[tuple[AnyBaselineConfig, ...], Field(min_length=1)]


def every_baseline(streams: Sequence[str]) -> Baselines:
    """Return every baseline, ridge on each of several streams alone, and late fusion."""
    several = len(streams) > 1
    return (
        MeanConfig(),
        *(RidgeConfig(streams=(name,)) for name in streams if several),
        *([LateFusionConfig()] if several else []),
        RidgeConfig(),
        RidgeWindowConfig(),
        MlpConfig(),
        TextConfig(),
    )


@dataclass(frozen=True, slots=True)
class BaselineScores:
    """Every baseline on the val split."""

    scores: tuple[tuple[AnyBaselineConfig, SplitScore], ...]
    notes: tuple[str, ...] = ()
    output: Path | None = None


def score_baselines(
    *,
    manifest: Manifests,
    store: Stores,
    baselines: Baselines | None = None,
    streams: Streams | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    output: Path | None = None,
    on_baseline: Callable[[AnyBaselineConfig, int], None] | None = None,
) -> BaselineScores:
    """Fit each baseline to the train split and score it on the val split.

    Nothing is chosen on the val split. By default it is every baseline, and one that cannot be
    fitted is left out with a note: by folds over too few people, or without the weights that encode
    the region texts. The scores are written to `output` as JSON, if given. Raises as `train_head`
    does.
    """
    if output:
        check_writable(output.parent, "output")
        if output.is_dir():
            raise InputError(
                f"output = {output} is a folder; give the name of a file, such as b.json"
            )
    splits = load_splits(manifest, store, streams, max_length_mismatch)
    scores, notes = [], splits.notes
    chosen = baselines or every_baseline(tuple(splits.train.streams))
    for baseline in chosen:
        if on_baseline:
            on_baseline(baseline, len(chosen))
        try:
            prediction = predict_baseline(
                baseline, splits.train, splits.val, splits.subject_by_clip, splits.read_regions
            )
        except VaflowError as error:
            if baselines is not None:
                raise
            notes += (f"the baseline {baseline.kind} is left out: {error}",)
            continue
        score = split_score(prediction, splits.val, splits.subject_by_clip)
        assert score is not None  # a row is annotated
        scores.append((baseline, score))
    if output:
        val = [
            {"baseline": baseline.model_dump(mode="json"), **asdict(score)}
            for baseline, score in scores
        ]
        output.parent.mkdir(parents=True, exist_ok=True)  # no paths or times: equal files
        write_json(output, {"streams": splits.sets.names, "val": val})
    return BaselineScores(tuple(scores), notes, output)
