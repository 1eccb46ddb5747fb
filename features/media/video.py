"""Video decoding: frames, and their presentation times."""

from collections.abc import Generator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from features.errors import MediaError
from features.media.audio import AudioTap
from features.media.clock import mended_times
from features.media.completeness import check_video
from features.media.container import no_video_error, open_container, set_up_video
from features.media.limits import (
    DEFAULT_LIMITS,
    DecodeLimits,
    check_frames,
    check_pixels,
    check_time,
)
from features.media.tracks import MediaTrack, MediaTracks, demux, find_tracks, joined
from features.timeline import FrameTimes, constant_frame_times

MAX_JITTER_S = 0.002  # of one timestamp: containers round to a millisecond at the coarsest


@dataclass(frozen=True, slots=True)
class Probe:
    """What a container lists, without decoding."""

    n_frames: int
    """Video packets that show a frame."""
    mean_fps: float
    variable_rate: bool
    """Whether the frame interval varies by more than the container's rounding."""
    has_audio: bool


def probe(path: Path, limits: DecodeLimits = DEFAULT_LIMITS) -> Probe:
    """What the container of a video lists; `MediaError` if the file has no video."""
    tracks = find_tracks(path, limits)
    track = require_video(tracks)
    with open_container(path, limits) as container:
        rate = float(container.streams[track.index].average_rate or 0)
    is_due = track.is_due
    times_s = track.packets.pts_s[is_due]
    steps = np.diff(np.sort(times_s[np.isfinite(times_s)]))
    variable = len(steps) > 1 and float(steps.max() - steps.min()) > 2 * MAX_JITTER_S
    return Probe(int(is_due.sum()), rate, variable, tracks.audio is not None)


def require_video(tracks: MediaTracks) -> MediaTrack:
    """The video track; `MediaError` that says why if there is none, or if it exceeds a limit."""
    path, limits, track = tracks.path, tracks.limits, tracks.video
    if track is None:
        raise no_video_error(path, limits)
    check_frames(path, len(track.packets.order), limits)
    check_time(path, track.end_s - tracks.start_s, limits)
    return track


@dataclass(slots=True)
class DecodedVideo:
    """What is known of a video once all of its frames are decoded."""

    stamps_s: list[float | None] = field(default_factory=list)
    """The timestamp of each frame, on the file's clock."""
    lost_s: list[float] = field(default_factory=list)
    """The times of frames that did not decode although frames before and after them did: they are
    rows too, or all later rows would shift."""
    start_s: float = 0.0
    """When the track starts by the container's header."""
    mean_fps: float = 0.0
    is_interlaced: bool = False
    pixel_aspect: Fraction | None = None
    """Width of a stored pixel over its height; None or 0 if unknown."""


def decoded_frames(
    tracks: MediaTracks, decoded: DecodedVideo, n_threads: int = 0, tap: AudioTap | None = None
) -> Generator[av.VideoFrame, None, None]:
    """Yield every frame of a video in presentation order; `decoded` is filled on the way.

    `n_threads` = 0 is one per core. `tap` decodes the audio in the same pass.

    Raises `MediaError` at the end if less than 95 % of the frames or seconds that the container
    promises decoded without damage.
    """
    path, limits, track = tracks.path, tracks.limits, require_video(tracks)
    is_due = track.is_due
    due_from_s = np.nan if track.first_s is None else track.first_s
    n_read = n_intact = n_damaged = 0
    found_s: set[float] = set()
    with open_container(path, limits) as container:
        stream = container.streams[track.index]
        assert isinstance(stream, av.VideoStream)
        set_up_video(path, stream, limits, n_threads)
        decoded.mean_fps = float(stream.average_rate or 0)
        decoded.pixel_aspect = stream.sample_aspect_ratio
        if stream.start_time is not None and stream.time_base:
            decoded.start_s = float(stream.start_time * stream.time_base)
        if tap:
            tap.open(container)
        for packet in demux(container, [each for each in (track, tap and tap.track) if each]):
            if tap and packet.stream is not stream:
                tap.feed(packet)
                continue
            is_packet_due = bool(is_due[n_read]) if packet.size else True
            n_read += bool(packet.size)
            try:
                frames = stream.decode(packet)
            except av.error.InvalidDataError:
                n_damaged += is_packet_due
                continue
            for frame in frames:
                check_pixels(path, frame.width, frame.height, limits)
                decoded.stamps_s.append(frame.time)
                check_frames(path, len(decoded.stamps_s), limits)
                decoded.is_interlaced |= frame.interlaced_frame
                if frame.time is not None:
                    found_s.add(frame.time)
                if not frame.is_corrupt:
                    n_intact += 1
                elif frame.time is None or not frame.time < due_from_s:
                    n_damaged += 1
                yield frame
        if tap:
            tap.finish()
        if n_intact == 0:
            raise MediaError(f"{path}: no frame decodes; replace the file", "no-frames")
        last_s = max(found_s, default=0.0)
        check_video(container, tracks, track, n_intact, n_damaged, last_s)
    if n_damaged and found_s:
        listed_s = set(track.packets.pts_s[is_due].tolist())
        first_s = min(found_s)
        decoded.lost_s += sorted(t for t in listed_s - found_s if first_s < t < last_s)


def frame_times(
    decoded: DecodedVideo, declared_fps: float | None, path: Path, *notes: str | None
) -> FrameTimes:
    """The presentation time of each frame, from its timestamp; `notes` come first in its note.

    Single timestamps that are missing or do not increase are placed evenly between their
    neighbours. If too many are, frame k is k / fps after the start of the track, with the declared
    rate or else the container's mean rate. Raises `MediaError` if there is no rate either.
    """
    all_notes = [*notes, "the video is interlaced" if decoded.is_interlaced else None]
    mended = mended_times(decoded.stamps_s)
    if mended is not None:
        shown_s, n_mended = mended
        all_notes += [
            f"timestamps mended: {n_mended}" if n_mended else None,
            f"{len(decoded.lost_s)} frames lost to damage" if decoded.lost_s else None,
        ]
        time_s = np.union1d(shown_s, np.array(decoded.lost_s, dtype=np.float64))
        return FrameTimes(time_s, np.searchsorted(time_s, shown_s), joined(all_notes))
    fps = declared_fps or decoded.mean_fps
    if not fps:
        raise MediaError(
            f"{path}: timestamps are missing or fall back and no rate is known; "
            "declare one as `fps` in the manifest",
            "no-clock",
        )
    times = constant_frame_times(len(decoded.stamps_s), fps, "timestamps unusable")
    return FrameTimes(times.time_s + decoded.start_s, times.rows, joined([*all_notes, times.note]))
