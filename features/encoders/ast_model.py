"""An AST by its name: its three files, and the network and extractor that they make."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import ASTConfig as AstNetworkConfig
from transformers import ASTFeatureExtractor, ASTModel
from transformers.utils import logging as progress
from transformers.utils.hub import cached_file

from features.canonical_json import JsonObject
from features.errors import WeightsError

MODEL_TYPE = "audio-spectrogram-transformer"
CLASSIFIER = "classifier."  # weights that a fine-tuned AST has and an encoder leaves aside
SHIPPED = Path(__file__).parent / "weights"  # small encoders of this project, for trying


@dataclass(frozen=True, slots=True)
class AstFiles:
    """The three files of an AST."""

    config: Path
    preprocessor: Path
    weights: Path


def resolve_ast(model: str) -> AstFiles:
    """The files of a model: shipped, in a local folder, or in the cache of the hub."""
    shipped = SHIPPED / model
    folder = shipped if shipped.is_dir() else Path(model)
    names = ("config.json", "preprocessor_config.json", "model.safetensors")
    if folder.is_dir():
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise WeightsError(
                f"encoders.ast.model = {model!r}: the folder lacks {', '.join(missing)}; an AST "
                f"is the three files {', '.join(names)}"
            )
        return AstFiles(*(folder / name for name in names))
    try:
        return AstFiles(*(Path(str(cached_file(model, name))) for name in names))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"encoders.ast.model = {model!r} is no local folder, and its files are not in the "
            f"hub's cache and cannot be fetched ({_line(error)}). They are {', '.join(names)} of "
            f"https://huggingface.co/{model}: fetch them once with a network and HF_HUB_OFFLINE "
            "unset, or point at a local copy with model=FOLDER (encoders.1.model=FOLDER where it "
            f"is the second encoder). With vaflow comes {_shipped()}"
        ) from error


def _shipped() -> str:
    return ", ".join(repr(path.parent.name) for path in SHIPPED.glob("*/config.json"))


def network_config(files: AstFiles) -> AstNetworkConfig:
    """The sizes of the network; `WeightsError` where the config is no AST's."""
    fields = _json(files.config)
    if fields.get("model_type", MODEL_TYPE) != MODEL_TYPE:
        raise WeightsError(
            f"{files.config} is the config of a {fields['model_type']!r}, not of an AST "
            f"({MODEL_TYPE!r}); give the folder of an AST"
        )
    try:
        return AstNetworkConfig.from_dict(fields)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{files.config} is no config of an AST ({_line(error)}); fetch the file again"
        ) from None


def extractor_of(files: AstFiles) -> ASTFeatureExtractor:
    """What makes spectrograms for the network; `WeightsError` where it is not as published."""
    try:
        extractor = ASTFeatureExtractor.from_dict(_json(files.preprocessor))
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{files.preprocessor} is no preprocessing of an AST ({_line(error)}); fetch the file "
            "again"
        ) from None
    assert isinstance(extractor, ASTFeatureExtractor)  # a pair only where unused keys are asked for
    if not extractor.do_normalize:
        raise WeightsError(
            f"{files.preprocessor} says do_normalize: false, which no published AST does and "
            "vaflow does not support; set mean and std"
        )
    return extractor


def _json(path: Path) -> JsonObject:
    try:
        fields = json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON ({error}); fetch the file again") from None
    if not isinstance(fields, dict):
        raise WeightsError(f"{path} holds no JSON object; fetch the file again")
    return fields


def _line(error: Exception) -> str:
    """What a library says, in one line of a length that one reads."""
    return " ".join(str(error).split())[:300]


def load(files: AstFiles) -> ASTModel:
    """The network with its weights, frozen, in float32."""
    with_bar, verbosity = progress.is_progress_bar_enabled(), progress.get_verbosity()
    progress.disable_progress_bar()  # it would break into ours
    progress.set_verbosity_error()  # a table of what does not fit: our message says it
    try:
        model, report = ASTModel.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            files.weights.parent,
            config=network_config(files),
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
        )
    except (RuntimeError, OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"{files.weights} holds no weights of the AST in {files.config} ({_line(error)}); "
            "config and weights must be of one model"
        ) from error
    finally:
        progress.set_verbosity(verbosity)
        if with_bar:
            progress.enable_progress_bar()
    lacking = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if lacking:
        raise WeightsError(
            f"{files.weights} lacks weights of the AST in {files.config}, or has them in another "
            f"size, {lacking[0]} for one; config and weights must be of one model"
        )
    beyond = sorted(key for key in report["unexpected_keys"] if not key.startswith(CLASSIFIER))
    if beyond:
        raise WeightsError(
            f"{files.weights} has weights that the AST in {files.config} does not have, "
            f"{beyond[0]} for one; config and weights must be of one model"
        )
    return model.eval().requires_grad_(False)
