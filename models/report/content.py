"""The content of a report: the numbers and curves of a split, before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64

from features.errors import InputError
from models.metrics.ccc import Agreement
from models.metrics.predict import at_labels, concordance
from models.metrics.scores import ClipScore, SplitScore, scores_by_set
from models.metrics.zero_shot import predict_zero_shot
from models.regions.grid import Grid
from models.regions.nearest_words import PromptWords, read_prompt_words
from models.report.epochs import EpochValues, read_epoch_values
from models.report.errors import (
    Arrow,
    GroupError,
    arrows_of,
    errors_by_region,
    errors_by_subject,
)
from models.report.fusion_weights import NO_FUSION, FusionWeights, fusion_weights_of
from models.report.making import commands_of, read_provenance
from models.report.references import Reference, read_references
from models.report.region_report import RegionReading, regions_of
from models.report.thumbnails import Thumbnails, ThumbnailsOf, thumbnails_of
from models.runs.folder import CONFIG, METRICS, PROMPTS, read_metrics
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import PredictedSplit, RunSplit
from models.runs.texts_alone import read_texts_alone
from models.training.config import EpochResult, kept_epoch

LOST_EPOCHS = "The run's folder has lost the file with its epochs, so there is no curve to show."
ENSEMBLE_EPOCHS = "Each member of an ensemble has curves of its own, in the member's own report."
KEPT_WHY = {
    "last": "the last",
    "val": "the best on the split val",
    "inner": "the best on the training subjects that were held out",
}


@dataclass(frozen=True, slots=True)
class ClipCurves:
    """One clip over time."""

    score: ClipScore
    time_s: Float64[np.ndarray, "T"]
    truth: Float64[np.ndarray, "T 2"]
    """NaN if not annotated."""
    predicted: Float64[np.ndarray, "T 2"]
    seen: Bool[np.ndarray, "T"]
    """False without a face."""
    has_sound: Bool[np.ndarray, "T"]
    band: Float64[np.ndarray, "2 T 2"] | None = None
    """Lowest and highest prediction of the members of an ensemble; None of a single head."""
    weights: FusionWeights | None = None
    """None if there are none to show."""
    thumbnails: Thumbnails | None = None
    """None if the media cannot be read, or are not to be."""

    @property
    def annotated(self) -> Bool[np.ndarray, "T"]:
        """Rows with labels."""
        return ~np.isnan(self.truth[:, 0])

    @property
    def n_without_face(self) -> int:
        """Number of frames without a face."""
        return int((~self.seen).sum())

    @property
    def sort_key(self) -> float:
        """Sum of both CCC: sorts the worst clip first and clips without labels last."""
        if self.score.ccc_valence is None or self.score.ccc_arousal is None:
            return float("inf")
        return self.score.ccc_valence + self.score.ccc_arousal


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a report shows."""

    run: str
    split: str
    score: SplitScore
    valence: Agreement
    arousal: Agreement
    epochs: tuple[EpochResult, ...]
    """Empty if there are none to show."""
    kept: EpochResult | None
    """The epoch whose weights were kept; None if there are no epochs."""
    kept_why: str
    """Why it was kept, in words."""
    truth: Float64[np.ndarray, "N 2"]
    """Annotated frames of all clips."""
    predicted: Float64[np.ndarray, "N 2"]
    grid: Grid
    prompts: PromptWords | None
    """The words nearest to learned prompts."""
    regions: RegionReading | str
    """A text says why there is nothing to show."""
    curves: tuple[ClipCurves, ...]
    """Worst clip first."""
    config: str
    commands: tuple[tuple[str, str], ...]
    """A description and a command line each."""
    started_as: str | None
    """The command line of the training."""
    facts: tuple[tuple[str, str], ...]
    """Names and values of the training's provenance."""
    no_epochs: str = LOST_EPOCHS
    texts_alone: tuple[float, float, float] | None = None
    """CCC of V, of A, and their mean, of the region texts alone; None if the run has none."""
    caution: tuple[str, ...] = ()
    by_set: Mapping[str, SplitScore] = field(default_factory=dict)
    """Of several data sets, the score of each."""
    epoch_values: EpochValues = field(default_factory=dict)
    """Everything that was measured in each epoch."""
    by_subject: tuple[GroupError, ...] = ()
    """Largest error first."""
    by_region: tuple[GroupError, ...] = ()
    arrows: tuple[Arrow, ...] = ()
    weights: FusionWeights | str = NO_FUSION
    """Of all rows; a text says why there is nothing to show."""
    thumbnails_note: str = ""
    references: tuple[Reference, ...] = ()
    """Best first."""
    references_note: str = ""
    """Why there are none."""


def content_of(
    split: PredictedSplit,
    score: SplitScore | None,
    clips: Sequence[ClipScore],
    *,
    thumbnails: ThumbnailsOf = "crops",
    baselines: Path | None = None,
) -> Content:
    """The content for a split with its scores; raises `InputError` if `score` is None.

    `baselines` is a file that `vaflow run baselines output=FILE` wrote; see `read_references`.
    """
    source, packed, prediction = split.source, split.packed, split.prediction
    meta = source.predictor.meta
    if score is None:
        raise InputError(
            f"no frame of the split {source.name!r} is annotated, so there is nothing to "
            "compare its predictions with; give a split with labels"
        )
    sums = concordance(prediction, packed)
    alone = read_texts_alone(source.run, meta.grid)
    annotated, va = packed.va_valid.cpu().numpy(), packed.va.cpu().numpy()
    truth = np.where(annotated[:, None], va, np.nan)
    has_sound = packed.valid_in("audio")
    if has_sound is None:  # without a set of sound there is no gap to show
        has_sound = torch.ones_like(packed.seen)
    valid = packed.seen.cpu().numpy(), has_sound.cpu().numpy()
    started_as, facts = read_provenance(source.run)
    references, references_note = read_references(source.run, source.name, score, baselines)
    weights, band = fusion_weights_of(split), prediction.band
    pictures, thumbnails_note = thumbnails_of(split, thumbnails)
    curves = [
        ClipCurves(
            score_of_clip,
            packed.time_s[rows],
            truth[rows],
            prediction.va[rows],
            *(each[rows] for each in valid),
            band=None if band is None else band[:, rows],
            weights=weights.take(rows) if isinstance(weights, FusionWeights) else None,
            thumbnails=pictures.get(clip),
        )
        for score_of_clip, (clip, rows) in zip(clips, packed.spans(), strict=True)
    ]
    epochs, epoch_values = _read_epochs(source)
    train = source.predictor.config.train
    labels, predicted = at_labels(prediction, packed)
    valence, arousal = sums.valence.agreement(), sums.arousal.agreement()
    mean_truth = valence.mean_truth, arousal.mean_truth
    return Content(
        run=source.run.resolve().name,
        split=source.name,
        score=score,
        by_set=scores_by_set(prediction, packed, source.subject_by_clip),
        valence=valence,
        arousal=arousal,
        epochs=epochs,
        epoch_values=epoch_values,
        kept=kept_epoch(epochs, train) if epochs else None,
        kept_why=KEPT_WHY[train.select],
        no_epochs=ENSEMBLE_EPOCHS if isinstance(source.predictor, TrainedEnsemble) else LOST_EPOCHS,
        caution=source.caution,
        texts_alone=alone
        and concordance(predict_zero_shot(packed, alone.regions, alone.settings), packed).ccc(),
        truth=labels,
        predicted=predicted,
        by_subject=errors_by_subject(prediction, packed, source.subject_by_clip, mean_truth),
        by_region=errors_by_region(labels, predicted, mean_truth, meta.grid),
        arrows=arrows_of(labels, predicted),
        weights=weights,
        thumbnails_note=thumbnails_note,
        references=references,
        references_note=references_note,
        grid=meta.grid,
        prompts=read_prompt_words(source.run / PROMPTS) if meta.loss.region_weight else None,
        regions=regions_of(split),
        curves=tuple(sorted(curves, key=lambda each: each.sort_key)),
        config=(source.run / CONFIG).read_text(encoding="utf-8"),
        commands=commands_of(source),
        started_as=started_as,
        facts=facts,
    )


def _read_epochs(source: RunSplit) -> tuple[tuple[EpochResult, ...], EpochValues]:
    try:
        return read_metrics(source.run), read_epoch_values(source.run)
    except FileNotFoundError:
        return (), {}
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{source.run / METRICS} is damaged ({error}); delete it to do without, or train again"
        ) from None
