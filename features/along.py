"""The sound of a video, read along with its pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.container
import av.error

from features.errors import MediaError
from features.limits import DecodeLimits
from features.sound import Block, SoundTrack


class Along:
    """What takes the sound out of a container that is read for its pictures.

    Where anything is wrong with it, it is given up: read alone, it says what.
    """

    def __init__(self, path: Path, rate_hz: int, limits: DecodeLimits) -> None:
        self._path, self._rate_hz, self._limits = path, rate_hz, limits
        self._track: SoundTrack | None = None
        self._ready: list[Block] = []
        self._is_whole, self._start_s = False, None

    def beside(self, container: av.container.InputContainer) -> Callable[[av.Packet | None], None]:
        """What `decoded_frames` hands the packets to."""
        with self._giving_up():
            self._track = SoundTrack(
                self._path, container, self._rate_hz, self._limits, self._ready.append
            )
        return self._feed

    def blocks(self) -> Iterator[list[Block]]:
        """What was heard since it was last asked for."""
        for block in self._ready:
            yield [block]
        self._ready.clear()

    def end(self) -> tuple[bool, float | None]:
        """Whether the sound was heard to its end, and the time of its first sample, if any."""
        return self._is_whole, self._start_s

    def _feed(self, packet: av.Packet | None) -> None:
        if self._track is None:
            return
        with self._giving_up():
            if packet is not None:
                self._track.feed(packet)
                return
            if self._track.finish():
                self._start_s = self._track.start_s or 0.0
            self._is_whole = True

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (MediaError, av.error.FFmpegError) as error:
            if isinstance(error, MemoryError):
                raise  # of the process, not of the file
            self._track = None
