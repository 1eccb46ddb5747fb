"""The demo: every stage on a rendered set, with a check of the scores."""

import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from features.datasets.affwild2 import AffWild2Config
from features.datasets.base import render_index
from features.errors import Incomplete, InputError
from features.manifest.manifest import write_manifest
from features.synthetic import DEFAULT_CLIPS, DEFAULT_SECONDS, DEFAULT_SEED, is_rendered, render
from features.system.locks import file_lock
from flows.console import plain_console
from flows.demo.acceptance import score_rows, table
from flows.keys.settings import settings
from flows.messages import ccc_text
from flows.progress import progress_bar
from flows.stages import pipeline as pipeline_plainly
from models.metrics.scores import SplitScore
from models.runs.folder import SCORES, read_config

CONFIG = Path(__file__).parents[2] / "configs" / "experiments" / "demo.yaml"
SET: Any = {"clips": DEFAULT_CLIPS, "seconds": DEFAULT_SECONDS, "seed": DEFAULT_SEED}
QUIET = {  # the demo needs neither the network nor `vaflow serve`
    "PREFECT_PROFILE": "ephemeral",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


def demo(folder: Path) -> int:
    """Render, index, extract, train and score; returns 1 if the scores miss the band."""
    console = plain_console()
    keys = prepared(console, folder)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from flows.pipeline import pipeline  # imports Prefect, which takes a second

    pipeline(**keys)
    return judge(console, folder / "run")


def prepared(console: Console, folder: Path) -> dict[str, Any]:
    """Render and index the set if it is missing; returns the keys of the pipeline on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / ".lock"):  # several controls may start at once
        _render(console, folder / "dataset")
        _index(console, folder / "dataset", folder / "manifest.jsonl")
    return demo_keys(folder, "manifest.jsonl", "features.zarr", "run")


def demo_keys(folder: Path, manifest: str, store: str, run: str, *overrides: str) -> dict[str, Any]:
    """The keys of the demo's config with other paths, all of them in `folder`."""
    paths = [f"manifest={folder / manifest}", f"store={folder / store}", f"run={folder / run}"]
    return settings(pipeline_plainly, CONFIG, [*paths, *overrides])


def _render(console: Console, dataset: Path) -> None:
    if is_rendered(dataset, **SET):
        console.print(f"render: {dataset} is already there; nothing to render")
        return
    if dataset.exists():
        raise InputError(
            f"{dataset} holds a set other than the demo's, or one of another version of vaflow; "
            "remove it, or give another --folder"
        )
    console.print(f"render: {DEFAULT_CLIPS} clips into {dataset}, a minute or two ...")
    started_s = time.monotonic()
    with progress_bar("render") as on_clip:
        render(dataset, **SET, on_clip=on_clip)
    console.print(
        f"render: {DEFAULT_CLIPS} clips of about {DEFAULT_SECONDS:g} s, seed {DEFAULT_SEED}, in "
        f"{time.monotonic() - started_s:.1f} s"
    )


def _index(console: Console, dataset: Path, manifest: Path) -> None:
    indexed = AffWild2Config(root=dataset).index(manifest.parent)
    write_manifest(manifest, indexed.clips)
    for line in render_index(indexed):
        console.print(f"index: {line}")
    if indexed.left_out:
        raise Incomplete(f"{len(indexed.left_out)} clips of {dataset} were left out (see above)")


def judge(console: Console, run: Path) -> int:
    """Print the scores and the band; returns the exit status, 1 if the band does not hold."""
    started_s = time.monotonic()
    score = SplitScore(**json.loads((run / SCORES).read_text())["val"])
    rows = score_rows(read_config(run), score)
    console.print(f"ridge: the same rows, without a head, in {time.monotonic() - started_s:.1f} s")
    console.print(table(rows))
    holds = all(row.holds for row in rows)
    console.print(f"demo: scores, predictions, the head and report.html are in {run}")
    console.print(
        f"demo: val {ccc_text(score)}; "
        f"the band {'holds' if holds else 'does NOT hold (see the table)'}"
    )
    return 0 if holds else 1
