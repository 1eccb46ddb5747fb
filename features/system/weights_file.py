"""A file of weights and its sha256, hashed once per process."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from features.errors import WeightsError
from features.system.files import sha256_of

FileState = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights as it was when it was hashed."""

    path: Path
    sha256: str
    state: FileState

    @classmethod
    def of(cls, path: Path) -> "WeightsFile":
        """Hash a file, unless this process has hashed it in this state before."""
        state = _state_of(path)
        return cls(path, _sha256_in_state(path, state), state)

    def check_unchanged(self) -> None:
        """Raises `WeightsError` if the file has changed since it was hashed.

        Called after loading: the digest in the spec is then that of the weights in memory.
        """
        if _state_of(self.path) != self.state:
            raise WeightsError(f"{self.path} changed while it was loaded; run the same again")


def _state_of(path: Path) -> FileState:
    """What differs after any change of the file: device, inode, size and times of change."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=16)
def _sha256_in_state(path: Path, state: FileState) -> str:
    return sha256_of(path)
