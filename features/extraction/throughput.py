"""How fast feature sets were encoded here so far: sums over all runs, for an estimate.

<store>.work/throughput/<feature set>.json: rows, seconds of media and seconds of work, by device
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from features.canonical_json import canonical
from features.clip import Track
from features.store.work_folder import throughput_file, throughput_lock
from features.system.files import write_atomic
from features.system.locks import file_lock

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Throughput:
    """What came through, and how long it took."""

    rows: Amount = 0.0
    media_s: Amount = 0.0
    """From the first row to the last of each clip, and one step more."""
    seconds: Amount = 0.0

    def __add__(self, other: "Throughput") -> "Throughput":
        """Both together."""
        return Throughput(
            self.rows + other.rows, self.media_s + other.media_s, self.seconds + other.seconds
        )

    def seconds_for(self, media_s: float) -> float | None:
        """How long so much media may take; None where nothing was measured yet."""
        return media_s * self.seconds / self.media_s if self.media_s and self.seconds else None


BY_DEVICE = TypeAdapter(dict[str, Throughput])


def of_track(track: Track) -> Throughput:
    """What one track adds to the sums, but for the time it took."""
    n_rows = len(track.time_s)
    if n_rows < 2:  # no step to tell how long a row lasts
        return Throughput(rows=float(n_rows))
    span_s = float(track.time_s[-1] - track.time_s[0])
    return Throughput(float(n_rows), span_s * n_rows / (n_rows - 1))


def read_throughput(work: Path, set_name: str, device: str) -> Throughput:
    """What was measured of a feature set on a device; zeros where nothing was."""
    return _by_device(throughput_file(work, set_name)).get(device, Throughput())


def add_throughput(work: Path, set_name: str, device: str, more: Throughput) -> None:
    """Add to what was measured; several processes may."""
    place = throughput_file(work, set_name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(throughput_lock(work, set_name)):
        sums = _by_device(place)
        sums[device] = sums.get(device, Throughput()) + more
        content = {name: asdict(measured) for name, measured in sums.items()}
        write_atomic(place, canonical(content), work)


def _by_device(place: Path) -> dict[str, Throughput]:
    """What a file holds; nothing where it is not there or damaged: an estimate can wait."""
    try:
        return BY_DEVICE.validate_python(json.loads(place.read_bytes()))
    except (OSError, ValueError, RecursionError, ValidationError):
        return {}
