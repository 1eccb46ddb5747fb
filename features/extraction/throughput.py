"""The measured throughput of feature sets on this machine, summed over runs, for estimates.

<store>.work/throughput/<feature set>.json: rows, seconds of media and seconds of work, by device
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from features.canonical_json import canonical
from features.clip import Track
from features.store.work_folder import locks_folder
from features.system.files import write_atomic
from features.system.locks import file_lock

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Throughput:
    """How much was encoded, and how long it took."""

    rows: Amount = 0.0
    media_s: Amount = 0.0
    """Duration of the tracks: from the first to the last row of each, and one mean step more."""
    seconds: Amount = 0.0

    def __add__(self, other: "Throughput") -> "Throughput":
        return Throughput(
            self.rows + other.rows, self.media_s + other.media_s, self.seconds + other.seconds
        )

    def seconds_for(self, media_s: float) -> float | None:
        """Seconds of work that an amount of media takes; None if nothing was measured yet."""
        return media_s * self.seconds / self.media_s if self.media_s and self.seconds else None


BY_DEVICE = TypeAdapter(dict[str, Throughput])


def track_throughput(track: Track) -> Throughput:
    """The rows and the duration of a track, without the time it took."""
    n_rows = len(track.time_s)
    if n_rows < 2:  # the duration of a row is unknown
        return Throughput(rows=float(n_rows))
    span_s = float(track.time_s[-1] - track.time_s[0])
    return Throughput(float(n_rows), span_s * n_rows / (n_rows - 1))


def read_throughput(work: Path, set_name: str, device: str) -> Throughput:
    """The throughput of a feature set on a device; zeros if nothing was measured."""
    return _read(_path(work, set_name)).get(device, Throughput())


def add_throughput(work: Path, set_name: str, device: str, measured: Throughput) -> None:
    """Add a measurement; several processes may do so at once."""
    path = _path(work, set_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(locks_folder(work) / f"{set_name}.throughput"):
        sums = _read(path)
        sums[device] = sums.get(device, Throughput()) + measured
        content = {name: asdict(each) for name, each in sums.items()}
        write_atomic(path, canonical(content), work)


def _path(work: Path, set_name: str) -> Path:
    return work / "throughput" / f"{set_name}.json"


def _read(path: Path) -> dict[str, Throughput]:
    """The measurements by device; empty if the file is missing or damaged (test_dry_run.py)."""
    try:
        return BY_DEVICE.validate_python(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, ValidationError):
        return {}
