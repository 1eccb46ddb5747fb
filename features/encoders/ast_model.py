"""The network of an AST, and its feature extractor."""

import numpy as np
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import ASTConfig as AstNetworkConfig
from transformers import ASTFeatureExtractor, ASTModel

from features.encoders.ast_windows import FBANK_HOP_S, FBANK_WINDOW_S
from features.encoders.transformers_files import ModelFiles, load_network, read_json
from features.errors import WeightsError, one_line

SPECIAL_TOKENS = 2  # class and distillation, ahead of the patches
WHAT = "the AST"
MODEL_TYPE = "audio-spectrogram-transformer"
CLASSIFIER = "classifier."  # weights of a fine-tuned AST that an encoder does not use


def network_config(files: ModelFiles) -> AstNetworkConfig:
    """The config of the network; `WeightsError` if it is not an AST's."""
    fields = read_json(files.config)
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


def load_extractor(files: ModelFiles) -> ASTFeatureExtractor:
    """The feature extractor; `WeightsError` if its settings are not supported."""
    try:
        extractor = ASTFeatureExtractor.from_dict(read_json(files.preprocessor))
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


def load(files: ModelFiles) -> ASTModel:
    """The network with its weights, frozen, in float32; see `load_network` for the errors."""
    return load_network(ASTModel, network_config(files), files, WHAT, (CLASSIFIER,))
