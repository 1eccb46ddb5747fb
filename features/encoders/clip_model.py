"""A CLIP by its name: config, file of weights, preprocessing, and the network that they make."""

import json
import pickle  # for the name of the error alone: weights are loaded by torch's safe loader
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors import SafetensorError

from features.canonical_json import JsonObject
from features.errors import InputError, WeightsError
from features.system.files import sha256_of

SHIPPED = Path(__file__).parent / "weights"  # small encoders of this project, for trying
SHIPPED_TAG = "rendered"
HUB_FILE = "open_clip_model.safetensors"  # of a repository of the hub that names no other
# what open_clip raises when a file and a model do not fit; an assertion where widths differ
LOADING_ERRORS = (
    RuntimeError,
    AssertionError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
    SafetensorError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True)
class ResolvedClip:
    """A config with its names looked up."""

    name: str
    model_config: JsonObject
    weights: Path
    preprocessing: PreprocessCfg


def resolve_clip(model: str, pretrained: str) -> ResolvedClip:
    """Look the model and its weights up; `InputError` or `WeightsError` where there are none."""
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
    known_preprocessing = merge_preprocess_dict(asdict(PreprocessCfg()), {**tag, "size": sides})
    preprocessing = PreprocessCfg(**known_preprocessing)
    if preprocessing.resize_mode not in ("shortest", "squash"):
        raise InputError(
            f"encoders.clip.pretrained = {pretrained!r} wants resize mode "
            f"{preprocessing.resize_mode!r}; only 'shortest' and 'squash' are supported"
        )
    return ResolvedClip(name, model_config, _weights_file(name, pretrained, tag), preprocessing)


def _register(model: str) -> str:
    """Tell open_clip of a model config that is a file, and return the model's name."""
    path = Path(model) if model.endswith(".json") else SHIPPED / f"{model}.json"
    if not path.is_file():
        if model.endswith(".json"):
            raise InputError(f"encoders.clip.model = {model!r}: there is no such file")
        return model
    try:
        own = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"encoders.clip.model = {model!r} is not JSON ({error})") from None
    lacking = [
        ".".join(place)
        for place in (("embed_dim",), ("vision_cfg", "image_size"), ("text_cfg", "vocab_size"))
        if not _holds(own, place)
    ]
    if lacking:
        raise InputError(
            f"encoders.clip.model = {model!r} is no model config of open_clip: it lacks "
            f"{', '.join(lacking)}"
        )
    known = open_clip.get_model_config(path.stem)
    if known is None:
        open_clip.add_model_config(path)
    elif known != own:
        raise InputError(
            f"encoders.clip.model = {model!r}: open_clip knows another model by the name "
            f"{path.stem!r}; rename the file"
        )
    return path.stem


def _holds(value: object, place: tuple[str, ...]) -> bool:
    """Whether there is something at a place inside objects of JSON."""
    for key in place:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def _weights_file(name: str, pretrained: str, tag: dict[str, str]) -> Path:
    """The file of weights: shipped, local, or from the cache of the hub."""
    if pretrained == SHIPPED_TAG and (SHIPPED / f"{name}.safetensors").is_file():
        return SHIPPED / f"{name}.safetensors"
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
    except Exception as error:  # the hub's client raises of many kinds; all mean the same here
        repository, _, file = tag["hf_hub"].rpartition("/")  # every tag of open_clip 3 has one
        raise WeightsError(
            f"encoders.clip.pretrained = {pretrained!r}: the weights of {name!r} are not on this "
            f"machine and cannot be fetched ({' '.join(str(error).split())[:200]}). They are "
            f"{file or HUB_FILE} of https://huggingface.co/{repository}: fetch them once with a "
            "network and HF_HUB_OFFLINE unset, or point at a local copy with pretrained=FILE "
            "(encoders.0.pretrained=FILE where it is the first encoder)"
        ) from error


def digest_of_weights(weights: Path, wanted: str | None) -> str:
    """sha256 of a file of weights; `WeightsError` where it is not the one that is wanted.

    What is no safetensors file is a pickle: torch reads no more than tensors of it
    (`weights_only=True`), and still it must be the file that the user means.
    """
    digest = sha256_of(weights)
    if wanted is None and weights.suffix != ".safetensors":
        raise WeightsError(
            f"{weights} is no safetensors file; if you trust its origin, say that it is the one "
            f"you mean with encoders.clip.weights_sha256={digest}, or convert it to safetensors"
        )
    if wanted not in (None, digest):
        raise WeightsError(
            f"{weights} has the sha256 {digest}, and encoders.clip.weights_sha256 says {wanted}: "
            "it is another file, or a damaged one; fetch it again, or correct the key"
        )
    return digest


def load(found: ResolvedClip) -> Any:
    """The network with its weights, frozen."""
    wanted = settings_of(found.preprocessing)
    try:
        model: Any = open_clip.create_model(
            found.name, pretrained=str(found.weights), force_preprocess_cfg=wanted
        )
    except LOADING_ERRORS as error:
        raise WeightsError(
            f"{found.weights} holds no weights of {found.name!r} ({_said(error)}); "
            "give the weights of this model, or the model of these weights"
        ) from error
    if (built := settings_of(PreprocessCfg(**model.visual.preprocess_cfg))) != wanted:
        raise WeightsError(
            f"open_clip built {found.name!r} for the preprocessing {built}, its config says "
            f"{wanted}; this version of open_clip is not one that vaflow knows"
        )
    return model.eval().requires_grad_(False)


def _said(error: Exception) -> str:
    """What went wrong in loading; torch's own words would advise to load what is not safe."""
    if isinstance(error, pickle.UnpicklingError | KeyError):
        return "it is no safetensors file, nor a pickle of weights alone"
    return " ".join(str(error).split())[:300]


def settings_of(preprocessing: PreprocessCfg) -> JsonObject:
    """The preprocessing as JSON, with both sides of the picture."""
    settings = json.loads(json.dumps(asdict(preprocessing)))
    size = settings["size"]
    return {**settings, "size": size if isinstance(size, list) else [size, size]}
