"""The help of each key of the stages, for Prefect's web form and for `vaflow run STAGE --help`.

Keys inside a config (`train`, `head`, `encoders`, `limits`, `baselines`) have their own docstrings:
see features/config.py.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter

from features.config import with_range

FunctionT = TypeVar("FunctionT", bound=Callable)

HELP = {
    "manifest": "JSON lines, one per annotated person; `vaflow index` writes it.",
    "store": "The feature store: a folder, or s3://bucket/prefix.",
    "encoders": "A feature set is made for each. Every key of an encoder decides numbers.",
    "device": "Where encoders run: auto takes the GPU where there is one.",
    "batch_size": "Items per batch of each encoder; null chooses by the device.",
    "readers": "Clips that are decoded at once; null takes one for each two cores.",
    "limits": "What decoding one clip may cost; beyond it the clip fails, and is named.",
    "force": "Make anew what is there and whole, too; try again what could not be decoded.",
    "dry_run": "Only tell what would be done, and why; nothing is written.",
    "runner": "Where shards of clips are encoded: in this process, or on a Dask cluster.",
    "scheduler": "Address of a Dask scheduler, as tcp://HOST:8786; null starts a cluster here.",
    "workers": "Workers of the Dask cluster that is started here; null chooses by the machine.",
    "only": "Ids of the clips to work on; none means all of the manifest.",
    "failed": "Work only on clips that failed or are quarantined, and try them again.",
    "run": "Folder of the run: config, weights, scores, predictions and report.",
    "head": "What is trained, and its switches (docs/heads.md describes them).",
    "train": "Settings of the training.",
    "visual": "Name of the visual feature set (clip-...); needed only where there are several.",
    "audio": "Name of the audio feature set (ast-...); needed only where there are several.",
    "max_length_mismatch": "How many more or fewer label rows than frames a clip may have.",
    "folds": "Into how many folds of people the clips are dealt; a head is trained for each.",
    "over": "The splits whose clips are dealt into folds; train leaves val to score on.",
    "split": "The split that is predicted and scored: train, val or test.",
    "sample": "The challenge's sample file: submission.txt gets its rows in its order.",
    "variants": "Plan of variants: a name in configs/ablations, or a YAML file.",
    "seeds": "Trainings of each row.",
    "baselines": "What is learnt and scored.",
    "output": "JSON file for the scores; null writes none.",
    "ablate.workers": "Trainings at once; null takes one per core.",
    "score_head.manifest": "JSON lines, one per annotated person; null takes the training's.",
    "score_head.store": "The feature store; null takes the training's.",
    "score_head.max_length_mismatch": (
        "Label rows more or fewer than frames; null takes the training's."
    ),
    "train_head.force": "Train anew where the run holds this very head already.",
    "train_ensemble.force": "Train anew where the run holds this very ensemble already.",
    "score_head.force": "Predict and score anew where the run holds this very score already.",
}
"""By key; if a key means something else to one stage, its function's name and a dot come first."""


def with_help(function: FunctionT) -> FunctionT:
    """The function of a flow, with an `Args:` section at the end of its docstring.

    Prefect reads the help of keys only from there. Raises `KeyError` for a key without help.
    """
    lines = [
        f"    {key}: {key_help(function.__name__, key, parameter.annotation)}"
        for key, parameter in inspect.signature(function).parameters.items()
    ]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *lines])
    return function


def key_help(function: str, key: str, annotation: Any) -> str:
    """The help of a key of a stage's function, with its bounds; `KeyError` if it has none."""
    text = HELP.get(f"{function}.{key}") or HELP[key]
    return with_range(text, TypeAdapter(annotation).json_schema())


def known_keys() -> set[str]:
    """The keys of all stages; test_flows.py compares them with the stages' functions."""
    return {key.rpartition(".")[2] for key in HELP}
