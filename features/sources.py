"""What a clip's media holds: a digest for each part, so that one changed byte is seen."""

import hashlib
from pathlib import Path

from features.crops import crop_files
from features.durable import sha256_of
from features.encoders.base import Modality
from features.errors import MediaError
from features.records import JsonObject, Source


class SourceDigests:
    """Digests of media files, each file read once."""

    def __init__(self) -> None:
        self._of_path: dict[Path, str] = {}

    def of(self, source: Source, modality: Modality) -> JsonObject:
        """What the features of one modality are made from, by part; blind to where it lies.

        Raises `MediaError` where a part is not there.
        """
        if modality == "audio":
            heard = source.audio or source.video
            return {"sound": self._file(heard) if heard else None}
        return {
            "video": self._file(source.video) if source.video else None,
            "frames": self._crops(source.frames) if source.frames else None,
            "fps": source.fps,
        }

    def _file(self, path: Path) -> str:
        if path not in self._of_path:
            self._of_path[path] = _sha256(path)
        return self._of_path[path]

    def _crops(self, folder: Path) -> str:
        """One digest for all crops of a folder, with their numbers."""
        if folder not in self._of_path:
            whole = hashlib.sha256()
            for number, path in crop_files(folder).items():
                whole.update(f"{number}:{_sha256(path)}\n".encode())
            self._of_path[folder] = whole.hexdigest()
        return self._of_path[folder]


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be read ({error.strerror}); correct the manifest or the file",
            "missing" if isinstance(error, FileNotFoundError) else "unreadable",
        ) from None
