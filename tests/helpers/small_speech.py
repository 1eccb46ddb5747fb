"""Small seeded networks of the family of wav2vec 2.0, as folders of transformers."""

from pathlib import Path

import torch

from features.encoders.speech_model import classes_of

TINY_SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def write_speech(folder: Path, kind: str, *, large: bool = False) -> str:
    """The folder of a network: as the base models are, or as the large ones."""
    from transformers import Wav2Vec2FeatureExtractor

    config_class, network = classes_of(kind)
    more = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if large else {}
    torch.manual_seed(0)
    network(config_class(**TINY_SPEECH, **more)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=large).save_pretrained(folder)
    return str(folder)
