"""The packets of a media file's tracks, as one pass without decoding finds them."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from jaxtyping import Bool, Float64, Int64

Stream = av.VideoStream | av.AudioStream

RESTARTING_CLOCKS = ("mpegts", "mpeg")  # formats with AVFMT_TS_DISCONT
DTYPES = (np.int64, np.float64, np.float64, np.float64, bool, bool)  # of the columns


@dataclass(frozen=True, slots=True)
class TrackPackets:
    """The packets of one track in the order of the file, which is that of decoding."""

    order: Int64[np.ndarray, "P"]
    """Where each packet is in the file, comparable between tracks; never falls.

    In transport and program streams the byte where it begins: there, a packet is complete only when
    the next one of its track begins, which may be in another recording. Otherwise its index.
    """
    pts: Float64[np.ndarray, "P"]
    """Presentation time in ticks of the container's clock; NaN if missing."""
    dts: Float64[np.ndarray, "P"]
    """Decoding time in ticks, or the presentation time where it is missing."""
    duration: Float64[np.ndarray, "P"]
    """In ticks; 0 if the container has none."""
    is_shown: Bool[np.ndarray, "P"]
    """False for what an edit list hides."""
    is_key: Bool[np.ndarray, "P"]
    time_base: Fraction
    """Seconds in a tick."""

    @property
    def pts_s(self) -> Float64[np.ndarray, "P"]:
        """Presentation times in seconds, equal to the last bit to `frame.time` of PyAV."""
        return self._seconds(self.pts)

    @property
    def dts_s(self) -> Float64[np.ndarray, "P"]:
        """Decoding times in seconds."""
        return self._seconds(self.dts)

    @property
    def end_s(self) -> Float64[np.ndarray, "P"]:
        """When each packet ends, in seconds."""
        return self._seconds(self.pts + self.duration)

    def _seconds(self, ticks: Float64[np.ndarray, "P"]) -> Float64[np.ndarray, "P"]:
        return ticks * self.time_base.numerator / self.time_base.denominator


def read_packets(container: InputContainer, streams: Iterable[Stream]) -> list[TrackPackets]:
    """Return the packets of some tracks of an open container; decodes nothing."""
    by_position = container.format.name in RESTARTING_CLOCKS
    columns = {stream.index: tuple(array(kind) for kind in "qdddbb") for stream in streams}
    n_packets = 0
    for packet in container.demux([container.streams[index] for index in columns]):
        if not packet.size:  # the end of a track, or a chunk that says that a frame was dropped
            continue
        pts = np.nan if packet.pts is None else packet.pts
        dts = pts if packet.dts is None else packet.dts
        shown, key = not packet.is_discard, packet.is_keyframe
        of_track = columns[packet.stream.index]
        order = n_packets
        if by_position:  # None for all but the first of the frames that share a packet of the file
            order = (
                packet.pos if packet.pos is not None else (of_track[0][-1] if of_track[0] else 0)
            )
        row = (order, pts, dts, packet.duration or 0, shown, key)
        n_packets += 1
        for column, value in zip(of_track, row, strict=True):
            column.append(value)
    return [
        TrackPackets(
            *(np.array(column, kind) for column, kind in zip(of_track, DTYPES, strict=True)),
            time_base=container.streams[index].time_base or Fraction(1),
        )
        for index, of_track in columns.items()
    ]
