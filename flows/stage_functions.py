"""The stages by name, and the plain function of each, imported on first use.

The parameters of that function are the stage's keys: the command, YAML and the flow of the same
name take their schema from it. Nothing here imports Prefect.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from features.errors import InputError
from features.system.imports import without_collections

STAGES = {
    "extract-features": "encode the clips of a manifest that the store lacks",
    "train-head": "train a head on stored features",
    "train-ensemble": "train a head per fold of subjects, and score them out of fold",
    "score-head": "predict a split with a trained head and score it",
    "pipeline": "extract-features, train-head and score-head, one after the other",
    "baselines": "train and score the simple models that a head must beat",
    "predict": "predict any videos with a trained head, without a manifest or labels",
    "zero-shot": "predict clips from the region texts alone, without labels or training",
    "ablate": "train variants of a head over several seeds and compare them",
    "learning-curve": "train variants on few people and on noisy labels and compare them",
    "sweep": "search settings of a head in a space of values, and keep the best",
}
"""The help of each stage."""


def stage_function(name: str) -> Callable[..., Any]:
    """The function that runs a stage in this process; `KeyError` if there is no such stage."""
    with without_collections():
        from flows.stages import extract_features, pipeline
        from models.stages.ablate import ablate
        from models.stages.baselines import score_baselines
        from models.stages.learning_curve import learning_curve
        from models.stages.predict import predict
        from models.stages.score_head import score_head
        from models.stages.sweep import sweep
        from models.stages.train_ensemble import train_ensemble
        from models.stages.train_head import train_head
        from models.stages.zero_shot import zero_shot

    functions = {
        "extract-features": extract_features,
        "train-head": train_head,
        "train-ensemble": train_ensemble,
        "score-head": score_head,
        "pipeline": pipeline,
        "baselines": score_baselines,
        "predict": predict,
        "zero-shot": zero_shot,
        "ablate": ablate,
        "learning-curve": learning_curve,
        "sweep": sweep,
    }
    return functions[name]


def stage_name(text: str) -> str:
    """The text, if it names a stage; raises `InputError` with the nearest name otherwise."""
    if text in STAGES:
        return text
    near = get_close_matches(text, STAGES, n=1, cutoff=0.0)[0]
    raise InputError(
        f"there is no stage {text!r}; did you mean {near!r}? The stages are {', '.join(STAGES)}"
    )
