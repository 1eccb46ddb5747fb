"""What this version decodes differently from an earlier one, by file: its records are stale."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from features.media.container import open_container
from features.media.crops import ORIENTATION_TAG, is_8_bit
from features.media.display import Orientation, orientation
from features.media.limits import DecodeLimits
from features.media.samples import MAX_DRIFT_S
from features.media.tracks import MediaTrack, TrackNumbers, find_tracks, first_frame_s
from features.media.video import DecodedVideo, decoded_frames

OLD_MAX_GAP_S = 0.05  # decoding 1 filled gaps of the audio above this, and lost those below


@dataclass(frozen=True, slots=True)
class DecodingChanges:
    """What differs for one file since decoding 1."""

    reasons: list[str]
    """In words; empty if nothing does."""


def video_changes(
    path: Path, limits: DecodeLimits, numbers: TrackNumbers, *, pixels: bool
) -> list[str]:
    """What differs of a video; without `pixels`, of its frame times only."""
    tracks = find_tracks(path, limits, numbers)
    track = tracks.video
    if track is None:
        return []
    reasons = []
    with open_container(path, limits) as container:
        stream = container.streams[track.index]
        assert isinstance(stream, av.VideoStream)
        if stream is not container.streams.video[0]:
            reasons.append("another video track")
        if pixels and (stream.sample_aspect_ratio or 1) != 1:
            reasons.append("pixels that are not square")
    if pixels:
        with closing(decoded_frames(tracks, DecodedVideo(), n_threads=1)) as frames:
            if orientation(next(frames)) != Orientation():
                reasons.append("turned or mirrored frames")
    due_s = np.sort(track.packets.pts_s[track.is_due])
    if tracks.n_jumps or not np.all(np.diff(due_s) > 0):  # False for NaN, too
        reasons.append("timestamps that do not increase")
    return reasons


def audio_changes(
    path: Path, limits: DecodeLimits, numbers: TrackNumbers, beside: Path | None
) -> list[str]:
    """What differs of the audio of a file, which may be one of its own `beside` a video."""
    tracks = find_tracks(path, limits, numbers)
    track = tracks.audio
    if track is None:
        return []
    reasons = []
    with open_container(path, limits) as container:
        if container.streams[track.index] is not container.streams.audio[0]:
            reasons.append("another audio track")
    if tracks.n_jumps or _has_small_losses(track):
        reasons.append("audio that left its timestamps")
    own_start_s = tracks.start_s if tracks.video else track.first_s or 0.0
    if beside is not None and first_frame_s(beside, limits, numbers) != own_start_s:
        reasons.append("a video that does not start at 0")
    return reasons


def crop_changes(paths: Iterable[Path]) -> list[str]:
    """What differs of crops; only their headers are read."""
    reasons: set[str] = set()
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.getexif().get(ORIENTATION_TAG, 1) != 1:
                    reasons.add("turned or mirrored crops")
                if not is_8_bit(image):
                    reasons.add("crops of more than 8 bits")
        except (OSError, SyntaxError, Image.DecompressionBombError):
            continue  # the extraction itself reports it
    return sorted(reasons)


def _has_small_losses(track: MediaTrack) -> bool:
    """Whether timestamps leave the samples by more than is corrected, in steps that were not.

    They do, too, if they begin after the samples, as in Matroska that starts below 0.
    """
    packets = track.packets
    if not np.isfinite(packets.pts[:1]).all():
        return True
    gaps_s = packets.pts_s[1:] - packets.end_s[:-1]
    drift_s = 0.0
    for gap_s in gaps_s[np.isfinite(gaps_s)].tolist():
        drift_s = 0.0 if gap_s > OLD_MAX_GAP_S else drift_s + gap_s
        if abs(drift_s) > MAX_DRIFT_S:
            return True
    return False
