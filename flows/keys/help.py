"""The help of each key of the stages, for Prefect's web form and for `vaflow run STAGE --help`.

Keys inside a config (`train`, `head`, `encoders`, `limits`, `baselines`) have their own docstrings:
see features/config.py.
"""

import inspect
from typing import Any

from pydantic import TypeAdapter

from features.config import with_range
from flows.keys.signature import FunctionT

SEVERAL_SETS = (
    "train_head",
    "score_baselines",
    "ablate",
    "sweep",
)  # stages that take several data sets
HELP = {
    "manifest": "JSON lines, one per annotated person; `vaflow index` writes it.",
    "store": "The feature store: a folder, or s3://bucket/prefix.",
    "encoders": "Encoders, one per feature set. Every key of an encoder affects the features.",
    "device": "Device of the encoders: auto takes the GPU if there is one.",
    "batch_size": "Items per batch of each encoder; null: chosen for the device.",
    "readers": "Clips that are decoded at once; null: one per two cores.",
    "limits": "Limits of decoding one clip; a clip that exceeds them fails and is listed.",
    "force": "Also redo what is complete, and retry clips that could not be decoded.",
    "frames": "Of a video without crops, encode the largest face in each frame, or whole frames.",
    "crops": "Folder to write the encoded faces to, as CLIP/00001.jpg, ...; null: none.",
    "dry_run": "Only report what would be done, and why; nothing is written.",
    "runner": "Where clips are encoded: in this process, or on a Dask cluster.",
    "scheduler": "Address of a Dask scheduler, such as tcp://HOST:8786; null: a new local cluster.",
    "workers": "Workers of a new local Dask cluster; null: chosen for the machine.",
    "only": "Ids of the clips to extract; empty: all of the manifest.",
    "failed": "Retry only clips that failed or are quarantined.",
    **{
        f"{stage}.manifest": "JSON lines, one per annotated person; a list of several data sets."
        for stage in SEVERAL_SETS
    },
    **{
        f"{stage}.store": "The feature store; a list of one for each of several data sets, or one."
        for stage in SEVERAL_SETS
    },
    "run": "Folder of the run: config, weights, scores, predictions and report.",
    "head": "The head to train (docs/heads.md describes its keys).",
    "train": "Settings of the training.",
    "streams": (
        "The feature set of each stream that a head reads, by a name of yours, such as "
        "{face: clip-..., voice: ast-...}; null: every set of the store."
    ),
    "max_length_mismatch": "Largest accepted difference of label rows and frames of a clip.",
    "folds": "Number of folds of subjects; a head is trained for each.",
    "over": "Splits to divide into folds; with train alone, val remains for scoring.",
    "split": "The split to predict and score: train, val or test.",
    "sample": "The challenge's sample file, whose rows submission.txt has in the same order.",
    "variants": "Plan of variants: a name in configs/ablations, or a YAML file.",
    "ablate.variants": (
        "Plan of variants: a name in configs/ablations, a YAML file, or leave-one-set-out."
    ),
    "seeds": "Number of trainings of each variant.",
    "space": (
        "Keys of head and train with the values of each: a name in configs/sweeps, or a YAML file."
    ),
    "trials": "Number of trials; more than before continue a sweep.",
    "sweep.seeds": "Trainings of each trial, whose mean is its score.",
    "generation": "Trials that are drawn from the same results, so that they can run at once.",
    "prune_after": (
        "Epochs from which on a trial below the median of earlier ones is pruned; null: none is."
    ),
    "people": "Numbers of people with labels; all of them are always a condition, too.",
    "noise": "Standard deviations of the error that is added to the training labels of all people.",
    "draws": "Draws of people and of label noise, and seeds of the trainings.",
    "baselines": "The baselines to fit and score.",
    "output": "JSON file for the scores; null: none is written.",
    "prompts": "The texts of the regions.",
    "scale": "Factor of the cosines between embeddings and texts, before the softmax.",
    "width_s": "Span of the moving mean in time.",
    "match": (
        "Mean and deviation that V and A are given: of the train split's labels, published ones "
        "of Aff-Wild2, or none; null: train if it has labels, else published."
    ),
    "videos": "Files, folders and patterns; of a folder's files, those with a video's suffix.",
    "zero_shot": "Predict from the region texts alone, without a run; needs encoders.",
    "affine": "zero_shot.json of a zero-shot prediction, whose texts and affine map are used.",
    "format": "Format of the tables; parquet needs pyarrow.",
    "overlay": "Also write each video with valence and arousal drawn beside the picture.",
    "predict.run": "Folder of the trained head or ensemble; null with zero_shot.",
    "predict.output": "Folder for tables, pictures, index.html and predictions.json.",
    "predict.encoders": "Encoders of the run; empty: those that the run names.",
    "predict.store": "The feature store; null: features.zarr in the output folder.",
    "predict.frames": "Encode the faces that are found, or whole frames.",
    "predict.people": "How many people of a video: all, largest, or a number.",
    "predict.force": "Also encode and predict again what is up to date.",
    "zero_shot.output": "Folder for predictions.csv and zero_shot.json.",
    "ablate.workers": "Trainings at once; null: one per core.",
    "learning_curve.workers": "Trainings at once; null: one per core.",
    "sweep.workers": "Trainings at once; null: one per core.",
    "score_head.manifest": "JSON lines, one per annotated person; null: that of the training.",
    "score_head.store": "The feature store; null: that of the training.",
    "score_head.max_length_mismatch": (
        "Largest accepted difference of label rows and frames; null: that of the training."
    ),
    "train_head.force": "Train again even if the run already has this head.",
    "train_ensemble.force": "Train again even if the run already has this ensemble.",
    "score_head.force": "Predict and score again even if the run already has this score.",
}
"""Help by key, or by `function.key` where a key has another meaning in one stage."""


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
