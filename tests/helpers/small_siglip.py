"""A SigLIP of open_clip's own classes, seeded, small enough to build at once."""

import json
from pathlib import Path

import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from features.encoders.clip import ClipConfig, ClipPreprocessing

SIGLIP = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize_mode": "squash"}


def small_siglip(folder: Path) -> ClipConfig:
    """A SigLIP of few layers: a timm tower with an attention pool, a text without causal mask."""
    words = ["<pad>", "</s>", "<unk>", "a", "happy", "sad", "face"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 64,
            "vocab_size": len(words),
            "hf_tokenizer_name": str(folder / "tokenizer"),
            "width": 32,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    }
    name = f"siglip-{folder.name}"  # open_clip knows a model by its name
    (folder / f"{name}.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    keys = {key: value for key, value in config.items() if key != "custom_text"}
    save_file(CustomTextCLIP(**keys).state_dict(), folder / "siglip.safetensors")
    return ClipConfig(
        model=str(folder / f"{name}.json"),
        pretrained=str(folder / "siglip.safetensors"),
        preprocessing=ClipPreprocessing(**SIGLIP),
    )
