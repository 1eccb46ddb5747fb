"""The features of one clip on any clock, brought there as for a training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from features.clip import Track
from features.errors import InputError
from features.manifest.labels import Labels, read_labels
from features.manifest.manifest import read_manifest
from features.spec import FeatureSpec
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.alignment import align_clips, interpolate_track, start_of
from models.data.feature_sets import FeatureSets

LABELS = "labels"
"""The clock of the times of a clip's labels."""
ROUNDING = 1e-6  # rows; a time on the grid of a rate may be off by less

Times = Sequence[float] | np.ndarray
Clock = int | float | str | Times | None
"""A rate in Hz, the name of a feature set or stream, `LABELS`, or times in seconds; None: the
feature set's own."""


def find_set(sets: FeatureSets, name: str) -> tuple[str, FeatureSpec]:
    """Return the stream and the spec of a set by the name of either; raises `InputError`."""
    for stream, spec in sets.specs.items():
        if name in (stream, spec.name):
            return stream, spec
    known = ", ".join(f"{stream} ({spec.name})" for stream, spec in sets.specs.items())
    raise InputError(f"there is no feature set {name!r}; {sets.location} has {known}")


def features_on_clock(
    sets: FeatureSets, spec: FeatureSpec, clip: str, clock: Clock, manifest: Path | None = None
) -> Track:
    """Return the features of a clip on a clock.

    Sets that have a row per frame are brought to each other row by row; otherwise features are
    interpolated in time. Times of a rate are multiples of its step, from the first to the last
    frame. The manifest says where the labels are. Raises `InputError` for a clock that cannot be
    used, and `StoreError` if a record is missing or damaged.
    """
    if clock is None:
        return sets.store.read(spec.name, clip)
    if isinstance(clock, str) and clock == LABELS:
        labels = _labels(clip, manifest)
        if labels.time_s is None:
            return _on_frames(sets, spec, clip, sets.clock, labels)
        at_s = _label_times(sets, labels, labels.time_s, clip)
    elif isinstance(clock, str):
        other = find_set(sets, clock)[1]
        if other.has_frame_rows:
            return _on_frames(sets, spec, clip, other)
        at_s = sets.store.read(other.name, clip).time_s
    else:
        at_s = _times(sets, spec, clip, clock)
    own = _on_frames(sets, spec, clip, spec) if spec.has_frame_rows else None
    try:
        return interpolate_track(own or sets.store.read(spec.name, clip), at_s)
    except ValueError as error:  # times that do not increase, or are not finite
        raise InputError(f"clock: {error}; sort the times, each once") from error


def _on_frames(
    sets: FeatureSets,
    spec: FeatureSpec,
    clip: str,
    frames: FeatureSpec | None,
    labels: Labels | None = None,
) -> Track:
    """Return the rows of a set on the frames of another one or of its own, as they are trained on.

    With labels that have no times, there is one row per label.
    """
    specs = ({"frames": frames} if frames and frames != spec else {}) | {"own": spec}
    (rows,) = align_clips(FeatureSets(sets.store, specs), {clip: labels}, MAX_LENGTH_MISMATCH)
    return Track(rows.arrays["own"], rows.arrays["time_s"], rows.arrays["own_valid"])


def _times(
    sets: FeatureSets, spec: FeatureSpec, clip: str, clock: int | float | Times
) -> Float64[np.ndarray, "N"]:
    given = np.asarray(clock, np.float64)
    if given.ndim == 1:
        return given
    if given.ndim > 1 or not (np.isfinite(given) and given > 0):
        raise InputError(
            f"clock = {clock!r}; give a rate above 0 Hz, times in one dimension, the name of a "
            f"feature set or stream, or {LABELS!r}"
        )
    frames = sets.clock if sets.clock and _has_record(sets, sets.clock, clip) else spec
    time_s, rate_hz = sets.store.read(frames.name, clip).time_s, float(given)
    if not len(time_s):
        return time_s
    first, last = np.ceil(time_s[0] * rate_hz - ROUNDING), time_s[-1] * rate_hz + ROUNDING
    return np.arange(first + 0.0, np.floor(last) + 1) / rate_hz  # + 0.0: not -0.0


def _has_record(sets: FeatureSets, spec: FeatureSpec, clip: str) -> bool:
    return sets.store.commit(spec.name, clip) is not None


def _labels(clip: str, manifest: Path | None) -> Labels:
    if manifest is None:
        raise InputError("the clock of labels needs a manifest: open_store(path, manifest=...)")
    content = read_manifest(manifest)
    (found,) = content.select([clip]).clips
    if found.labels is None:
        raise InputError(f"clip {clip!r} has no labels in {manifest}; give another clock")
    return read_labels(content.path(found.labels), found.label_lag_s)


def _label_times(
    sets: FeatureSets, labels: Labels, time_s: Float64[np.ndarray, "L"], clip: str
) -> Float64[np.ndarray, "L"]:
    """Return the times of ratings, or the middles of spans, on the clock of the video."""
    frames = sets.clock
    rows = _on_frames(sets, frames, clip, frames).time_s if frames else time_s
    middles_s = time_s if labels.end_s is None else (time_s + labels.end_s) / 2
    return middles_s - labels.lag_s + start_of(sets, clip, rows)
