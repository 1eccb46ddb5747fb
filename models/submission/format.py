"""The challenge's submission: valence and arousal for the rows that its sample file lists."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from features.errors import InputError, VaflowError, list_names
from features.timeline import MAX_LENGTH_MISMATCH

HEADER = "image_location,valence,arousal"
LOCATION = re.compile(r"([^/,]+)/([0-9]{1,9})\.jpg", re.IGNORECASE)  # clip and frame, from 1
DECIMALS = 6  # of a value that is written
NOT_COMPARED = (
    "submission.txt has a row per frame, in the manifest's order; it was not compared with the "
    "challenge's rows: give its sample file with sample=FILE"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that the challenge asks for, in its order."""

    locations: tuple[str, ...]
    """In the form `<clip>/00001.jpg`."""
    clips: tuple[str, ...]
    """Each clip once, in the order of the first rows."""
    clip_of: Int64[np.ndarray, "N"]
    """Index into `clips`."""
    frame: Int64[np.ndarray, "N"]
    """Counted from 1."""

    def __post_init__(self) -> None:
        if not len(self.locations) == len(self.clip_of) == len(self.frame) > 0:
            raise ValueError("a sample has one clip and one frame per location, and at least one")
        if len(set(self.locations)) < len(self.locations):
            raise ValueError("a location stands twice")

    def digest(self) -> str:
        """Return the sha256 of the rows in order, without placeholder values and line ends."""
        return hashlib.sha256("\n".join(self.locations).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Submission:
    """The text of a submission, and notes on it."""

    text: str
    notes: tuple[str, ...]


def bytes_of(path: Path, what: str) -> bytes:
    """Return the bytes of a file; raises `InputError` that asks for `what` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give {what}") from None


def read_sample(path: Path) -> Sample:
    """Return the rows of a sample file; values after a location are placeholders.

    A byte order mark, CRLF and blank lines are accepted, because the challenge made the file;
    `check` does not accept them in a submission. Raises `InputError` that names the first line
    that breaks the format.
    """
    try:
        text = bytes_of(path, "the challenge's sample file").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is no text in UTF-8; give the challenge's sample file as it was sent"
        ) from None
    header, *rows = text.split("\n")
    if header.strip().lower() != HEADER:
        raise InputError(
            f"{path}, line 1: a sample begins with {HEADER!r}, this one with "
            f"{header.strip()[:60]!r}; give the challenge's sample file as it was sent"
        )
    line_of: dict[str, int] = {}
    index_of: dict[str, int] = {}
    clip_of, frames = [], []
    for number, row in enumerate(rows, 2):
        location = row.partition(",")[0].strip()
        if not location and not row.strip():
            continue
        match = LOCATION.fullmatch(location)
        if not match or not int(match[2]):
            raise InputError(
                f"{path}, line {number}: {location[:60]!r} is no `<clip>/00001.jpg` (frames are "
                "counted from 1); give the challenge's sample file as it was sent"
            )
        if (first := line_of.setdefault(location, number)) != number:
            raise InputError(
                f"{path}, line {number}: {location!r} stands already in line {first}; give the "
                "challenge's sample file as it was sent, in which no row comes twice"
            )
        clip_of.append(index_of.setdefault(match[1], len(index_of)))
        frames.append(int(match[2]))
    if not frames:
        raise InputError(f"{path} has a header but no row; give the challenge's whole sample file")
    return Sample(
        tuple(line_of),
        tuple(index_of),
        np.array(clip_of, dtype=np.int64),
        np.array(frames, dtype=np.int64),
    )


def rows_of_sample(
    sample: Sample,
    spans: Mapping[str, slice],
    va: Float64[np.ndarray, "P 2"],
    max_length_mismatch: int = MAX_LENGTH_MISMATCH,
) -> Submission:
    """Return the submission with the sample's rows in its order; a clip has `va[spans[clip]]`.

    Sample rows beyond a clip's last frame repeat its prediction, and frames without a row are left
    out. Raises `InputError` if a clip has no prediction, or if its last row is more than
    `max_length_mismatch` frames from its last frame.
    """
    if lacking := [clip for clip in sample.clips if clip not in spans]:
        raise InputError(
            f"the sample has rows of {count(lacking, 'clip')} without a prediction "
            f"({list_names(lacking)}); index and extract them with the split 'test' (`vaflow "
            "index` names those that it left out, and why)"
        )
    starts = np.array([spans[clip].start for clip in sample.clips])
    n_frames = np.array([spans[clip].stop for clip in sample.clips]) - starts
    last = np.zeros_like(n_frames)
    np.maximum.at(last, sample.clip_of, sample.frame)
    if apart := [
        f"{clip}: at row {row} and frame {frame}"
        for clip, row, frame in zip(sample.clips, last, n_frames, strict=True)
        if abs(row - frame) > max_length_mismatch
    ]:
        raise InputError(
            f"sample and prediction end apart in {count(apart, 'clip')} ({list_names(apart)}); at "
            f"most {max_length_mismatch} apart are accepted: are these the videos of the "
            "challenge? Replace them and extract again, or allow more with max_length_mismatch=N"
        )
    _refuse_unless_finite(spans, va)
    n_of = n_frames[sample.clip_of]  # (N,)
    chosen = va[starts[sample.clip_of] + np.minimum(sample.frame, n_of) - 1]  # (N, 2)
    return Submission(
        _text(sample.locations, chosen), _notes(sample, spans, n_frames, sample.frame > n_of)
    )


def rows_of_frames(spans: Mapping[str, slice], va: Float64[np.ndarray, "P 2"]) -> Submission:
    """Return the submission with a row per frame in the order of `spans`, without a sample."""
    _refuse_unless_finite(spans, va)
    locations = [
        f"{clip}/{frame:05d}.jpg"
        for clip, span in spans.items()
        for frame in range(1, span.stop - span.start + 1)
    ]
    listed = np.concatenate([va[span] for span in spans.values()])
    return Submission(_text(locations, listed), (NOT_COMPARED,))


def count(items: Sequence[object], what: str) -> str:
    """Return the number with a noun: `1 clip`, `2 clips`."""
    return f"{len(items)} {what}" + ("s" if len(items) != 1 else "")


def _refuse_unless_finite(spans: Mapping[str, slice], va: Float64[np.ndarray, "P 2"]) -> None:
    """Raise `VaflowError` if a prediction is not finite, which clamping does not change."""
    spoiled = [clip for clip, span in spans.items() if not np.isfinite(va[span]).all()]
    if spoiled:
        raise VaflowError(
            f"the predictions of {count(spoiled, 'clip')} are not finite ({list_names(spoiled)}); "
            "a submission must be; train the head anew, with a lower train.learning_rate"
        )


def _text(locations: Sequence[str], va: Float64[np.ndarray, "N 2"]) -> str:
    rows = [
        f"{location},{valence:.{DECIMALS}f},{arousal:.{DECIMALS}f}\n"
        for location, (valence, arousal) in zip(locations, va.tolist(), strict=True)
    ]
    return f"{HEADER}\n{''.join(rows)}"


def _notes(
    sample: Sample,
    spans: Mapping[str, slice],
    n_frames: Int64[np.ndarray, "C"],
    held: Bool[np.ndarray, "N"],
) -> tuple[str, ...]:
    n_clips = len(sample.clips)
    n_held = np.bincount(sample.clip_of[held], minlength=n_clips)
    n_left = n_frames - np.bincount(sample.clip_of[~held], minlength=n_clips)
    notes = []
    for number, what in (
        (n_held, "rows of the sample lie beyond the last frame and hold its prediction"),
        (n_left, "predicted frames have no row in the sample and are left out"),
    ):
        if number.any():
            clips = [f"{sample.clips[k]}: {number[k]}" for k in np.flatnonzero(number)]
            notes.append(f"submission.txt: {number.sum()} {what} ({list_names(clips)})")
    if others := sorted(set(spans) - set(sample.clips)):
        notes.append(
            f"submission.txt: {count(others, 'clip')} of the split have no row in the sample "
            f"and are left out ({list_names(others)})"
        )
    return tuple(notes)
