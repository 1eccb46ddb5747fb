"""How much memory `vaflow predict` needs for a long video, and whether it grows with its length.

    python benchmarks/long_video.py --run RUN --video VIDEO [--minutes 10 120] [--json FILE]

VIDEO is repeated without encoding it again until it is so many minutes long, and is predicted with
its faces and its sound, without an overlay. The peak is that of all processes together, of the
memory that no file backs. It is checked that every frame has a row.
"""

import csv
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.helpers.peak_memory import peak_of
from benchmarks.helpers.repeated_video import repeat
from benchmarks.helpers.timing import Report, arguments

LOOK_S = 1.0
MINUTE_S = 60


def main() -> None:
    """Predict a video of each length, and print a report."""
    given = arguments(
        __doc__,
        run={"type": Path, "required": True},
        video={"type": Path, "required": True},
        minutes={"type": float, "nargs": "+", "default": [10, 120]},
    )
    report = Report()
    report.numbers["load before (1 min)"] = os.getloadavg()[0]
    for minutes in [2, 4] if given.quick else given.minutes:
        measure(report, given.run, given.video, minutes)
    report.numbers["load after (1 min)"] = os.getloadavg()[0]
    report.write(given.json)


def measure(report: Report, run: Path, video: Path, minutes: float) -> None:
    """Predict the video of one length; every frame must have a row."""
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.ts"
        n_frames = len(repeat(video, long, minutes * MINUTE_S))
        output = Path(folder) / "predictions"
        command = [sys.executable, "-m", "flows", "predict", str(run), str(long), "-o", str(output)]
        began = time.monotonic()
        _, peak_mib = peak_of(command, LOOK_S)
        took_s = time.monotonic() - began
        with (output / "long.csv").open(newline="") as table:
            frames = {row["frame"] for row in csv.DictReader(table)}
    if len(frames) != n_frames:
        raise SystemExit(f"{n_frames} frames, but {len(frames)} have rows")
    report.numbers[f"{minutes:g} minutes, peak (MiB)"] = peak_mib
    report.numbers[f"{minutes:g} minutes, frames"] = n_frames
    report.numbers[f"{minutes:g} minutes, frames a second"] = n_frames / took_s


if __name__ == "__main__":
    main()
