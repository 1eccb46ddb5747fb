"""What a clip's media holds: a digest for each part, so that one changed byte is seen."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from features.canonical_json import JsonObject
from features.clip import Source
from features.errors import MediaError
from features.freshness.digest_cache import DigestCache, file_stat
from features.media.crops import crop_files
from features.spec import Modality
from features.system.files import sha256_of

Seen = dict[str, str]  # digests of files that were looked at a moment ago


class SourceDigests:
    """Digests of media, each read once as long as it looks the same and the memo has no doubt."""

    def __init__(self, memo: DigestCache | None = None) -> None:
        self._memo = memo or DigestCache()

    def of(self, source: Source, modality: Modality, seen: Seen | None = None) -> JsonObject:
        """What the features of one modality are made from, by part; blind to where it lies.

        Raises `MediaError` where a part is not there. What is `seen` already is not looked at.
        """
        seen = Seen() if seen is None else seen
        if modality == "audio":
            heard = source.audio or source.video
            return {"sound": self._file(heard, seen) if heard else None}
        return {
            "video": self._file(source.video, seen) if source.video else None,
            "frames": self._crops(source.frames) if source.frames else None,
            "fps": source.fps,
        }

    def _file(self, path: Path, seen: Seen) -> str:
        name = str(path)  # sooner hashed than a path
        if name not in seen:
            seen[name] = self._remembered(path, lambda: [path], lambda: _sha256(path))
        return seen[name]

    def _crops(self, folder: Path) -> str:
        """One digest for all crops of a folder, with their numbers."""

        def read() -> str:
            whole = hashlib.sha256()
            for number, path in crop_files(folder).items():
                whole.update(f"{number}:{_sha256(path)}\n".encode())
            return whole.hexdigest()

        return self._remembered(folder, lambda: crop_files(folder).values(), read)

    def _remembered(
        self, path: Path, files: Callable[[], Iterable[Path]], read: Callable[[], str]
    ) -> str:
        """The digest of what lies at a path, read only where it is not known."""
        try:
            before = file_stat(files())
            if known := self._memo.find(path, before):
                return known
            digest = read()
            self._memo.keep(path, before, digest)  # what changes meanwhile looks different then
        except OSError as error:
            raise _unreadable(Path(error.filename or path), error) from None
        return digest


def _sha256(path: Path) -> str:
    if path.exists() and not path.is_file() and not path.is_dir():  # it may have no end
        raise MediaError(f"{path} is a pipe or a device; correct the manifest", "unreadable")
    try:
        return sha256_of(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> MediaError:
    """The media error of what the operating system does not give."""
    return MediaError(
        f"{path} cannot be read ({error.strerror}); correct the manifest or the file",
        "missing" if isinstance(error, FileNotFoundError) else "unreadable",
    )
