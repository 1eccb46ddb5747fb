"""The encoder of a Whisper: its config, its spectrogram, its weights, its hidden layers."""

from collections.abc import Iterator
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from features.canonical_json import JsonObject
from features.encoders.transformers_files import ModelFiles, load_network, read_json
from features.errors import WeightsError, one_line

MODEL_TYPE = "whisper"
ARCHITECTURE = (  # every key of the config that affects values of the encoder
    "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins",
    "max_source_positions", "activation_function", "scale_embedding",
)  # fmt: skip
ENCODER = {r"^(model\.)?encoder\.": ""}  # in the names of a whole Whisper's weights
UNUSED = ("decoder.", "model.decoder.", "proj_out.")  # the half that writes text
FRAMES_PER_STEP = 2  # the stride of the second convolution; the first has 1


def network_config(files: ModelFiles) -> WhisperConfig:
    """The config of the network; `WeightsError` if it is not a Whisper's."""
    fields = read_json(files.config)
    if fields.get("model_type") != MODEL_TYPE:
        raise WeightsError(
            f"{files.config} is the config of a {fields.get('model_type')!r}, not of a "
            f"{MODEL_TYPE!r}; give the folder of a Whisper"
        )
    try:
        return WhisperConfig.from_dict(fields)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{files.config} is no config of a Whisper ({one_line(error)}); fetch the file again"
        ) from None


def load_extractor(files: ModelFiles, network: WhisperConfig) -> WhisperFeatureExtractor:
    """The spectrogram of a network; `WeightsError` if it is of another one, or not supported."""
    try:
        extractor = WhisperFeatureExtractor.from_dict(read_json(files.preprocessor))
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{files.preprocessor} is no preprocessing of a Whisper ({one_line(error)}); "
            "fetch the file again"
        ) from None
    assert isinstance(extractor, WhisperFeatureExtractor)  # a tuple with return_unused_kwargs
    if extractor.feature_size != network.num_mel_bins:
        raise WeightsError(
            f"{files.preprocessor} makes {extractor.feature_size} mel bands, {files.config} wants "
            f"{network.num_mel_bins}; both must be of one model"
        )
    if extractor.dither:
        raise WeightsError(
            f"{files.preprocessor} has dither = {extractor.dither}, which adds noise, so that no "
            "two extractions agree; set it to 0"
        )
    return extractor


def architecture(network: WhisperConfig) -> JsonObject:
    """What determines the values of a network, as JSON."""
    return {"name": "WhisperEncoder", **{key: getattr(network, key) for key in ARCHITECTURE}}


def load(files: ModelFiles) -> Any:
    """The encoder with its weights, frozen, in float32; see `load_network` for the errors.

    The file may hold a whole Whisper or its encoder alone.
    """
    network = network_config(files)
    return load_network(WhisperEncoder, network, files, "the Whisper", UNUSED, ENCODER)


def hidden_layers(
    encoder: Any, spectrograms: Float[Tensor, "N M F"]
) -> Iterator[Float[Tensor, "N T D"]]:
    """Yield what the convolutions give and then what each layer does, the last one normalised.

    That is `WhisperEncoder.forward`, which however refuses a spectrogram that is not padded to 30 s
    and lets every step attend to the padding. Here the positions end with the sound.
    """
    inputs = gelu(encoder.conv2(gelu(encoder.conv1(spectrograms)))).mT
    states = inputs + encoder.embed_positions.weight[: inputs.shape[1]]
    yield states
    for layer in encoder.layers[:-1]:
        yield (states := layer(states, None))
    yield encoder.layer_norm(encoder.layers[-1](states, None))
