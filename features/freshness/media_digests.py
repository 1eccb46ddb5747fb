"""What is known of a clip's media: its digests, and what the decoder reads differently now."""

import hashlib
from functools import partial
from pathlib import Path

from features.canonical_json import JsonObject
from features.clip import Source
from features.errors import MediaError
from features.freshness.digest_cache import DigestCache, file_stat
from features.media.crops import crop_files
from features.media.decoder import Decoder
from features.media.decoder_version import DECODING
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.media.tracks import TrackNumbers
from features.spec import Modality
from features.system.files import sha256_of

FILES_PER_REQUEST = 1000


class SourceDigests:
    """Digests of media and changes in how it is decoded; a file is read again if its stat changed.

    `close` it if it was asked for `changes`, which are found by a decoding process.
    """

    def __init__(
        self, cache: DigestCache | None = None, limits: DecodeLimits = DEFAULT_LIMITS
    ) -> None:
        self._cache, self._limits = cache or DigestCache(), limits
        self._decoder: Decoder | None = None

    def of(
        self, source: Source, modality: Modality, known: dict[str, str] | None = None
    ) -> JsonObject:
        """Return the digests of the media of one modality, by part; they do not depend on paths.

        `known` has digests of files by path; new ones are added, so that a file that several
        modalities share is looked up once. Raises `MediaError` if a part is missing or cannot be
        read.
        """
        known = {} if known is None else known
        crops = source.frames if modality == "visual" else None
        try:
            if modality == "audio":
                path = source.audio or source.video
                digests: JsonObject = {"sound": self._file_digest(path, known) if path else None}
                choices = {
                    "audio_track": source.audio_track,
                    "audio_offset_s": source.audio_offset_s or None,
                    # an audio file is on the clock of the video, which starts with its first frame
                    "video_track": source.video_track if source.audio else None,
                }
            else:
                choices = {
                    "video_track": source.video_track,
                    "person": source.person if modality == "visual" else None,
                }
                digests = {
                    "video": self._file_digest(source.video, known) if source.video else None,
                    "frames": self._crops_digest(crops) if crops else None,
                    "fps": source.fps,
                }
        except OSError as error:
            raise _media_error(error.filename, error) from None
        # left out if not given, so that records made before these fields existed stay complete
        return digests | {name: value for name, value in choices.items() if value is not None}

    def changes(self, source: Source, modality: Modality) -> str:
        """Return what is read differently since decoding 1, in words; empty if nothing is.

        A file that cannot be read has no changes: its extraction reports that.
        """
        reasons: list[str] = []
        if modality == "audio":
            if path := source.audio or source.video:
                reasons.append(self._changes_of("audio", path, [path], source))
        else:
            crops = source.frames if modality == "visual" else None
            if source.video:
                reading = "times" if crops else "visual"
                reasons.append(self._changes_of(reading, source.video, [source.video], source))
            if crops:
                files = list(crop_files(crops).values())
                reasons.append(self._changes_of("crops", crops, files, source))
        return ", ".join(reason for reason in reasons if reason)

    def close(self) -> None:
        """End the decoding process, if there is one."""
        if self._decoder is not None:
            self._decoder.close()

    def _file_digest(self, path: Path, known: dict[str, str]) -> str:
        name = str(path)  # hashed faster than a `Path`
        if name not in known:
            known[name] = self._cache.lookup(path, file_stat([path]), partial(_sha256, path))
        return known[name]

    def _crops_digest(self, folder: Path) -> str:
        crops = crop_files(folder)

        def read() -> str:
            digest = hashlib.sha256()
            for number, path in crops.items():
                digest.update(f"{number}:{_sha256(path)}\n".encode())
            return digest.hexdigest()

        return self._cache.lookup(folder, file_stat(crops.values()), read)

    def _changes_of(self, reading: str, path: Path, files: list[Path], source: Source) -> str:
        """Return the changes of some files; kept among the digests, under a name of their own."""
        tracks = TrackNumbers(source.video_track, source.audio_track)
        beside = source.video if reading == "audio" and source.audio else None
        key = Path(f"{path}\0decoding {DECODING}, {reading}, {tracks}, {beside}")

        def read() -> str:
            self._decoder = self._decoder or Decoder(self._limits)
            reasons: set[str] = set()
            try:
                for first in range(0, len(files), FILES_PER_REQUEST):
                    some = files[first : first + FILES_PER_REQUEST]
                    reasons |= set(self._decoder.changes(reading, some, tracks, beside))
            except MediaError:
                return ""
            return ", ".join(sorted(reasons))

        try:
            stat = file_stat([*files, *([beside] if beside else [])])
        except OSError:
            return ""
        return self._cache.lookup(key, stat, read)


def _sha256(path: Path) -> str:
    if path.exists() and not path.is_file() and not path.is_dir():  # it may have no end
        raise MediaError(f"{path} is a pipe or a device; give a file", "unreadable")
    try:
        return sha256_of(path)
    except OSError as error:
        raise _media_error(path, error) from None


def _media_error(path: Path | str, error: OSError) -> MediaError:
    return MediaError(
        f"{path} cannot be read ({error.strerror}); correct its path or the file",
        "missing" if isinstance(error, FileNotFoundError) else "unreadable",
    )
