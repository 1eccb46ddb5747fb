"""Resolves a CLIP by name: its config, weights and preprocessing, and its network.

open_clip is imported on first use: it takes seconds, and a config of an encoder needs none of it.
"""

import json
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from features.canonical_json import JsonObject
from features.encoders.weights import (
    LOADING_ERRORS,
    SHIPPED,
    check_digest,
    loading_problem,
    refuse_torchscript,
)
from features.errors import InputError, WeightsError
from features.system.weights_file import WeightsFile

SHIPPED_TAGS = {"rendered": "", "rendered-looks": "-looks"}
"""Tags of the shipped weights, and the endings of their files' names."""
PREPROCESSING_KEYS = ("mean", "std", "interpolation", "resize_mode")
HUB_FILE = "open_clip_model.safetensors"  # the default name in a repository of the hub


@dataclass(frozen=True, slots=True)
class ResolvedClip:
    """A model with its files."""

    name: str
    model_config: JsonObject
    weights: WeightsFile
    preprocessing: Any
    """A `PreprocessCfg` of open_clip."""


def resolve_clip(
    model: str, pretrained: str, weights_sha256: str | None, preprocessing: JsonObject | None = None
) -> ResolvedClip:
    """The model and its weights by name; `preprocessing` has what is given of open_clip's settings.

    Raises `InputError` if a name is unknown, `WeightsError` if the weights are not on this machine
    and cannot be downloaded, or are not those of `weights_sha256`.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    name = _register(model)
    model_config = open_clip.get_model_config(name)
    if model_config is None:
        known = [*open_clip.list_models(), *(path.stem for path in SHIPPED.glob("*.json"))]
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.3))
        raise InputError(
            f"encoders.clip.model = {name!r}: open_clip knows no such model; the nearest are "
            f"{near} ({len(known)} in all: open_clip.list_models())"
        )
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if tag and bool(tag.get("quick_gelu")) != bool(model_config.get("quick_gelu")):
        plain = name.removesuffix("-quickgelu")
        other = plain if plain != name else f"{name}-quickgelu"
        raise InputError(
            f"encoders.clip.model = {name!r} has another activation than its weights "
            f"{pretrained!r} were trained with; use {other!r}"
        )
    sides = model_config["vision_cfg"]["image_size"]
    published = {**(tag or _common_preprocessing(name)), **(preprocessing or {}), "size": sides}
    settings = PreprocessCfg(**merge_preprocess_dict(asdict(PreprocessCfg()), published))
    if settings.resize_mode not in ("shortest", "squash"):
        raise InputError(
            f"encoders.clip.pretrained = {pretrained!r} wants resize mode "
            f"{settings.resize_mode!r}; only 'shortest' and 'squash' are supported"
        )
    path = _weights_path(name, pretrained, tag)
    refuse_torchscript(path)
    weights = WeightsFile.of(path)
    check_digest(weights, weights_sha256, "encoders.clip.weights_sha256")
    return ResolvedClip(name, model_config, weights, settings)


def _register(model: str) -> str:
    """Register a model config that is a file with open_clip; return the model's name."""
    path = Path(model) if model.endswith(".json") else SHIPPED / f"{model}.json"
    if not path.is_file():
        if model.endswith(".json"):
            raise InputError(f"encoders.clip.model = {model!r}: there is no such file")
        return model
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"encoders.clip.model = {model!r} is not JSON ({error})") from None
    missing = [
        ".".join(keys)
        for keys in (("embed_dim",), ("vision_cfg", "image_size"), ("text_cfg", "vocab_size"))
        if not _has_keys(config, keys)
    ]
    if missing:
        raise InputError(
            f"encoders.clip.model = {model!r} is no model config of open_clip: it lacks "
            f"{', '.join(missing)}"
        )
    import open_clip

    known = open_clip.get_model_config(path.stem)
    if known is None:
        open_clip.add_model_config(path)
    elif known != config:
        raise InputError(
            f"encoders.clip.model = {model!r}: open_clip knows another model by the name "
            f"{path.stem!r}; rename the file"
        )
    return path.stem


def _has_keys(value: object, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def _common_preprocessing(name: str) -> dict[str, Any]:
    """The preprocessing of all published weights of a model; empty if there is not one of all.

    A file of weights has no tag that says it: a SigLIP is then not read as OpenAI's CLIP.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    found = [{k: v for k, v in each.items() if k in PREPROCESSING_KEYS} for each in known]
    return found[0] if found and all(each == found[0] for each in found) else {}


def _weights_path(name: str, pretrained: str, tag: dict[str, str]) -> Path:
    """The file of weights: shipped, local, or from the cache of the hub."""
    import open_clip

    shipped = SHIPPED / f"{name}{SHIPPED_TAGS.get(pretrained, '')}.safetensors"
    if pretrained in SHIPPED_TAGS and shipped.is_file():
        return shipped
    if Path(pretrained).is_file():
        return Path(pretrained)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise InputError(
            f"encoders.clip.pretrained = {pretrained!r} is neither a file nor a tag of {name!r} "
            f"(tags: {tags})"
        )
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # the hub's client raises many types
        repository, _, file = tag["hf_hub"].rpartition("/")  # every tag of open_clip 3 has one
        raise WeightsError(
            f"encoders.clip.pretrained = {pretrained!r}: the weights of {name!r} are not on this "
            f"machine and cannot be fetched ({' '.join(str(error).split())[:200]}). They are "
            f"{file or HUB_FILE} of https://huggingface.co/{repository}: fetch them once with a "
            "network and HF_HUB_OFFLINE unset, or point at a local copy with pretrained=FILE "
            "(encoders.0.pretrained=FILE where it is the first encoder)"
        ) from error


def load(resolved: ResolvedClip) -> Any:
    """The network with its weights, frozen, in float32.

    Raises `WeightsError` if the weights are not those of the model, or the file changed since it
    was hashed.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg

    expected = settings_of(resolved.preprocessing)
    try:
        model: Any = open_clip.create_model(
            resolved.name, pretrained=str(resolved.weights.path), force_preprocess_cfg=expected
        )
    except LOADING_ERRORS as error:
        raise WeightsError(
            f"{resolved.weights.path} holds no weights of {resolved.name!r} "
            f"({loading_problem(error)}); give the weights of this model, or the model of these "
            "weights"
        ) from error
    resolved.weights.check_unchanged()
    if (built := settings_of(PreprocessCfg(**model.visual.preprocess_cfg))) != expected:
        raise WeightsError(
            f"open_clip built {resolved.name!r} for the preprocessing {built}, its config says "
            f"{expected}; this version of open_clip is not one that vaflow knows"
        )
    return model.eval().requires_grad_(False)


def settings_of(preprocessing: Any) -> JsonObject:
    """The preprocessing as JSON, with the image size as [height, width]."""
    settings = json.loads(json.dumps(asdict(preprocessing)))
    size = settings["size"]
    return {**settings, "size": size if isinstance(size, list) else [size, size]}
