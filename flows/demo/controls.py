"""Controls on the demo's set: with labels, face or voice taken away, nothing is left to score.

Each trains anew and says its score last; a score that is not below `MAX_CONTROL_CCC` is a leak.
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
from flows.messages import describe
from flows.stages import PipelineResult, pipeline, require_complete
from models.metrics.scores import SplitScore

ControlName = Literal["labels", "face", "voice"]
MAX_CONTROL_CCC = 0.10  # val mean CCC
DERANGEMENTS = 5
SEED = 11  # of all that is dealt


def control(name: ControlName, folder: Path) -> int:
    """Run one control beside the demo in `folder`; exit status 1 where its score is too high."""
    console = plain_console()
    said, score = CONTROLS[name](console, folder, prepared(console, folder))
    reached = score < MAX_CONTROL_CCC
    console.print(
        f"control {name}: {said}: val mean CCC {score:.3f}, wanted below {MAX_CONTROL_CCC:.2f}: "
        f"{'reached' if reached else 'NOT reached'}"
    )
    return 0 if reached else 1


def _labels(console: Console, folder: Path, keys: dict[str, Any]) -> tuple[str, float]:
    """Labels dealt to other clips, on the features of the demo; several deals at once."""
    store, encoders = keys["store"], keys["encoders"]
    options = ExtractionOptions(store, encoders)
    extraction = require_complete(extract_features(keys["manifest"], options))
    console.print(extraction.summary())
    manifest = read_manifest(keys["manifest"])
    deals: list[dict[str, Any]] = []
    for deal in range(DERANGEMENTS):
        name = f"control-labels-{deal + 1}"
        permute_labels(manifest, folder / f"{name}.jsonl", SEED + deal)
        deals.append(demo_keys(folder, f"{name}.jsonl", Path(store).name, f"{name}-run"))
    scores = []
    for deal, score in enumerate(map_in_processes(_trained, deals), 1):
        scores.append(score.ccc_mean)
        console.print(
            f"control labels: derangement {deal} of {DERANGEMENTS}: val CCC valence "
            f"{score.ccc_valence:.3f}, arousal {score.ccc_arousal:.3f}, mean {score.ccc_mean:.3f}"
        )
    return f"whole curves dealt to other clips, mean of {DERANGEMENTS} deals", fmean(scores)


def _trained(keys: dict[str, Any]) -> SplitScore:
    """The score of the whole pipeline, where there is nothing to encode."""
    return _scored(pipeline(**keys))


def _face(console: Console, folder: Path, keys: dict[str, Any]) -> tuple[str, float]:
    """Faces painted over, by sight alone."""
    manifest = folder / "control-face.jsonl"
    paint_faces(read_manifest(keys["manifest"]), manifest)
    return "faces painted over, sight alone", _anew(console, folder, manifest.stem, "visual")


def _voice(console: Console, folder: Path, keys: dict[str, Any]) -> tuple[str, float]:
    """Another clip's sound, by sound alone."""
    manifest = folder / "control-voice.jsonl"
    permute_audio(read_manifest(keys["manifest"]), manifest, SEED)
    return "each clip with another's sound, sound alone", _anew(
        console, folder, manifest.stem, "audio", "train.loss.region_weight=0"
    )


def _anew(console: Console, folder: Path, name: str, fusion: str, *overrides: str) -> float:
    """The score of the whole pipeline on a control set."""
    keys = demo_keys(
        folder, f"{name}.jsonl", f"{name}.zarr", f"{name}-run", f"head.fusion={fusion}", *overrides
    )
    result = pipeline(**keys)
    for line in describe(result):
        console.print(line)
    return _scored(result).ccc_mean


def _scored(result: PipelineResult) -> SplitScore:
    """The val score that a pipeline ended with."""
    if result.score.score is None:
        raise InputError("the val split has no annotated row; render the set anew")
    return result.score.score


CONTROLS: dict[ControlName, Callable[[Console, Path, dict[str, Any]], tuple[str, float]]] = {
    "labels": _labels,
    "face": _face,
    "voice": _voice,
}
