"""What stream dropout is worth if a camera or a microphone is missing at use, on the demo.

    vaflow demo
    python benchmarks/missing_streams.py --folder data/demo

The demo's head is trained with each probability of `train.stream_dropout` and three seeds, and
scored on the val split as it is and with each stream taken away: 0 and not valid in every row.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from flows.demo.demo import demo_keys
from models.data.packed import PackedFeatures
from models.metrics.predict import concordance
from models.runs.run_split import open_split, read_split
from models.stages.train_head import train_head

PROBABILITIES = (0.0, 0.1, 0.3, 0.5)
SEEDS = (0, 1, 2)


def main() -> None:
    """Train what is not trained yet, and print a line per probability."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/demo"))
    parser.add_argument("--store", default=None, help="default: that of the demo")
    parser.add_argument("--runs", type=Path, default=Path("data/benchmarks/missing-streams"))
    arguments = parser.parse_args()
    keys: Any = demo_keys(arguments.folder, "manifest.jsonl", "features.zarr", "unused")
    given = {name: keys[name] for name in ("manifest", "store", "head", "train") if name in keys}
    given |= {"store": arguments.store} if arguments.store else {}
    print("| stream_dropout | val mean CCC | without the picture | without the sound |")
    print("|---|---|---|---|")
    for probability in PROBABILITIES:
        scores = []
        for seed in SEEDS:
            train = given["train"].model_copy(update={"stream_dropout": probability, "seed": seed})
            run = arguments.runs / f"{probability}-{seed}"
            train_head(run=run, **(given | {"train": train}))
            scores.append(score(run))
        means = (f"{fmean(each):.3f}" for each in zip(*scores, strict=True))
        print(f"| {probability} | {' | '.join(means)} |", flush=True)


def score(run: Path) -> list[float]:
    """The val mean CCC with all streams, and without each of them."""
    split = read_split(open_split(run, None, None, "val"))
    cases = [split.packed, *(without(split.packed, name) for name in split.packed.streams)]
    predictor = split.source.predictor
    return [concordance(predictor.predict(packed), packed).ccc()[2] for packed in cases]


def without(packed: PackedFeatures, name: str) -> PackedFeatures:
    """The rows without one stream."""
    stream = packed[name]
    empty = replace(stream, values=0 * stream.values, valid=stream.valid & False)
    return replace(packed, streams={**packed.streams, name: empty})


if __name__ == "__main__":
    main()
