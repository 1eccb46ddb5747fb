"""The demo: a rendered set through every stage, and whether the scores are what they should be."""

import json
import os
import time
from pathlib import Path

from rich.console import Console

from features.datasets.affwild2 import AffWild2Config
from features.datasets.base import described
from features.errors import Incomplete
from features.manifest import write_manifest
from features.rendered import DEFAULT_CLIPS, DEFAULT_SECONDS, DEFAULT_SEED, render
from flows.reports import counting
from flows.settings import settings
from flows.stages import pipeline as pipeline_plainly

CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "demo.yaml"
LEAST_MEAN = 0.50  # val CCC that a working pipeline reaches on this set with room to spare
LEAST_EACH = 0.40
QUIET = {  # no analytics: the demo needs no network
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


def demo(folder: Path) -> int:
    """Render, index, extract, train and score; exit status 1 where the scores are too low."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    _render(console, folder / "dataset")
    _index(console, folder / "dataset", folder / "manifest.jsonl")
    keys = settings(
        pipeline_plainly,
        CONFIG,
        [
            f"manifest={folder / 'manifest.jsonl'}",
            f"store={folder / 'features.zarr'}",
            f"run={folder / 'run'}",
        ],
    )
    from flows.pipeline import pipeline  # Prefect: a second, that a mistake above need not wait for

    pipeline(**keys)
    return judge(console, folder / "run")


def _render(console: Console, dataset: Path) -> None:
    if dataset.exists():
        console.print(f"render: {dataset} is there already; nothing to render")
        return
    console.print(f"render: {DEFAULT_CLIPS} clips into {dataset}, a minute or two ...")
    began = time.monotonic()
    with counting("render") as on_clip:
        render(
            dataset,
            clips=DEFAULT_CLIPS,
            seconds=DEFAULT_SECONDS,
            seed=DEFAULT_SEED,
            on_clip=on_clip,
        )
    console.print(
        f"render: {DEFAULT_CLIPS} clips of about {DEFAULT_SECONDS:g} s, seed {DEFAULT_SEED}, in "
        f"{time.monotonic() - began:.1f} s"
    )


def _index(console: Console, dataset: Path, manifest: Path) -> None:
    indexed = AffWild2Config(root=dataset).index(manifest.parent)
    write_manifest(manifest, indexed.clips)
    for line in described(indexed):
        console.print(f"index: {line}")
    if indexed.left_out:
        raise Incomplete(f"{len(indexed.left_out)} clips of {dataset} were left out (see above)")


def judge(console: Console, run: Path) -> int:
    """Say how the scores stand to what they should be; the exit status."""
    scores = json.loads((run / "scores.json").read_text())["val"]
    valence, arousal, mean = (scores[f"ccc_{name}"] for name in ("valence", "arousal", "mean"))
    enough = mean >= LEAST_MEAN and min(valence, arousal) >= LEAST_EACH
    console.print(
        f"demo: val CCC valence {valence:.3f}, arousal {arousal:.3f}, mean {mean:.3f}; wanted: "
        f"mean at least {LEAST_MEAN}, each at least {LEAST_EACH}: "
        f"{'reached' if enough else 'NOT reached'}"
    )
    console.print(f"demo: scores, predictions and the head are in {run}")
    return 0 if enough else 1
