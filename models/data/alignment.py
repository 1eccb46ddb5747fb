"""Feature tracks resampled to the label clock of one row per video frame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from features.clip import Track
from features.errors import InputError, StoreError
from features.manifest.label_clock import labels_at_rows
from features.manifest.labels import Labels
from features.media.sampling import Sampling
from features.spec import FeatureSpec
from features.timeline import extend_times, typical_step_s
from models.data.feature_sets import FeatureSets

ROWS_AT_ONCE = 256  # their float32 copies fit into a core's cache: twice as fast as all at once
SLACK = 1.5  # steps between neighbours, because a variable frame rate has uneven timestamps
DEFAULT_STEP_S = 0.1  # of a track with a single step


def pad_or_trim(track: Track, n_rows: int) -> Track:
    """Return the visual track with exactly `n_rows` rows; it has at least one.

    Rows beyond the last frame repeat its embedding, each a median step later; frames beyond the
    last row are dropped.
    """
    n_frames = len(track.values)
    if n_rows <= n_frames:
        return Track(track.values[:n_rows], track.time_s[:n_rows], track.valid[:n_rows])
    index = np.minimum(np.arange(n_rows), n_frames - 1)
    time_s = extend_times(track.time_s, n_rows - n_frames)
    return Track(track.values[index], time_s, track.valid[index])


def interpolate_track(track: Track, at_s: Float64[np.ndarray, "N"]) -> Track:
    """Return the track at the given times, interpolated between the centres of its steps.

    Up to one step before the first centre and after the last one, their values are repeated. A row
    farther out, or next to a centre that is not valid, is invalid and 0.
    """
    n_steps, width = track.values.shape
    values = np.zeros((len(at_s), width), np.float16)
    if not n_steps:
        return Track(values, at_s, np.zeros(len(at_s), dtype=bool))
    step_s = float(np.median(np.diff(track.time_s))) if n_steps > 1 else DEFAULT_STEP_S
    position = np.interp(at_s, track.time_s, np.arange(n_steps, dtype=np.float64))  # (N,), clamped
    before = np.floor(position).astype(np.int64)
    after = np.ceil(position).astype(np.int64)
    weight = (position - before)[:, None].astype(np.float32)  # (N, 1) of `after`
    within = (at_s >= track.time_s[0] - step_s) & (at_s <= track.time_s[-1] + step_s)
    valid = within & track.valid[before] & track.valid[after]
    steps = track.values.astype(np.float32)
    for start in range(0, len(at_s), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        between = (1 - weight[rows]) * steps[before[rows]] + weight[rows] * steps[after[rows]]
        values[rows] = np.where(valid[rows, None], between, 0)
    return Track(values, at_s, valid)


def fill_between_samples(track: Track, apart_s: float) -> Track:
    """Return a sparsely sampled visual track with the rows between samples interpolated.

    `apart_s` is the expected time between samples. A row is valid if its two neighbours are at
    most `SLACK * apart_s` apart or, before the first and after the last sample, if that sample is
    at most as far away. Thus rows are not interpolated across frames without a face.
    """
    at_s, sampled_s = track.time_s, track.time_s[track.valid]
    if not len(sampled_s):
        return track
    samples = Track(track.values[track.valid], sampled_s, np.ones(len(sampled_s), dtype=bool))
    filled = interpolate_track(samples, at_s)
    ends_s = np.concatenate([[-np.inf], sampled_s, [np.inf]])
    after_s = ends_s[1 + np.searchsorted(sampled_s, at_s, side="left")]
    before_s = ends_s[np.searchsorted(sampled_s, at_s, side="right")]
    between = after_s - before_s <= SLACK * apart_s
    nearest_s = np.minimum(after_s - at_s, at_s - before_s)
    at_end = np.isinf(after_s - before_s) & (nearest_s <= SLACK * apart_s)
    valid = filled.valid & (between | at_end)
    return Track(np.where(valid[:, None], filled.values, np.float16(0)), at_s, valid)


@dataclass(frozen=True, slots=True)
class AlignedClip:
    """A clip with one row per label row, or per frame if it has no labels."""

    clip_id: str
    n_rows: int
    n_frames: int
    """Frames before padding and trimming."""
    arrays: dict[str, np.ndarray]
    """The clip's part of each array of `PackedFeatures`, by name."""


def check_clip_length(clip_id: str, n_rows: int, n_frames: int, max_length_mismatch: int) -> None:
    """Raise `InputError` if a clip's label rows and frames differ by more than allowed."""
    if abs(n_rows - n_frames) > max_length_mismatch or not n_frames:
        raise InputError(
            f"clip {clip_id!r}: {n_rows} label rows but {n_frames} video frames; they may differ "
            f"by at most {max_length_mismatch}, and there must be a frame; is this the annotation "
            "of another video? correct it, take the clip out of the manifest, or allow more with "
            "max_length_mismatch=N"
        )


def n_label_rows(labels: Labels | None, n_frames: int) -> int:
    """Return how many rows a clip has: one per label if they have no times, or one per frame."""
    return len(labels.va) if labels and labels.time_s is None else n_frames


def start_of(sets: FeatureSets, clip_id: str, time_s: Float64[np.ndarray, "N"]) -> float:
    """Return the time that the labels of a clip count from: of its first frame, if it has any."""
    return float(time_s[0]) if sets.clock_of(clip_id) else 0.0


def align_clips(
    sets: FeatureSets, labels: Mapping[str, Labels | None], max_length_mismatch: int
) -> Iterator[AlignedClip]:
    """Yield the clips in `labels`, in its order, read from the store one by one.

    The rows are the frames of the visual set `sets.clock`, or those of the clip's first stream if
    its store has no visual set. Labels with times are brought to them by `labels_at_rows`. A stream
    with one row per frame is read row by row, any other one is interpolated in time. Raises
    `InputError` if label rows and frames of a clip differ by more than `max_length_mismatch`, or if
    it has a label for each frame and no frames, and `StoreError` if a record cannot be read.
    """
    widths: list[int] | None = None
    for clip_id, item in labels.items():
        clock = sets.clock_of(clip_id)
        frames = _clock_track(sets, clock, clip_id, item)
        n_frames = len(frames.values)
        n_rows = n_label_rows(item, n_frames)
        check_clip_length(clip_id, n_rows, n_frames, max_length_mismatch)
        rows = pad_or_trim(frames, n_rows)
        arrays = {"time_s": rows.time_s}
        for stream, spec in sets.specs.items():
            track = rows
            if spec != clock:
                track = _read_track(sets, spec, clip_id)
                per_frame = spec.has_frame_rows and len(track.values) == n_frames
                track = (
                    pad_or_trim(track, n_rows)
                    if per_frame
                    else interpolate_track(track, rows.time_s)
                )
            arrays |= {stream: track.values, f"{stream}_valid": track.valid}
        actual = [arrays[stream].shape[1] for stream in sets.specs]
        if actual != (widths := widths or actual):
            raise StoreError(
                f"clip {clip_id!r} has embeddings of {_listed(actual)} numbers, the clips before "
                f"it of {_listed(widths)}; extract it again (`vaflow verify` shows what is wrong "
                "with a store)"
            )
        known = Labels(np.zeros((n_rows, 2)), np.zeros(n_rows, dtype=bool))
        if item:
            known = labels_at_rows(item, rows.time_s, start_of(sets, clip_id, rows.time_s))
        arrays |= {"va": known.va, "va_valid": known.valid}
        yield AlignedClip(clip_id, n_rows, n_frames, arrays)


def _listed(widths: Sequence[int]) -> str:
    return " and ".join(map(str, widths))


def _clock_track(
    sets: FeatureSets, clock: FeatureSpec | None, clip_id: str, labels: Labels | None
) -> Track:
    """Return the track whose rows are those of the clip."""
    if clock:
        return _read_track(sets, clock, clip_id)
    if labels and labels.time_s is None:
        raise InputError(
            f"clip {clip_id!r} has a label for each video frame, and {sets.location} "
            "holds no visual features, which know the times of the frames; run extract-features "
            "with a visual encoder, too, or give the labels times of their own"
        )
    return _read_track(sets, next(s for s in sets.specs.values() if sets.has(s, clip_id)), clip_id)


def _read_track(sets: FeatureSets, spec: FeatureSpec, clip_id: str) -> Track:
    """Return the track in a record; of sampled frames, the rows between them are filled."""
    track = sets.store.read(spec.name, clip_id)
    sampling = Sampling.from_spec(spec.sampling.get("rows"))
    if sampling.is_every_frame or not len(track.values):
        return track
    return fill_between_samples(track, sampling.interval_s(typical_step_s(track.time_s)))
