"""What audio adds to the visual features, on rendered sets that no setting was chosen on.

    python benchmarks/synthetic_seeds.py --folder data/benchmarks
    python benchmarks/audio_over_visual.py --folder data/benchmarks

The demo's head was set up on the demo's own val split (seed 7). Here it is trained as it stands,
and with the visual features alone, on the sets of seeds 1 to 5, five training seeds each: first per
set, as `vaflow run ablate` reports it, then over the sets, each of which has people of its own.
"""

import argparse
from pathlib import Path
from typing import Any

from features.errors import VaflowError
from flows.demo.demo import demo_keys
from models.metrics.intervals import interval_over_seeds
from models.stages.ablate import ablate

SEEDS = (1, 2, 3, 4, 5)


def main() -> None:
    """Train what is not trained yet, print a line per set, and one over all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    print("| seed | both | visual alone | audio adds (95 %, paired over subjects) |")
    print("|---|---|---|---|")
    gains: list[float] = []
    for seed in arguments.seeds:
        folder = arguments.folder / f"seed-{seed}"
        keys: Any = demo_keys(folder, "manifest.jsonl", "features.zarr", "visual-alone")
        kept = ("manifest", "store", "run", "head", "train", "max_length_mismatch")
        both, visual = ablate(
            variants="visual", **{key: keys[key] for key in kept if key in keys}
        ).rows
        added, low, high = visual.difference, visual.difference_low, visual.difference_high
        if None in (both.averaged, visual.averaged, added, low, high):
            raise VaflowError(f"{folder}: a training failed; see visual-alone/ablation.md there")
        gains.append(-added)
        print(
            f"| {seed} | {both.averaged:.3f} | {visual.averaged:.3f} | {-added:+.3f} "
            f"({-high:+.3f} to {-low:+.3f}) |",
            flush=True,
        )
    over = interval_over_seeds(gains)
    if over is not None:
        print(f"\nover the sets: {over.value:+.3f}, 95 % {over.low:+.3f} to {over.high:+.3f}")


if __name__ == "__main__":
    main()
