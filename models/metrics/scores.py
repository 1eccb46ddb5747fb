"""The score of a split and of each clip, from predictions and annotated rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from models.data.packed import PackedFeatures
from models.metrics.ccc import VaConcordance
from models.metrics.intervals import score_intervals
from models.metrics.predict import Prediction, concordance


@dataclass(frozen=True, slots=True)
class SplitScore:
    """The score of a split: its annotated frames, end to end."""

    ccc_valence: float
    ccc_arousal: float
    ccc_mean: float
    n_frames: int
    """Annotated frames, or labels with times of their own."""
    n_clips: int
    """Clips with annotated frames."""
    n_interpolated: int
    """Frames without a face, predicted from their neighbours; annotated or not."""
    n_subjects: int
    """People with annotated frames."""
    ccc_valence_low: float | None = None
    """The ends of the 95 % intervals over subjects; None if there is only one."""
    ccc_valence_high: float | None = None
    ccc_arousal_low: float | None = None
    ccc_arousal_high: float | None = None
    ccc_mean_low: float | None = None
    ccc_mean_high: float | None = None
    ccc_valence_bca_low: float | None = None
    """The ends of the BCa intervals; None if there is one subject, or as many as percentiles are
    enough for."""
    ccc_valence_bca_high: float | None = None
    ccc_arousal_bca_low: float | None = None
    ccc_arousal_bca_high: float | None = None
    ccc_mean_bca_low: float | None = None
    ccc_mean_bca_high: float | None = None


@dataclass(frozen=True, slots=True)
class ClipScore:
    """The score of one clip: a diagnostic, never the score of a split."""

    clip: str
    n_frames: int
    """Annotated frames; the CCC are None if there are none."""
    n_interpolated: int
    ccc_valence: float | None
    ccc_arousal: float | None


def split_score(
    prediction: Prediction, packed: PackedFeatures, subject_by_clip: Mapping[str, str]
) -> SplitScore | None:
    """Return the score of all clips together; None if no row is annotated."""
    sums = concordance(prediction, packed)
    if not sums.valence.n:
        return None
    valence, arousal, mean = sums.ccc()
    subjects = list(sums_by_subject(prediction, packed, subject_by_clip).values())
    found = score_intervals(subjects)
    return SplitScore(
        ccc_valence=valence,
        ccc_arousal=arousal,
        ccc_mean=mean,
        n_frames=sums.valence.n,
        n_clips=sum(bool(packed.va_valid[span].any()) for _, span in packed.spans()),
        n_interpolated=int(prediction.interpolated.sum()),
        n_subjects=sum(bool(each.valence.n) for each in subjects),
        **(found.ends() if found else {}),
    )


def sums_by_subject(
    prediction: Prediction, packed: PackedFeatures, subject_by_clip: Mapping[str, str]
) -> dict[str, VaConcordance]:
    """Return the sums of each subject over all their clips."""
    found: dict[str, VaConcordance] = {}
    for clip_id, span in packed.spans():
        sums, subject = concordance(prediction, packed, span), subject_by_clip[clip_id]
        found[subject] = found[subject] + sums if subject in found else sums
    return found


def clip_scores(prediction: Prediction, packed: PackedFeatures) -> Iterator[ClipScore]:
    """Yield the score of each clip."""
    for clip_id, span in packed.spans():
        sums = concordance(prediction, packed, span)
        n = sums.valence.n
        valence, arousal, _ = sums.ccc() if n else (None, None, None)
        n_interpolated = int(prediction.interpolated[span].sum())
        yield ClipScore(clip_id, n, n_interpolated, valence, arousal)
