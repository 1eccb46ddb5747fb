"""How late a live prediction is, and how many frames a second it takes.

    python benchmarks/live.py --run RUN --video VIDEO [--seconds 60] [--json FILE]

RUN is a causal head, VIDEO a file with sound. The video is repeated as MPEG-TS and written to the
standard input of `vaflow predict RUN --live -` in real time, as a camera gives it. The delay counts
from the time when a frame was due to the arrival of its line here: it includes the pipe, the
decoder, the faces, the encoders, the sound that a frame waits for, and the head. The same stream is
also given as a file, as fast as it is taken: `real_time` is how many times faster than real time
that is.
"""

import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
import termios
import threading
import time
from array import array
from pathlib import Path

import numpy as np

from benchmarks.helpers.repeated_video import repeat
from benchmarks.helpers.timing import Report, arguments

START_S = 10.0  # the first windows of a stream, which are left out of the delay


def main() -> None:
    """Measure both, and print a report."""
    given = arguments(
        __doc__,
        run={"type": Path, "required": True},
        video={"type": Path, "required": True},
        seconds={"type": float, "default": 60.0},
        frames={"choices": ("faces", "whole"), "default": "faces"},
    )
    seconds = 20.0 if given.quick else given.seconds
    report = Report()
    command = [sys.executable, "-m", "flows", "predict", str(given.run), "--frames", given.frames]
    with tempfile.TemporaryDirectory() as folder:
        stream = Path(folder) / "stream.ts"
        due = repeat(given.video, stream, seconds)
        report.numbers["load before (1 min)"] = os.getloadavg()[0]
        at_once(report, [*command, "--live", str(stream)], due)
        in_real_time(report, [*command, "--live", "-"], stream, due)
        report.numbers["load after (1 min)"] = os.getloadavg()[0]
    report.write(given.json)


def at_once(report: Report, command: list[str], due: list[tuple[float, int]]) -> None:
    """How fast the stream is taken as a file; what comes before the first lines is left out."""
    rows = lines_of(subprocess.Popen(command, stdout=subprocess.PIPE))
    later = [(at_s, row) for at_s, row in rows if row["time_s"] - rows[0][1]["time_s"] >= START_S]
    (from_s, first), (until_s, last) = later[0], later[-1]
    took_s = until_s - from_s
    report.numbers["frames a second, as a file"] = (last["frame"] - first["frame"]) / took_s
    report.numbers["frames a second, of the stream"] = len(due) / (due[-1][0] - due[0][0])
    report.ratios["real_time"] = (last["time_s"] - first["time_s"]) / took_s


def in_real_time(
    report: Report, command: list[str], stream: Path, due: list[tuple[float, int]]
) -> None:
    """How late lines are if the bytes come in real time, and how many frames are dropped."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    content, began_s = stream.read_bytes(), [0.0]

    def feed(pipe=process.stdin) -> None:
        sent = 0
        for time_s, last_byte in due:
            if last_byte == sent:
                continue  # the muxer still holds the frame
            if sent:
                time.sleep(max(0.0, began_s[0] + time_s - time.monotonic()))
            pipe.write(content[sent:last_byte])
            pipe.flush()
            if not sent:
                wait_until_read(pipe.fileno())  # the encoders are loaded before
                began_s[0] = time.monotonic() - time_s
            sent = last_byte
        pipe.write(content[sent:])
        pipe.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    rows = lines_of(process)
    feeder.join()
    first_s = min(row["time_s"] for _, row in rows)
    late_s = {
        row["frame"]: at_s - began_s[0] - due[0][0] - (row["time_s"] - first_s)
        for at_s, row in rows
        if row["time_s"] - first_s >= START_S
    }
    numbers = list({row["frame"]: row for _, row in rows})
    delays = list(late_s.values())
    report.numbers["delay, median (s)"] = statistics.median(delays)
    report.numbers["delay, 95 % (s)"] = float(np.percentile(delays, 95))
    report.numbers["frames dropped (share)"] = 1 - len(numbers) / len(due)
    print(f"{len(numbers)} of {len(due)} frames predicted in real time")


def wait_until_read(pipe: int) -> None:
    """Wait until the reader of a pipe has taken what was written."""
    waiting = array("i", [1])
    while waiting[0]:
        time.sleep(0.01)
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)


def lines_of(process: subprocess.Popen) -> list[tuple[float, dict]]:
    """The lines of a process, and when each arrived."""
    assert process.stdout
    rows = [(time.monotonic(), json.loads(line)) for line in process.stdout]
    if process.wait():
        raise SystemExit(f"{process.args} ended with {process.returncode}")
    return rows


if __name__ == "__main__":
    main()
