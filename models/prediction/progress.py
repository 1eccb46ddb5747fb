"""How far the reading of a long video is: frames, rate, and time left."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from features.errors import MediaError
from features.extraction.outcome import ClipRead
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from models.prediction.people import VideoPeople

TELL_EVERY_S = 1.0  # for each video; one that is read in less is not reported


@dataclass(frozen=True, slots=True)
class VideoProgress:
    """How far a video is, for the search for faces or for an encoder."""

    name: str
    what: str
    """The kind of the feature set, such as "faces"."""
    n_frames: int
    """Frames so far."""
    total: int | None
    """Frames that the container lists; None if it does not tell."""
    seconds: float
    """Since the first frame."""

    @property
    def frames_per_s(self) -> float:
        """The mean rate."""
        return self.n_frames / max(self.seconds, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Seconds that the other frames take at this rate; None if their number is not known."""
        return self.total and max(0, self.total - self.n_frames) / self.frames_per_s


class ProgressTeller:
    """Tells how far each video is, called by the threads that read."""

    def __init__(
        self,
        videos: Mapping[str, VideoPeople],
        limits: DecodeLimits,
        on_progress: Callable[[VideoProgress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`videos` are by the id of each clip; `clock` returns seconds."""
        self._videos, self._limits, self._on_progress = videos, limits, on_progress
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s: dict[tuple[str, str], float] = {}
        self._told_s: dict[tuple[str, str], float] = {}
        self._totals: dict[Path, int | None] = {}

    def __call__(self, read: ClipRead) -> None:
        """Report a video that has been read for a while, and not reported for a while."""
        if read.modality == "audio":
            return
        key, now_s = (read.clip, read.feature_set), self._clock()
        with self._lock:
            began_s = self._began_s.setdefault(key, now_s)
            if now_s - self._told_s.setdefault(key, now_s) < TELL_EVERY_S:
                return
            self._told_s[key] = now_s
            video, what = self._videos[read.clip], read.feature_set.partition("-")[0]
            total, seconds = self._total(video.path), now_s - began_s
            self._on_progress(VideoProgress(video.name, what, read.n_items, total, seconds))

    def _total(self, path: Path) -> int | None:
        if path not in self._totals:
            self._totals[path] = None
            with closing(Decoder(self._limits)) as decoder, suppress(MediaError):
                self._totals[path] = decoder.probe(path).n_frames
        return self._totals[path]
