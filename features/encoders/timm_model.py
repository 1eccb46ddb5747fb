"""Resolves a model of timm by name: its preprocessing, its file of weights, and its network."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor

from features.canonical_json import JsonObject
from features.encoders.weights import (
    LOADING_ERRORS,
    check_digest,
    loading_problem,
    refuse_torchscript,
)
from features.errors import InputError, WeightsError, list_names, one_line
from features.system.weights_file import WeightsFile

FILTER = "checkpoint_filter_fn"  # of a model's module: brings published checkpoints to its names
COUNTER = ".num_batches_tracked"  # of a batch norm; changes no value, and some checkpoints lack it
MODES = ("center", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True, slots=True)
class ResolvedTimm:
    """A model with its file of weights."""

    name: str
    """With the tag, which determines the preprocessing."""
    weights: WeightsFile
    preprocessing: JsonObject
    """timm's data config: size, crop_pct, crop_mode, interpolation, mean and std."""
    classifier: tuple[str, ...]
    """The first parts of the names of weights that pooled features do not use."""


def resolve_timm(model: str, weights: Path, weights_sha256: str | None) -> ResolvedTimm:
    """The model and its weights.

    Raises `InputError` if timm has no such model or its preprocessing is not supported,
    `WeightsError` if the weights are no file, or not those of `weights_sha256`.
    """
    import timm
    from timm.data.config import resolve_data_config

    if not timm.is_model(model):
        near = ", ".join(get_close_matches(model, timm.list_models(), n=3, cutoff=0.3))
        raise InputError(
            f"encoders.timm.model = {model!r}: timm {timm.__version__} knows no such model; the "
            f"nearest are {near} (all: timm.list_models())"
        )
    try:
        config: Any = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        tags = ", ".join(timm.list_pretrained(f"{model.partition('.')[0]}.*")) or "none"
        raise InputError(
            f"encoders.timm.model = {model!r}: {one_line(error)} Those with a tag are {tags}"
        ) from None
    settings = resolve_data_config(pretrained_cfg=config.to_dict() if config else {})
    size = list(settings["input_size"][1:])
    is_square = size[0] == size[1] or settings["crop_mode"] == "squash"
    if (
        settings["crop_mode"] not in MODES
        or settings["interpolation"] not in INTERPOLATIONS
        or settings["input_size"][0] != 3
        or not is_square
    ):
        raise InputError(
            f"encoders.timm.model = {model!r} wants the preprocessing {settings}; supported are "
            f"three channels, the crop modes {' and '.join(MODES)} (center for squares) and the "
            f"interpolations {' and '.join(INTERPOLATIONS)}; choose another model or tag"
        )
    if not weights.is_file():
        raise WeightsError(
            f"encoders.timm.weights = '{weights}' is no file; give a state dict of {model!r}, such "
            f"as model.safetensors of https://huggingface.co/timm/{model}, or one of your own"
        )
    refuse_torchscript(weights)
    file = WeightsFile.of(weights)
    check_digest(file, weights_sha256, "encoders.timm.weights_sha256")
    names = getattr(config, "classifier", None) or ()
    return ResolvedTimm(
        name=f"{config.architecture}.{config.tag}" if config and config.tag else model,
        weights=file,
        preprocessing={
            "size": size,
            "crop_pct": settings["crop_pct"],
            "crop_mode": settings["crop_mode"],
            "interpolation": settings["interpolation"],
            "mean": list(settings["mean"]),
            "std": list(settings["std"]),
        },
        classifier=(names,) if isinstance(names, str) else tuple(names),
    )


def load(resolved: ResolvedTimm) -> Any:
    """The network without its classifier, with its weights, frozen, in float32.

    Raises `WeightsError` if the weights are not those of the model, or the file changed since it
    was hashed.
    """
    path = resolved.weights.path
    import timm
    from timm.models import load_state_dict

    model: Any = timm.create_model(resolved.name, pretrained=False, num_classes=0)
    try:
        state = load_state_dict(str(path), weights_only=True)
        if not _fits(state, model.state_dict()):
            state = _published(state, model)
    except LOADING_ERRORS as error:
        raise WeightsError(
            f"{path} holds no weights of {resolved.name!r} ({loading_problem(error)}); give the "
            "weights of this model, or the model of these weights"
        ) from error
    resolved.weights.check_unchanged()
    own = {k: v for k, v in model.state_dict().items() if not k.endswith(COUNTER)}
    unfit = sorted(k for k, v in own.items() if k not in state or state[k].shape != v.shape)
    if unfit:
        found = list_names(sorted(state))
        raise WeightsError(
            f"{path} lacks {len(unfit)} of the {len(own)} weights of {resolved.name!r}, or has "
            f"them in another size: {list_names(unfit)}. It has {found}; give the weights of this "
            "model, or the model of these weights, or rename them to the names of timm "
            f"(timm.create_model({resolved.name!r}, num_classes=0).state_dict())"
        )
    heads = tuple(f"{name}." for name in resolved.classifier)
    spare = (*heads, *(key for key in state if key.endswith(COUNTER)))
    unused = sorted(key for key in state if key not in own and not key.startswith(spare))
    if unused:
        raise WeightsError(
            f"{path} has {len(unused)} weights that {resolved.name!r} does not have: "
            f"{list_names(unused)}; give the model of these weights, or a file without them"
        )
    model.load_state_dict({key: state[key] for key in own}, strict=False)
    return model.eval().requires_grad_(False)


def _fits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return all(key in state and state[key].shape == own[key].shape for key in own)


def _published(state: Mapping[str, Tensor], model: Any) -> Mapping[str, Tensor]:
    """The weights by the names of timm, if the model's module knows those they were published by.

    Position embeddings of another image size are resampled, as timm does.
    """
    rename = getattr(sys.modules[type(model).__module__], FILTER, None)
    return state if rename is None else rename(dict(state), model)
