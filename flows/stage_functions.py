"""The stages by name, and the plain function of each, imported on first use.

The parameters of that function are the stage's keys: the command, YAML and the flow of the same
name take their schema from it. Nothing here imports Prefect.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Literal, assert_never, get_args

from features.errors import InputError

StageName = Literal[
    "extract-features",
    "train-head",
    "train-ensemble",
    "score-head",
    "pipeline",
    "baselines",
    "ablate",
]

STAGES: dict[StageName, str] = {
    "extract-features": "encode the clips of a manifest that the store lacks",
    "train-head": "train a head on stored features",
    "train-ensemble": "train a head per fold of subjects, and score them out of fold",
    "score-head": "predict a split with a trained head and score it",
    "pipeline": "extract-features, train-head and score-head, one after the other",
    "baselines": "train and score the simple models that a head must beat",
    "ablate": "train variants of a head over several seeds and compare them",
}
"""The help of each stage."""


def stage_function(name: StageName) -> Callable[..., Any]:
    """The function that runs a stage in this process."""
    match name:
        case "extract-features":
            from flows.stages import extract_features

            return extract_features
        case "train-head":
            from models.stages.train_head import train_head

            return train_head
        case "train-ensemble":
            from models.stages.train_ensemble import train_ensemble

            return train_ensemble
        case "score-head":
            from models.stages.score_head import score_head

            return score_head
        case "pipeline":
            from flows.stages import pipeline

            return pipeline
        case "baselines":
            from models.stages.baselines import score_baselines

            return score_baselines
        case "ablate":
            from models.stages.ablate import ablate

            return ablate
        case _:
            assert_never(name)


def stage_name(text: str) -> StageName:
    """The text, if it names a stage; raises `InputError` with the nearest name otherwise."""
    for name in get_args(StageName):
        if name == text:
            return name
    near = get_close_matches(text, STAGES, n=1, cutoff=0.0)[0]
    raise InputError(
        f"there is no stage {text!r}; did you mean {near!r}? The stages are {', '.join(STAGES)}"
    )
