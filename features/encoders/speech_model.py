"""The networks of the family of wav2vec 2.0: their config, their preprocessing, their weights."""

from typing import Any

from huggingface_hub.errors import StrictDataclassError

from features.canonical_json import JsonObject
from features.encoders.transformers_files import ModelFiles, load_network, read_json
from features.errors import WeightsError, one_line

NETWORKS: dict[str, tuple[str, str]] = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("HubertConfig", "HubertModel"),
    "wavlm": ("WavLMConfig", "WavLMModel"),
}
"""The classes of transformers, which takes seconds to import, for the config and the network."""
ARCHITECTURE = (  # every key of the configs that affects the values; some families lack some
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "layer_norm_eps", "conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm",
    "feat_extract_activation", "do_stable_layer_norm", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "num_buckets", "max_bucket_distance", "conv_pos_batch_norm",
    "feat_proj_layer_norm",
)  # fmt: skip
UNUSED = (  # heads of pre-training and of fine-tuning, and what stands for a masked step
    "quantizer.", "project_q.", "project_hid.", "lm_head.", "classifier.", "projector.",
    "layer_weights", "masked_spec_embed", "label_embeddings_concat", "final_proj.",
)  # fmt: skip


def classes_of(kind: str) -> tuple[Any, Any]:
    """The classes of transformers for the config and the network of a kind."""
    import transformers

    config, network = NETWORKS[kind]
    return getattr(transformers, config), getattr(transformers, network)


def network_config(files: ModelFiles, kind: str) -> Any:
    """The config of the network; `WeightsError` if it is of another family, or not supported."""
    fields = read_json(files.config)
    found = fields.get("model_type")
    if found != kind:
        other = f"; encoders.N.kind={found} is its kind" if found in NETWORKS else ""
        raise WeightsError(
            f"{files.config} is the config of a {found!r}, not of a {kind!r}{other}; give the "
            f"folder of a {kind}"
        )
    try:
        network = classes_of(kind)[0].from_dict(fields)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{files.config} is no config of a {kind} ({one_line(error)}); fetch the file again"
        ) from None
    if getattr(network, "add_adapter", False):
        raise WeightsError(
            f"{files.config} says add_adapter: true, which changes the clock and is not supported; "
            "give the model that it was made from"
        )
    return network


def architecture(network: Any) -> JsonObject:
    """What determines the values of a network, as JSON."""
    keys = (key for key in ARCHITECTURE if hasattr(network, key))
    fields = {key: getattr(network, key) for key in keys}
    as_json = {key: list(v) if isinstance(v, list | tuple) else v for key, v in fields.items()}
    return {"name": NETWORKS[network.model_type][1], **as_json}


def settings_of(files: ModelFiles) -> JsonObject:
    """The sample rate, and whether each window is scaled to mean 0 and deviation 1."""
    fields = read_json(files.preprocessor)
    rate_hz, normalise = fields.get("sampling_rate"), fields.get("do_normalize", True)
    if not isinstance(rate_hz, int) or not isinstance(normalise, bool):
        raise WeightsError(
            f"{files.preprocessor} is no preprocessing of speech: sampling_rate is {rate_hz!r}, "
            f"do_normalize {normalise!r}; fetch the file again"
        )
    return {"rate_hz": rate_hz, "normalise": normalise}


def load(files: ModelFiles, kind: str) -> Any:
    """The network with its weights, frozen, in float32; see `load_network` for the errors."""
    config = network_config(files, kind)
    return load_network(classes_of(kind)[1], config, files, f"the {kind}", UNUSED)
