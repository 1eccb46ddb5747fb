"""Digests of a clip's media, by part."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from features.canonical_json import JsonObject
from features.clip import Source
from features.errors import MediaError
from features.freshness.digest_cache import DigestCache, file_stat
from features.media.crops import crop_files
from features.spec import Modality
from features.system.files import sha256_of


class SourceDigests:
    """Digests of media; a file is read again only if its stat changed."""

    def __init__(self, cache: DigestCache | None = None) -> None:
        self._cache = cache or DigestCache()

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

    def _file_digest(self, path: Path, known: dict[str, str]) -> str:
        name = str(path)  # hashed faster than a `Path`
        if name not in known:
            known[name] = self._cached(path, [path], partial(_sha256, path))
        return known[name]

    def _crops_digest(self, folder: Path) -> str:
        crops = crop_files(folder)
        return self._cached(folder, crops.values(), partial(_sha256_of_crops, crops))

    def _cached(self, path: Path, files: Iterable[Path], read: Callable[[], str]) -> str:
        """Return the digest of a path from the cache, or else read its files."""
        stat = file_stat(files)  # before reading, so that a change meanwhile is noticed
        digest = self._cache.get(path, stat)
        if digest is None:
            digest = read()
            self._cache.put(path, stat, digest)
        return digest


def _sha256_of_crops(crops: Mapping[int, Path]) -> str:
    digest = hashlib.sha256()
    for number, path in crops.items():
        digest.update(f"{number}:{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    if path.exists() and not path.is_file() and not path.is_dir():  # it may have no end
        raise MediaError(f"{path} is a pipe or a device; correct the manifest", "unreadable")
    try:
        return sha256_of(path)
    except OSError as error:
        raise _media_error(path, error) from None


def _media_error(path: Path | str, error: OSError) -> MediaError:
    return MediaError(
        f"{path} cannot be read ({error.strerror}); correct the manifest or the file",
        "missing" if isinstance(error, FileNotFoundError) else "unreadable",
    )
