"""What the benchmarks share: runs in turns, medians, and a report that names machine and command.

Machines are shared and noisy: what is compared runs in turns within one process, and what is
reported of each is the median; a ratio of two such medians is what a benchmark promises.
"""

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from features.system.parallel import n_cores


class Seconds(float):
    """How long a way took, as it counts itself."""


@dataclass(slots=True)
class Report:
    """What a benchmark found; `--json` writes it."""

    ratios: dict[str, float] = field(default_factory=dict)
    times_s: dict[str, list[float]] = field(default_factory=dict)
    """Every run, by what ran."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Whatever else was measured; the name says the unit."""
    machine: dict[str, object] = field(default_factory=lambda: _machine())
    command: str = field(default_factory=lambda: shlex.join(["python", *sys.argv]))

    def median_s(self, name: str) -> float:
        """The median of the runs of that name."""
        return statistics.median(self.times_s[name])

    def write(self, path: Path | None) -> None:
        """Print the report, and leave it as JSON where that is asked for."""
        for name in self.times_s:
            print(f"{name:40} {self.median_s(name):10.4g} s")
        for name, number in {**self.numbers, **self.ratios}.items():
            print(f"{name:40} {number:10.4g}")
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(self), indent=1))


def arguments(doc: str | None, **more: dict[str, object]) -> argparse.Namespace:
    """The command line of a benchmark: `--quick`, `--json FILE`, and whatever else it takes."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="within four minutes on two cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes")
    for name, settings in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)  # pyright: ignore[reportArgumentType]
    return parser.parse_args()


def in_turns(ways: Mapping[str, Callable[[], object]], n_rounds: int) -> dict[str, list[float]]:
    """Seconds of every run: each way once per round, in the order given, then in reverse.

    A way that returns `Seconds` says itself how long it took.
    """
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(n_rounds):
        order = list(ways.items())
        for name, way in order if index % 2 == 0 else reversed(order):
            began = time.perf_counter()
            said = way()
            took_s = time.perf_counter() - began
            times_s[name].append(said if isinstance(said, Seconds) else took_s)
            print(f"  {name}: {times_s[name][-1]:.4g} s", file=sys.stderr, flush=True)
    return times_s


def _machine() -> dict[str, object]:
    """What it ran on."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor,
        "cores": n_cores(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
