"""What a report shows: numbers and courses of a split, before anything is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from features.errors import InputError
from models.metrics.ccc import Agreement
from models.metrics.predict import concordance
from models.metrics.scores import ClipScore, SplitScore, clip_scores, split_score
from models.regions.grid import Grid
from models.regions.nearest_words import PromptWords, read_prompt_words
from models.report.provenance import commands_of, facts_of, provenance_of
from models.report.region_report import RegionReading, regions_of
from models.runs.folder import CONFIG, METRICS, read_metrics
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import PredictedSplit, RunSplit
from models.training.config import EpochResult

LOST_EPOCHS = "The run's folder has lost the file with its epochs, so there is no curve to show."
ENSEMBLE_EPOCHS = "Each member of an ensemble has curves of its own, in the member's own report."


@dataclass(frozen=True, slots=True)
class ClipCurves:
    """One clip over time."""

    score: ClipScore
    time_s: Float64[np.ndarray, "T"]
    truth: Float64[np.ndarray, "T 2"]
    """NaN where not annotated."""
    predicted: Float64[np.ndarray, "T 2"]
    seen: Bool[np.ndarray, "T"]
    """False where there is no face."""
    heard: Bool[np.ndarray, "T"]

    @property
    def annotated(self) -> Bool[np.ndarray, "T"]:
        """Rows that have a truth."""
        return ~np.isnan(self.truth[:, 0])

    @property
    def n_unseen(self) -> int:
        """Frames without a face."""
        return int((~self.seen).sum())

    @property
    def badness(self) -> float:
        """By what clips are put in order, worst first; those without a truth come last."""
        if self.score.ccc_valence is None or self.score.ccc_arousal is None:
            return float("inf")
        return self.score.ccc_valence + self.score.ccc_arousal


@dataclass(frozen=True, slots=True)
class Content:
    """All that a report shows."""

    run: str
    split: str
    score: SplitScore
    valence: Agreement
    arousal: Agreement
    epochs: tuple[EpochResult, ...]
    """Empty where there are none to show."""
    truth: Float64[np.ndarray, "N 2"]
    """Annotated frames of all clips."""
    predicted: Float64[np.ndarray, "N 2"]
    grid: Grid
    """Of the regions."""
    prompts: PromptWords | None
    """What learned prompts came to say; None where none were learned."""
    regions: RegionReading | str
    """Or why there is nothing to show."""
    courses: tuple[ClipCurves, ...]
    """Worst first."""
    config: str
    commands: tuple[tuple[str, str], ...]
    """What each does, and the line to type."""
    started_as: str | None
    """How the process that trained the head was started."""
    facts: tuple[tuple[str, str], ...]
    """Name and value of what is known of the making."""
    no_epochs: str = LOST_EPOCHS
    """Why there would be none."""
    caution: tuple[str, ...] = ()
    """What the scores must be read with."""


def content_of(reading: PredictedSplit) -> Content:
    """The content for a split; `InputError` where no frame of it is annotated."""
    source, bank, prediction = reading.source, reading.bank, reading.prediction
    score = split_score(prediction, bank, source.subject_of)
    if score is None:
        raise InputError(
            f"no frame of the split {source.name!r} is annotated, so there is nothing to hold "
            "its predictions against; give a split with labels"
        )
    sums = concordance(prediction, bank)
    annotated = bank.va_valid.cpu().numpy()
    made_by = provenance_of(source)
    return Content(
        run=source.run.resolve().name,
        split=source.name,
        score=score,
        valence=sums.valence.agreement(),
        arousal=sums.arousal.agreement(),
        epochs=_epochs(source),
        no_epochs=ENSEMBLE_EPOCHS if isinstance(source.predictor, TrainedEnsemble) else LOST_EPOCHS,
        caution=source.caution,
        truth=bank.va.cpu().numpy()[annotated],
        predicted=prediction.va[annotated],
        grid=source.meta.grid,
        prompts=read_prompt_words(source.run) if source.meta.loss.region_weight else None,
        regions=regions_of(reading),
        courses=tuple(sorted(_clip_curves(reading), key=lambda course: course.badness)),
        config=(source.run / CONFIG).read_text(encoding="utf-8"),
        commands=commands_of(source),
        started_as=made_by.get("started_as"),
        facts=tuple(facts_of(made_by)),
    )


def _clip_curves(reading: PredictedSplit) -> Iterator[ClipCurves]:
    """Each clip, in the manifest's order."""
    bank, prediction = reading.bank, reading.prediction
    annotated = bank.va_valid.cpu().numpy()
    truth = np.where(annotated[:, None], bank.va.cpu().numpy(), np.nan)
    seen, heard = bank.visual_valid.cpu().numpy(), bank.audio_valid.cpu().numpy()
    scores = clip_scores(prediction, bank)
    for score, (_, rows) in zip(scores, bank.spans(), strict=True):
        yield ClipCurves(
            score, bank.time_s[rows], truth[rows], prediction.va[rows], seen[rows], heard[rows]
        )


def _epochs(source: RunSplit) -> tuple[EpochResult, ...]:
    """The epochs of the training; none where the file is gone."""
    try:
        return read_metrics(source.run)
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{source.run / METRICS} is damaged ({error}); delete it to do without, or train again"
        ) from None
