"""The network of an AST and its feature extractor, from its files. Imports transformers."""

import json
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float, Float64
from safetensors import SafetensorError
from torch import Tensor
from transformers import ASTConfig as AstNetworkConfig
from transformers import ASTFeatureExtractor, ASTModel
from transformers.utils import logging as progress

from features.canonical_json import JsonObject
from features.encoders.ast_files import FBANK_HOP_S, FBANK_WINDOW_S, AstFiles
from features.errors import WeightsError, one_line

SPECIAL_TOKENS = 2  # class and distillation, ahead of the patches
MODEL_TYPE = "audio-spectrogram-transformer"
CLASSIFIER = "classifier."  # weights of a fine-tuned AST that an encoder does not use


def network_config(files: AstFiles) -> AstNetworkConfig:
    """The config of the network; `WeightsError` if it is not an AST's."""
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
            f"{files.config} is no config of an AST ({one_line(error)}); fetch the file again"
        ) from None


def load_extractor(files: AstFiles) -> ASTFeatureExtractor:
    """The feature extractor; `WeightsError` if its settings are not supported."""
    try:
        extractor = ASTFeatureExtractor.from_dict(_json(files.preprocessor))
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{files.preprocessor} is no preprocessing of an AST ({one_line(error)}); "
            "fetch the file again"
        ) from None
    assert isinstance(extractor, ASTFeatureExtractor)  # a tuple only with return_unused_kwargs
    if not extractor.do_normalize:
        raise WeightsError(
            f"{files.preprocessor} says do_normalize: false, which no published AST does and "
            "vaflow does not support; set mean and std"
        )
    return extractor


def step_centres_s(network: AstNetworkConfig) -> Float64[np.ndarray, "T"]:
    """The time of the centre of each step, from the start of its window.

    A step is centred in the frames of its patch, and a frame in its 25 ms.
    """
    assert isinstance(network.patch_size, int)  # AST's patches are square
    n_steps = 1 + (network.max_length - network.patch_size) // network.time_stride
    first_s = (network.patch_size - 1) / 2 * FBANK_HOP_S + FBANK_WINDOW_S / 2
    return first_s + network.time_stride * FBANK_HOP_S * np.arange(n_steps)


def step_features(model: ASTModel, windows: Float[Tensor, "N W M"]) -> Float[Tensor, "N T D"]:
    """The embeddings of the steps of each window: patch tokens averaged over frequency."""
    network = model.config
    assert isinstance(network.patch_size, int)
    n_bands = 1 + (network.num_mel_bins - network.patch_size) // network.frequency_stride
    tokens = model(input_values=windows).last_hidden_state[:, SPECIAL_TOKENS:]
    return tokens.unflatten(1, (n_bands, -1)).mean(dim=1)  # frequency first


def _json(path: Path) -> JsonObject:
    try:
        fields = json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON ({error}); fetch the file again") from None
    if not isinstance(fields, dict):
        raise WeightsError(f"{path} holds no JSON object; fetch the file again")
    return fields


def load(files: AstFiles) -> ASTModel:
    """The network with its weights, frozen, in float32.

    Raises `WeightsError` if weights are missing, unexpected or of another size, or if the file
    changed since it was hashed.
    """
    with_bar, verbosity = progress.is_progress_bar_enabled(), progress.get_verbosity()
    progress.disable_progress_bar()  # it would interrupt ours
    progress.set_verbosity_error()  # it would print a table of what our error says in one line
    try:
        model, report = ASTModel.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            files.weights.path.parent,
            config=network_config(files),
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported, and raised as an error below
        )
    except (RuntimeError, OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"{files.weights.path} holds no weights of the AST in {files.config} "
            f"({one_line(error)}); config and weights must be of one model"
        ) from error
    finally:
        progress.set_verbosity(verbosity)
        if with_bar:
            progress.enable_progress_bar()
    files.weights.check_unchanged()
    missing = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if missing:
        raise WeightsError(
            f"{files.weights.path} lacks weights of the AST in {files.config}, or has them in "
            f"another size, {missing[0]} for one; config and weights must be of one model"
        )
    unexpected = sorted(key for key in report["unexpected_keys"] if not key.startswith(CLASSIFIER))
    if unexpected:
        raise WeightsError(
            f"{files.weights.path} has weights that the AST in {files.config} does not have, "
            f"{unexpected[0]} for one; config and weights must be of one model"
        )
    return model.eval().requires_grad_(False)
