"""The tracks of a media file: which are decoded, and when each of their packets is due."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import av.stream
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from jaxtyping import Bool, Float64, Int64

from features.errors import MediaError
from features.media.clock import clock_shifts
from features.media.container import DECODERS, check_codec, codec_name, open_container
from features.media.limits import DecodeLimits, check_time
from features.media.packets import RESTARTING_CLOCKS, Stream, TrackPackets, read_packets

# attached pictures and thumbnails: a player shows none of them as the film
STILL = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
UNPROMISED_DURATION = ("mpegts", "mpeg", "aac", "mp3")  # FFmpeg estimates it from what is there
SAME_END_S = 0.1  # a few frames: the header may leave out how long the last one lasts

StreamT = TypeVar("StreamT", av.VideoStream, av.AudioStream)


class TrackNumbers(NamedTuple):
    """The tracks that a manifest asks for, each counted from 0 among those of its kind.

    None leaves the choice to the file: the track that a player would take.
    """

    video: int | None = None
    audio: int | None = None


BY_FILE = TrackNumbers()


@dataclass(frozen=True, slots=True)
class MediaTrack:
    """A track of a file."""

    index: int
    """Of the stream in the container."""
    packets: TrackPackets
    """With timestamps on the file's clock: jumps of the container's clock are taken out."""
    shift_ticks: Int64[np.ndarray, "P"]
    """What was added to the timestamps of each packet, in the time base of the stream."""
    note: str | None
    """Which of several tracks this is."""

    @property
    def is_due(self) -> Bool[np.ndarray, "P"]:
        """Which packets must give a frame.

        Not those that an edit list hides, nor those that need what came before the first key
        frame: a recording may start between two key frames.
        """
        packets = self.packets
        due = packets.is_shown.copy()
        keys = np.flatnonzero(packets.is_key)
        if len(keys):
            due[: keys[0]] = False
            due &= ~(packets.pts_s < packets.pts_s[keys[0]])
        return due

    @property
    def first_s(self) -> float | None:
        """The first presentation time; None if there is none."""
        times_s = self.packets.pts_s[self.is_due]
        return float(np.nanmin(times_s)) if np.isfinite(times_s).any() else None

    @property
    def end_s(self) -> float:
        """When the last packet ends; -inf without a timestamp."""
        ends_s = self.packets.end_s[self.packets.is_shown]
        return float(np.nanmax(ends_s)) if np.isfinite(ends_s).any() else -np.inf


@dataclass(frozen=True, slots=True)
class MediaTracks:
    """The tracks of a file that are decoded, within some limits."""

    path: Path
    limits: DecodeLimits
    video: MediaTrack | None
    audio: MediaTrack | None
    start_s: float
    """The first presentation time of both; 0 if there is none."""
    end_s: float
    n_jumps: int
    """How often the container's clock jumps."""

    @property
    def decoding_start_s(self) -> float:
        """The first decoding time of both; inf if there is none."""
        both = [track.packets.dts_s for track in (self.video, self.audio) if track]
        return min(
            (float(np.nanmin(dts_s)) for dts_s in both if not np.isnan(dts_s).all()), default=np.inf
        )

    @property
    def clock_note(self) -> str | None:
        """What is unusual about the clock, in words."""
        if not self.n_jumps:
            return None
        return f"the clock of the file jumps ({self.n_jumps}x): its parts are joined"


def find_tracks(path: Path, limits: DecodeLimits, numbers: TrackNumbers = BY_FILE) -> MediaTracks:
    """Return the tracks to decode, from one pass over the packets of a file; decodes nothing.

    The video track is the one a player shows: the default or the best one, no cover picture. The
    audio track belongs to it. A track whose codec cannot be decoded is passed over. Raises
    `MediaError` if the file is not media or exceeds the limits, or lacks a track that `numbers`
    asks for.
    """
    with open_container(path, limits) as container:
        streams = [s for s in container.streams if isinstance(s, av.VideoStream | av.AudioStream)]
        indices = [stream.index for stream in streams]
        by_index = dict(zip(indices, read_packets(container, streams), strict=True))
        video = _video_stream(path, container, by_index, numbers.video)
        audio = _audio_stream(path, container, video, numbers.audio)
        chosen = [stream for stream in (video, audio) if stream is not None]
        shifts_s, n_jumps = clock_shifts(
            [by_index[stream.index] for stream in chosen],
            may_restart=container.format.name in RESTARTING_CLOCKS,
        )
        tracks = {
            stream.type: _on_file_clock(container, stream, by_index[stream.index], shift_s)
            for stream, shift_s in zip(chosen, shifts_s, strict=True)
        }
        starts_s = [track.first_s for track in tracks.values() if track.first_s is not None]
        start_s = min(starts_s, default=0.0)
        end_s = max((track.end_s for track in tracks.values()), default=start_s)
        both = tracks.get("video"), tracks.get("audio")
        found = MediaTracks(path, limits, *both, start_s, end_s, n_jumps)
        check_time(path, promised_s(container, found), limits)
        return found


def first_frame_s(path: Path, limits: DecodeLimits, numbers: TrackNumbers = BY_FILE) -> float:
    """The presentation time of a video's first frame, without decoding; 0 if it is not known."""
    track = find_tracks(path, limits, numbers).video
    return (track.first_s if track else None) or 0.0


def promised_s(container: InputContainer, tracks: MediaTracks) -> float:
    """Return the duration in the container's header in seconds, from the first frame on; 0 if there
    is none.

    Matroska counts it from 0, wherever the first timestamp is. So do some writers of FLV: the file
    then ends when the header says. The others count it from the first decoding time.
    """
    name, duration_s = container.format.name, (container.duration or 0) / av.time_base
    if name in UNPROMISED_DURATION:
        return 0.0
    if name == "flv" and abs(tracks.end_s - duration_s) >= SAME_END_S:
        return duration_s - max(0.0, tracks.start_s - tracks.decoding_start_s)
    return duration_s - (max(0.0, tracks.start_s) if name in ("flv", "matroska,webm") else 0.0)


def demux(container: InputContainer, tracks: Sequence[MediaTrack]) -> Iterator[av.Packet]:
    """Yield the packets of some tracks, and at the end an empty packet of each.

    Their presentation times are on the file's clock.
    """
    shifts = {track.index: track.shift_ticks for track in tracks}
    n_read: Counter[int] = Counter()
    for packet in container.demux([container.streams[track.index] for track in tracks]):
        index = packet.stream.index
        if packet.size:
            ticks = int(shifts[index][n_read[index]])
            n_read[index] += 1
            if ticks and packet.pts is not None:
                packet.pts += ticks
        yield packet


def _on_file_clock(
    container: InputContainer,
    stream: Stream,
    packets: TrackPackets,
    shift_s: Float64[np.ndarray, "P"],
) -> MediaTrack:
    ticks = np.rint(shift_s / float(packets.time_base))
    shifted = replace(packets, pts=packets.pts + ticks, dts=packets.dts + ticks)
    return MediaTrack(
        stream.index, shifted, ticks.astype(np.int64), _choice_note(container, stream)
    )


def _video_stream(
    path: Path, container: InputContainer, packets: dict[int, TrackPackets], number: int | None
) -> av.VideoStream | None:
    if number is not None:
        return _numbered(path, container.streams.video, number, "video")
    films = _films(container)
    moving = [stream for stream in films if len(packets[stream.index].order) > 1]
    return _best(moving or films, container.streams.best("video"))


def _films(container: InputContainer) -> list[av.VideoStream]:
    """Return the video tracks that can be decoded, and no cover picture if there is a film."""
    usable = [stream for stream in container.streams.video if codec_name(stream) in DECODERS]
    return [stream for stream in usable if not stream.disposition & STILL] or usable


def streams_of(
    path: Path, container: InputContainer
) -> tuple[av.VideoStream | None, av.AudioStream | None]:
    """Return the video and the audio of a container whose packets are not known yet."""
    video = _best(_films(container), container.streams.best("video"))
    return video, _audio_stream(path, container, video, None)


def _audio_stream(
    path: Path, container: InputContainer, video: av.VideoStream | None, number: int | None
) -> av.AudioStream | None:
    if number is not None:
        return _numbered(path, container.streams.audio, number, "audio")
    best = container.streams.best("audio", related=video)
    candidates = [stream for stream in container.streams.audio if codec_name(stream) in DECODERS]
    return _best(candidates, best)


def _best(candidates: Sequence[StreamT], best: av.stream.Stream | None) -> StreamT | None:
    """Return FFmpeg's choice if it is among the candidates, or else the first of them."""
    return next((each for each in candidates if each is best), next(iter(candidates), None))


def _numbered(path: Path, streams: Sequence[StreamT], number: int, kind: str) -> StreamT:
    """Return the track that a manifest asks for; `MediaError` if it is missing or not decodable."""
    if number >= len(streams):
        raise MediaError(
            f"{path} has {len(streams)} {kind} tracks, and no number {number} (counted from 0); "
            f"correct `{kind}_track` in the manifest",
            "track",
        )
    check_codec(path, streams[number])
    return streams[number]


def _choice_note(container: InputContainer, chosen: Stream) -> str | None:
    """Say which track is decoded if there are several; None if there are not."""
    tracks = container.streams.video if chosen.type == "video" else container.streams.audio
    others = [
        f"{number} ({codec_name(stream)})"
        for number, stream in enumerate(tracks)
        if stream is not chosen and not stream.disposition & Disposition.attached_pic
    ]
    if not others:
        return None
    number = list(tracks).index(chosen)
    return f"{chosen.type} track {number} of {len(tracks)} is decoded, not {', '.join(others)}"


def joined(notes: Sequence[str | None]) -> str | None:
    """The notes as one; None without any."""
    return "; ".join(note for note in notes if note) or None
