"""Whether a file holds what its container promises: a truncated file is not a short clip."""

import re
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.stream import Stream

from features.errors import MediaError
from features.media.tracks import UNPROMISED_DURATION, MediaTrack, MediaTracks, promised_s

LAST_BYTES = 16  # an entry of the index of an AVI
MIN_DECODED_SHARE = 0.95  # of what the container promises; less is a broken file
DURATION_TAG = re.compile(r"(\d+):(\d+):([\d.]+)")


def check_video(
    container: InputContainer,
    tracks: MediaTracks,
    track: MediaTrack,
    n_intact: int,
    n_damaged: int,
    last_s: float,
) -> None:
    """Raise `MediaError` if less than 95 % of what the container promises of a video decoded.

    A container with an index (MP4, MOV) promises packets; those that an edit list hides, or that
    need frames before the first key frame, do not count. Others promise a duration: of the track
    if there is one, or else of the file, which is reached by any of its tracks.
    """
    stream = container.streams[track.index]
    intact_share = n_intact / (n_intact + n_damaged)
    if n_listed := n_indexed(container, stream):
        n_missing = n_listed - int(np.count_nonzero(track.packets.is_shown))
        expected, found, unit = int(np.count_nonzero(track.is_due)) + n_missing, n_intact, "frames"
    else:
        step_s = 1 / float(stream.average_rate) if stream.average_rate else 0.0
        ends_s = track.packets.end_s[track.packets.pts_s == last_s]
        end_s = max(last_s + step_s, float(np.max(ends_s, initial=-np.inf)))
        expected, covered_s = _promised_and_covered_s(container, tracks, stream, end_s)
        if container.format.name == "avi" and _riff_is_complete(tracks.path):
            expected = covered_s  # the length counts dropped frames at the end, too
        found, unit = covered_s * intact_share, "seconds"
    if intact_share < MIN_DECODED_SHARE <= found / max(expected, 1e-9):
        expected, found, unit = n_intact + n_damaged, n_intact, "frames"
    if found < MIN_DECODED_SHARE * expected:
        raise _incomplete(
            tracks,
            f"{found:.6g} of the {expected:.6g} {unit} that the container promises decode, fewer "
            f"than {MIN_DECODED_SHARE:.0%}",
        )


def check_audio(
    container: InputContainer, tracks: MediaTracks, track: MediaTrack, n_damaged: int
) -> None:
    """Raise `MediaError` if less than 95 % of the promised duration of the audio is there, or more
    than 5 % of its packets are damaged."""
    stream, n_packets = container.streams[track.index], len(track.packets.order)
    promised_s, covered_s = _promised_and_covered_s(container, tracks, stream, track.end_s)
    if n_listed := n_indexed(container, stream):  # edit lists repeat, delay and leave out
        covered_s = promised_s * np.count_nonzero(track.packets.is_shown) / n_listed
    is_short = covered_s < MIN_DECODED_SHARE * promised_s
    if is_short and container.format.name == "avi":
        is_short = not _riff_is_complete(
            tracks.path
        )  # the length may count silence ahead of the audio
    if is_short or n_damaged > (1 - MIN_DECODED_SHARE) * n_packets:
        raise _incomplete(
            tracks,
            f"{covered_s:.2f} of the {promised_s:.2f} seconds of audio that the container promises "
            f"are there, {n_damaged} of {n_packets} packets damaged",
        )


def check_any_track(container: InputContainer, tracks: MediaTracks) -> None:
    """Raise `MediaError` if no track reaches 95 % of the promised duration of the file."""
    duration_s = promised_s(container, tracks)
    found_s = tracks.end_s - tracks.start_s
    if found_s < MIN_DECODED_SHARE * duration_s:
        reason = f"{found_s:.2f} of the {duration_s:.2f} seconds that the container promises are"
        raise _incomplete(tracks, f"{reason} there")


def _incomplete(tracks: MediaTracks, reason: str) -> MediaError:
    return MediaError(
        f"{tracks.path}: {reason}: the file is truncated or damaged; replace it", "incomplete"
    )


def n_indexed(container: InputContainer, stream: Stream) -> int:
    """The packets of a track that the index of an MP4 lists and shows; 0 without an index."""
    if not container.format.name.startswith("mov") or not stream.frames:
        return 0
    return sum(not entry.is_discard for entry in stream.index_entries)


def _promised_and_covered_s(
    container: InputContainer, tracks: MediaTracks, stream: Stream, end_s: float
) -> tuple[float, float]:
    """Return the promised duration of a track that ends at `end_s`, and how much of it is there.

    If the container has no duration of the track, that of the file is promised, and covered by the
    track that ends last.
    """
    name, start_s = container.format.name, tracks.start_s
    if name in UNPROMISED_DURATION:
        return 0.0, 0.0
    if name == "avi" and stream.frames and stream.time_base:  # it counts dropped frames, too
        return float(stream.frames * stream.time_base), end_s
    if tag := DURATION_TAG.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska, from 0
        hours, minutes, seconds = (float(part) for part in tag.groups())
        return 3600 * hours + 60 * minutes + seconds - start_s, end_s - start_s
    if stream.duration and stream.time_base:
        track_start_s = float((stream.start_time or 0) * stream.time_base)
        return float(stream.duration * stream.time_base), end_s - track_start_s
    both = [track for track in (tracks.video, tracks.audio) if track]
    ends_s = [end_s, *(track.end_s for track in both if track.index != stream.index)]
    return promised_s(container, tracks), max(ends_s) - start_s


def _riff_is_complete(path: Path) -> bool:
    """Whether a file is as long as the headers of its RIFF chunks say, and does not end in zeros.

    A file above 1 GB has several. Zeros are what a download that was given up leaves.
    """
    n_bytes, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start < n_bytes:
            file.seek(start)
            head = file.read(8)
            if head[:4] != b"RIFF":
                break
            start += 8 + int.from_bytes(head[4:], "little")
        file.seek(max(0, n_bytes - LAST_BYTES))
        return 0 < start <= n_bytes and any(file.read())
