"""Negative controls on the demo's set: without its labels, faces or voices no head can score.

Each trains a head and prints its score last; a score of `MAX_CONTROL_CCC` or more is a leak.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rich.console import Console

from features.datasets.controls import paint_faces, permute_audio, permute_labels
from features.errors import InputError
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.manifest.manifest import read_manifest
from features.system.parallel import map_in_processes
from flows.console import plain_console
from flows.demo.demo import demo_keys, prepared
from flows.messages import ccc_text, describe
from flows.stages import PipelineResult, pipeline, require_complete
from models.metrics.scores import SplitScore

ControlName = Literal["labels", "face", "voice"]
MAX_CONTROL_CCC = 0.10  # val mean CCC
DERANGEMENTS = 5
SEED = 11  # of all permutations


def control(name: ControlName, folder: Path) -> int:
    """Run one control on the demo in `folder`; returns exit status 1 if its score is too high."""
    console = plain_console()
    change, score = CONTROLS[name](console, folder, prepared(console, folder))
    reached = score < MAX_CONTROL_CCC
    console.print(
        f"control {name}: {change}: val mean CCC {score:.3f}, wanted below {MAX_CONTROL_CCC:.2f}: "
        f"{'reached' if reached else 'NOT reached'}"
    )
    return 0 if reached else 1


def _labels(console: Console, folder: Path, keys: dict[str, Any]) -> tuple[str, float]:
    """The mean score with labels permuted over clips, trained several times at once."""
    options = ExtractionOptions(keys["store"], keys["encoders"])
    extraction = require_complete(extract_features(keys["manifest"], options))
    console.print(extraction.summary())
    manifest = read_manifest(keys["manifest"])
    runs: list[dict[str, Any]] = []
    for number in range(DERANGEMENTS):
        name = f"control-labels-{number + 1}"
        permute_labels(manifest, folder / f"{name}.jsonl", SEED + number)
        runs.append(demo_keys(folder, f"{name}.jsonl", Path(keys["store"]).name, f"{name}-run"))
    scores = []
    for number, score in enumerate(map_in_processes(_pipeline_score, runs), 1):
        scores.append(score.ccc_mean)
        console.print(
            f"control labels: derangement {number} of {DERANGEMENTS}: val {ccc_text(score)}"
        )
    return f"label curves permuted over clips, mean of {DERANGEMENTS} derangements", fmean(scores)


def _pipeline_score(keys: dict[str, Any]) -> SplitScore:
    return _val_score(pipeline(**keys))


def _face(console: Console, folder: Path, keys: dict[str, Any]) -> tuple[str, float]:
    """The score with painted faces, of the visual stream alone."""
    manifest = folder / "control-face.jsonl"
    paint_faces(read_manifest(keys["manifest"]), manifest)
    return "faces painted over, visual alone", _score(console, folder, manifest.stem, "visual")


def _voice(console: Console, folder: Path, keys: dict[str, Any]) -> tuple[str, float]:
    """The score with the sound of other clips, of the audio stream alone."""
    manifest = folder / "control-voice.jsonl"
    permute_audio(read_manifest(keys["manifest"]), manifest, SEED)
    return "each clip with another's sound, audio alone", _score(
        console, folder, manifest.stem, "audio", "train.loss.region_weight=0"
    )


def _score(console: Console, folder: Path, name: str, fusion: str, *overrides: str) -> float:
    keys = demo_keys(
        folder, f"{name}.jsonl", f"{name}.zarr", f"{name}-run", f"head.fusion={fusion}", *overrides
    )
    result = pipeline(**keys)
    for line in describe(result):
        console.print(line)
    return _val_score(result).ccc_mean


def _val_score(result: PipelineResult) -> SplitScore:
    if result.score.score is None:
        raise InputError("the val split has no annotated row; render the set again")
    return result.score.score


CONTROLS: dict[ControlName, Callable[[Console, Path, dict[str, Any]], tuple[str, float]]] = {
    "labels": _labels,
    "face": _face,
    "voice": _voice,
}
