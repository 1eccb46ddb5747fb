"""What the decoder reads differently in a clip's media than it did when its record was made."""

from pathlib import Path

from features.clip import Source
from features.errors import MediaError
from features.freshness.digest_cache import DigestCache, file_stat
from features.media.crops import crop_files
from features.media.decoder import Decoder
from features.media.decoder_version import DECODING
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.media.tracks import TrackNumbers
from features.spec import Modality

FILES_PER_REQUEST = 1000


class MediaChanges:
    """Finds the clips whose records of an earlier decoder are stale; each file is read once.

    A file that cannot be read has no changes: its extraction reports that.
    """

    def __init__(
        self, cache: DigestCache | None = None, limits: DecodeLimits = DEFAULT_LIMITS
    ) -> None:
        self._cache, self._limits = cache or DigestCache(), limits
        self._decoder: Decoder | None = None

    def of(self, source: Source, modality: Modality) -> str:
        """Return what differs since decoding 1, in words; empty if nothing does."""
        tracks = TrackNumbers(source.video_track, source.audio_track)
        reasons: list[str] = []
        if modality == "audio":
            path = source.audio or source.video
            beside = source.video if source.audio else None
            if path:
                reasons.append(self._cached("audio", path, [path], tracks, beside))
        else:
            crops = source.frames if modality == "visual" else None
            if source.video:
                reading = "times" if crops else "visual"
                reasons.append(self._cached(reading, source.video, [source.video], tracks))
            if crops:
                files = list(crop_files(crops).values())
                reasons.append(self._cached("crops", crops, files, tracks))
        return ", ".join(reason for reason in reasons if reason)

    def close(self) -> None:
        """End the decoding process, if there is one."""
        if self._decoder is not None:
            self._decoder.close()

    def _cached(
        self,
        reading: str,
        path: Path,
        files: list[Path],
        tracks: TrackNumbers,
        beside: Path | None = None,
    ) -> str:
        """Return the changes of some files; kept among the digests, under a name of their own."""
        key = Path(f"{path}\0decoding {DECODING}, {reading}, {tracks}, {beside}")
        try:
            stat = file_stat([*files, *([beside] if beside else [])])
        except OSError:
            return ""
        reasons = self._cache.get(key, stat)
        if reasons is None:
            reasons = self._read(reading, files, tracks, beside)
            self._cache.put(key, stat, reasons)
        return reasons

    def _read(
        self, reading: str, files: list[Path], tracks: TrackNumbers, beside: Path | None
    ) -> str:
        if self._decoder is None:
            self._decoder = Decoder(self._limits)
        reasons: set[str] = set()
        try:
            for first in range(0, len(files), FILES_PER_REQUEST):
                some = files[first : first + FILES_PER_REQUEST]
                reasons |= set(self._decoder.changes(reading, some, tracks, beside))
        except MediaError:
            return ""
        return ", ".join(sorted(reasons))
