"""Encoders in their real sizes with random weights, as files that the product's own configs load.

How fast a network is does not depend on what it has learned. What is made already is not made
again.
"""

from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from features.encoders.ast import AstConfig
from features.encoders.base import Precision
from features.encoders.clip import ClipConfig
from features.synthetic.training.ast import AST_NAME
from features.synthetic.training.clip import CLIP_NAME

WEIGHTS = Path("data/benchmarks/weights")
SEED = 0
DEMO_CLIP = {"model": CLIP_NAME, "pretrained": "rendered"}
DEMO_AST = {"model": AST_NAME, "hop_s": 1.6}


def clip_config(model: str, precision: Precision, folder: Path = WEIGHTS) -> ClipConfig:
    """A CLIP that open_clip knows by name, such as ViT-B-32."""
    weights = folder / f"{model}.safetensors"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(SEED)
        network = open_clip.create_model(model, pretrained=None)
        save_file(network.state_dict(), weights)
    return ClipConfig(model=model, pretrained=str(weights), precision=precision)


def ast_config(precision: Precision, hop_s: float, folder: Path = WEIGHTS) -> AstConfig:
    """An AST in the sizes of the published one: 12 layers of 768, windows of 1024 x 128."""
    model = folder / "ast"
    if not (model / "model.safetensors").exists():
        torch.manual_seed(SEED)
        ASTModel(ASTConfig()).save_pretrained(model)
        ASTFeatureExtractor().save_pretrained(model)
    return AstConfig(model=str(model), precision=precision, hop_s=hop_s)
