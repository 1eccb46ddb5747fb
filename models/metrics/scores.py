"""The score of a split and of each clip, from predictions and annotated rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from models.data.data_sets import clips_by_set
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


def scores_by_set(
    prediction: Prediction, packed: PackedFeatures, subject_by_clip: Mapping[str, str]
) -> dict[str, SplitScore]:
    """Return the score of each of several data sets; empty if there is only one.

    A set without annotated rows has none. Labels that were mapped to another scale give the score
    of the set's own scale: a CCC does not change if truth and prediction are mapped alike.
    """
    found: dict[str, SplitScore] = {}
    for name, ids in clips_by_set(packed.clip_ids).items():
        rows, part = rows_of_clips(packed, ids), packed.select(ids)
        own = Prediction(prediction.va[rows], prediction.interpolated[rows])
        if score := split_score(own, part, subject_by_clip):
            found[name] = score
    return found


def mean_ccc_of_sets(prediction: Prediction, packed: PackedFeatures) -> tuple[float, float, float]:
    """Return the CCC of valence, of arousal and their mean; of several data sets, the mean of all.

    Raises `ValueError` if no row is annotated.
    """
    sums = [
        concordance(Prediction(prediction.va[rows], prediction.interpolated[rows]), part)
        for ids in clips_by_set(packed.clip_ids).values()
        for rows, part in [(rows_of_clips(packed, ids), packed.select(ids))]
    ]
    ccc = [each.ccc() for each in sums if each.valence.n]
    if not ccc:
        return concordance(prediction, packed).ccc()
    valence, arousal, mean = np.mean(ccc, axis=0).tolist()
    return valence, arousal, mean


def rows_of_clips(packed: PackedFeatures, clip_ids: Sequence[str]) -> Int64[np.ndarray, "R"]:
    """Return the rows of some clips, in the order of the clips."""
    spans = dict(packed.spans())
    return np.concatenate([np.r_[spans[clip_id]] for clip_id in clip_ids])


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
