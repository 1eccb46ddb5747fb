"""What it gains on a CPU that freed memory stays with the process (features/allocation.py).

    python benchmarks/allocation.py [--quick] [--json FILE]

The bare ViT-B/16 and ViT-B/32 on 32 ready pictures, and a training step of a BiGRU and a TCN on 16
windows of 101 steps, before and after, in processes that take turns: the setting cannot be undone.
"""

import subprocess
import sys
import time
from statistics import median

import torch

from benchmarks.helpers.encoder_configs import clip_config
from benchmarks.helpers.extraction_jobs import load, normalised, see_bare
from benchmarks.helpers.timing import Report, arguments
from features.system.memory import keep_freed_memory
from models.nn.bigru import BiGru
from models.nn.tcn import Tcn

BATCH, N_RUNS = 32, 4
WIDTH, SOUND, STEPS, WINDOWS = 256, 768, 101, 16


def main() -> None:
    """Both ways in turns, each in a process of its own."""
    if sys.argv[1:2] == ["--one"]:
        return one(keep=sys.argv[2] == "kept")
    options = arguments(__doc__)
    report = Report()
    for _ in range(1 if options.quick else 3):
        for way in ("kept", "freed"):
            command = [sys.executable, __file__, "--one", way]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for line in done.stdout.splitlines():
                name, took_s = line.split()
                report.times_s.setdefault(f"{name}_{way}", []).append(float(took_s))
    for name in [name.removesuffix("_kept") for name in report.times_s if name.endswith("_kept")]:
        before_s, after_s = (report.median_s(f"{name}_{way}") for way in ("freed", "kept"))
        report.ratios[f"{name}_gain"] = before_s / after_s
    report.write(options.json)


def one(*, keep: bool) -> None:
    """The median of each, with or without the setting."""
    if keep:
        assert keep_freed_memory()
    for name in ("ViT-B-16", "ViT-B-32"):
        loaded = load(clip_config(name, "float32"))
        items = torch.randint(0, 256, (BATCH, 3, *loaded.encoder.size), dtype=torch.uint8)
        ready = normalised(loaded, items)
        _timed(name, lambda loaded=loaded, ready=ready: see_bare(loaded, ready, BATCH))
    for branch in (Tcn(SOUND, WIDTH), BiGru(SOUND, WIDTH)):
        x, valid = torch.randn(WINDOWS, STEPS, SOUND), torch.ones(WINDOWS, STEPS, dtype=torch.bool)
        _timed(
            f"{type(branch).__name__}_step",
            lambda branch=branch, x=x, valid=valid: branch(x, valid).sum().backward(),
        )


def _timed(name: str, run) -> None:
    """Print the median of some runs, after a warm-up."""
    times_s = []
    for _ in range(N_RUNS + 1):
        began = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - began)
    print(name, median(times_s[1:]))


if __name__ == "__main__":
    main()
