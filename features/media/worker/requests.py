"""The requests that a decoding process serves.

A request takes JSON values, arrays and the limits, and raises `MediaError`. It yields
pieces (lists of arrays that fit a slot of shared memory) and records (dataclasses).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32

from features.canonical_json import JsonObject
from features.media.alignment import AlignmentConfig
from features.media.audio import AudioEnd, AudioTap, decoded_audio
from features.media.changes import DecodingChanges, audio_changes, crop_changes, video_changes
from features.media.crops import read_image
from features.media.display import FrameConverter, Image
from features.media.limits import DecodeLimits
from features.media.samples import Block
from features.media.sampling import Sampling
from features.media.tracks import BY_FILE, TrackNumbers, find_tracks, first_frame_s
from features.media.video import (
    DecodedVideo,
    Probe,
    decoded_frames,
    frame_times,
    probe,
    require_video,
)
from features.timeline import FrameTimes

PIECE_FRAMES = 64
FIRST_FRAMES = 8  # of a clip's first piece; each next one has up to twice as many: a short wait
PIECE_BYTES = 16 * 2**20  # 24 frames of 360p, 2 of 1080p: they stay in the processor's cache
CHANNELS = 3
NO_FACE = np.full((5, 2), np.nan, np.float32)
DEFAULT_STEP_S = 0.04  # between frames without timestamps and without a declared rate: 25 fps

Record = AudioEnd | DecodingChanges | FrameTimes | Probe
Request = Callable[..., Iterator[list[np.ndarray] | Record]]
Numbered = tuple[int, av.VideoFrame]
Numbers = Sequence[int | None]  # `TrackNumbers`, which is a list in JSON


def slot_bytes(limits: DecodeLimits) -> int:
    """The size of a slot of shared memory: a piece, or the largest image if that is larger."""
    return max(PIECE_BYTES, CHANNELS * limits.pixels)


def decode_video(
    path: str,
    fps: float | None,
    sampling: JsonObject | None,
    audio_rate_hz: int | None,
    tracks: Numbers = BY_FILE,
    n_threads: int = 0,
    alignment: JsonObject | None = None,
    *,
    limits: DecodeLimits,
    landmarks_px: Float32[np.ndarray, "N 5 2"] | None = None,
) -> Iterator[list[Image] | list[Block] | AudioEnd | FrameTimes]:
    """Yield the undamaged frames that are sampled, and at the end the times of all frames.

    Without a sampling no frame is yielded; all are decoded, to check the file. With
    `audio_rate_hz`, blocks of audio come in between, and an `AudioEnd` if the audio is complete.
    With an `alignment`, the faces that have these landmarks are yielded in place of the frames;
    the landmarks are NaN where a frame has no face.
    """
    file, decoded, indices = Path(path), DecodedVideo(), []
    found = find_tracks(file, limits, TrackNumbers(*tracks))
    track, tap = require_video(found), AudioTap(found, audio_rate_hz)
    timed = _with_times(decoded_frames(found, decoded, n_threads, tap), fps)
    if sampling is None:
        images: Iterator[list[Image]] = ([] for _ in timed)
    else:
        sampled = Sampling.model_validate(sampling).select(timed)
        undamaged = _undamaged(file, sampled, decoded, indices, limits)
        if alignment is None or landmarks_px is None:
            images = pieces(image() for image in undamaged)
        else:
            config = AlignmentConfig.model_validate(alignment)
            known = chain(landmarks_px, repeat(NO_FACE))  # all frames are decoded in any case
            images = pieces(
                None if np.isnan(points).any() else config.crop(image(), points)
                for image, points in zip(undamaged, known, strict=False)
            )
    for piece in images:
        if piece:
            yield piece
        yield from ([block] for block in tap.take_blocks())
    times = frame_times(decoded, fps, file, track.note, found.clock_note)
    yield from ([block] for block in tap.take_blocks())
    if tap.end:
        yield tap.end
    rows = times.rows if sampling is None else times.rows[indices]
    yield FrameTimes(times.time_s, rows, times.note)


def probe_video(path: str, *, limits: DecodeLimits) -> Iterator[Probe]:
    """Yield what a container lists, without decoding."""
    yield probe(Path(path), limits)


def read_crops(paths: list[str], *, limits: DecodeLimits) -> Iterator[list[Image]]:
    """Yield the images of these files, in order."""
    yield from pieces(read_image(Path(path), limits) for path in paths)


def decode_audio(
    path: str,
    rate_hz: int,
    tracks: Numbers = BY_FILE,
    beside: str | None = None,
    *,
    limits: DecodeLimits,
) -> Iterator[list[Block] | AudioEnd]:
    """Yield the samples of the audio, then its end.

    Audio in a file of its own starts together with the video `beside` it: what is first in the
    audio's file has the presentation time of the video's first frame.
    """
    numbers = TrackNumbers(*tracks)
    own = numbers if beside is None else numbers._replace(video=None)
    found = find_tracks(Path(path), limits, own)
    for item in decoded_audio(found, rate_hz):
        if not isinstance(item, AudioEnd):
            yield [item]
        elif beside is None or item.start_s is None:
            yield item
        else:
            file_start_s = found.start_s if found.video else item.start_s
            zero_s = first_frame_s(Path(beside), limits, numbers)
            yield replace(item, start_s=zero_s + item.start_s - file_start_s)


def changes_since_1(
    paths: list[str], reading: str, tracks: Numbers, beside: str | None, *, limits: DecodeLimits
) -> Iterator[DecodingChanges]:
    """Yield what differs for the files of one modality since decoding 1.

    With the `reading` "crops" the files are crops; otherwise there is one, a video whose frames are
    encoded ("visual") or only timed ("times"), or a file with audio ("audio").
    """
    numbers = TrackNumbers(*tracks)
    files = [Path(path) for path in paths]
    if reading == "crops":
        yield DecodingChanges(crop_changes(files))
    elif reading == "audio":
        video = None if beside is None else Path(beside)
        yield DecodingChanges(audio_changes(files[0], limits, numbers, video))
    else:
        pixels = reading == "visual"
        yield DecodingChanges(video_changes(files[0], limits, numbers, pixels=pixels))


REQUESTS: Mapping[str, Request] = {
    "decode_video": decode_video,
    "decode_audio": decode_audio,
    "read_crops": read_crops,
    "probe_video": probe_video,
    "changes_since_1": changes_since_1,
}
RECORDS: Mapping[str, type[Record]] = {
    record.__name__: record for record in (AudioEnd, DecodingChanges, FrameTimes, Probe)
}


def pieces(images: Iterable[Image | None]) -> Iterator[list[Image]]:
    """Group images into lists of at most `PIECE_FRAMES` and `PIECE_BYTES`, or of one larger image.

    The first lists are shorter, so that the encoder starts early. For None an empty list comes at
    once, so that audio does not wait for the next image.
    """
    piece: list[Image] = []
    n_bytes, max_frames = 0, FIRST_FRAMES
    for image in images:
        if image is None:
            yield []
            continue
        if piece and (len(piece) == max_frames or n_bytes + image.nbytes > PIECE_BYTES):
            yield piece
            piece, n_bytes, max_frames = [], 0, min(2 * max_frames, PIECE_FRAMES)
        piece.append(image)
        n_bytes += image.nbytes
    if piece:
        yield piece


def _with_times(
    frames: Iterable[av.VideoFrame], fps: float | None
) -> Iterator[tuple[Numbered, float]]:
    """Yield each frame with its index and its time.

    A frame without a timestamp is one step later than the frame before it.
    """
    time_s = 0.0
    for index, frame in enumerate(frames):
        if frame.time is not None:
            time_s = frame.time
        elif index:
            time_s += 1 / fps if fps else DEFAULT_STEP_S
        yield (index, frame), time_s


def _undamaged(
    path: Path,
    frames: Iterable[Numbered],
    decoded: DecodedVideo,
    indices: list[int],
    limits: DecodeLimits,
) -> Iterator[Callable[[], Image]]:
    """Yield what converts each undamaged frame to RGB; append its index to `indices`."""
    converter = None
    for index, frame in frames:
        if not frame.is_corrupt:
            converter = converter or FrameConverter(path, decoded.pixel_aspect, limits)
            indices.append(index)
            yield partial(converter.image, frame)
