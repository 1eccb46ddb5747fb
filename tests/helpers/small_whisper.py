"""A small seeded Whisper, as a folder of transformers."""

from pathlib import Path
from typing import Any

import torch

POSITIONS = 100  # two seconds
TINY_WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
    "max_source_positions": POSITIONS,
    "vocab_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def write_whisper(folder: Path, **config: Any) -> str:
    """The folder of a network whose weights are large enough that attention is not flat."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(0)
    network = WhisperForConditionalGeneration(WhisperConfig(**TINY_WHISPER | config))
    with torch.no_grad():
        for name, weight in network.model.encoder.named_parameters():
            if "proj" in name and weight.ndim == 2:
                weight.mul_(20)
    network.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=POSITIONS // 50).save_pretrained(folder)
    return str(folder)
