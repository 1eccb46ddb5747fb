"""What sound adds to sight on rendered sets that no setting was chosen on.

    python benchmarks/rendered_seeds.py --folder data/benchmarks
    python benchmarks/sound_over_sight.py --folder data/benchmarks

The demo's head was set up on the demo's own val split (seed 7). Here it is trained as it stands,
and with sight alone, on the sets of seeds 1 to 5, five training seeds each: first per set, as
`vaflow run ablate` reports it, then over the sets, each of which has people of its own.
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
    print("| seed | with sound | sight alone | sound adds (95 %, paired over subjects) |")
    print("|---|---|---|---|")
    gains: list[float] = []
    for seed in arguments.seeds:
        folder = arguments.folder / f"seed-{seed}"
        keys: Any = demo_keys(folder, "manifest.jsonl", "features.zarr", "sight-alone")
        kept = ("manifest", "store", "run", "head", "train", "max_length_mismatch")
        both, sight = ablate(
            variants="sight", **{key: keys[key] for key in kept if key in keys}
        ).rows
        found, low, high = sight.difference, sight.difference_low, sight.difference_high
        if None in (both.averaged, sight.averaged, found, low, high):
            raise VaflowError(f"{folder}: a training failed; see sight-alone/ablation.md there")
        gains.append(-found)
        print(
            f"| {seed} | {both.averaged:.3f} | {sight.averaged:.3f} | {-found:+.3f} "
            f"({-high:+.3f} to {-low:+.3f}) |",
            flush=True,
        )
    over = interval_over_seeds(gains)
    if over is not None:
        print(f"\nover the sets: {over.value:+.3f}, 95 % {over.low:+.3f} to {over.high:+.3f}")


if __name__ == "__main__":
    main()
