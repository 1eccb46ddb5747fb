"""The small AST, trained on synthetic voices with tags."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Int8
from torch import Tensor, nn
from torch.nn import functional
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from features.encoders.ast_model import step_centres_s, step_features
from features.encoders.ast_windows import FBANK_HOP_S
from features.synthetic.captions import TAGS
from features.synthetic.random_streams import ENCODER_BRANCH, stream
from features.synthetic.training.loop import HELD_OUT, WEIGHT_DECAY, fit
from features.synthetic.training_data import audio_chunk
from features.synthetic.voice import SYNTH_HZ
from features.system.parallel import map_in_processes

log = logging.getLogger(__name__)

AST_NAME = "vaflow-ast-small"
WINDOW_FRAMES = 320
INPUT: Any = {"max_length": WINDOW_FRAMES, "num_mel_bins": 128}
NETWORK = ASTConfig(
    hidden_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=384,
    patch_size=16,  # in frames and in bands, as the strides and as in the published AST
    frequency_stride=10,
    time_stride=10,
    **INPUT,
)
SOUND_CHUNKS = 90  # of 72 windows
AST_EPOCHS, AST_BATCH, AST_RATE = 3, 16, 1e-3


def window_chunk(
    seed: int, chunk: int
) -> tuple[Float16[np.ndarray, "N W M"], Int8[np.ndarray, "N T K"]]:
    """The spectrograms of the windows of one chunk, not normalised, and their tags."""
    raw = ASTFeatureExtractor(do_normalize=False, **INPUT)
    sounds, tags = audio_chunk(seed, chunk, WINDOW_FRAMES * FBANK_HOP_S, step_centres_s(NETWORK))
    rows = [
        raw(samples, sampling_rate=SYNTH_HZ, return_tensors="pt")["input_values"]
        for samples in sounds
    ]
    return torch.cat(rows).half().numpy(), tags


def train_ast(folder: Path, seed: int, workers: int) -> tuple[Path, dict[str, float]]:
    """Train the small AST, write it and its extractor; return the weights' path and metrics."""
    chunks = map_in_processes(partial(window_chunk, seed), range(SOUND_CHUNKS), workers)
    windows, tags = zip(*chunks, strict=True)
    n_test = round(HELD_OUT * SOUND_CHUNKS)
    spectrograms = torch.from_numpy(np.concatenate(windows[:-n_test])).float()
    mean, std = round(spectrograms.mean().item(), 4), round(spectrograms.std().item(), 4)
    extractor = ASTFeatureExtractor(mean=mean, std=std, **INPUT)
    log.info("%d windows for training", len(spectrograms))
    torch.manual_seed(seed)
    model = ASTModel(NETWORK)
    tagger = nn.Linear(model.config.hidden_size, len(TAGS))
    inputs = (spectrograms - mean) / (2 * std)
    fit_ast(model, tagger, inputs, np.concatenate(tags[:-n_test]), stream(seed, ENCODER_BRANCH, 3))
    test = torch.from_numpy(np.concatenate(windows[-n_test:])).float()
    test_inputs = (test - mean) / (2 * std)
    measured = measure_ast(model, tagger, test_inputs, np.concatenate(tags[-n_test:]))
    model.half().save_pretrained(folder / AST_NAME)
    extractor.save_pretrained(folder / AST_NAME)
    return folder / AST_NAME / "model.safetensors", measured


def fit_ast(
    model: ASTModel,
    tagger: nn.Linear,
    inputs: Float[Tensor, "N W M"],
    tags: Int8[np.ndarray, "N T K"],
    rng: np.random.Generator,
) -> None:
    """Train the model and the tagger to predict the tags of each step."""
    parameters = [*model.parameters(), *tagger.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=AST_RATE, weight_decay=WEIGHT_DECAY)
    sizes = {"n_rows": len(inputs), "batch": AST_BATCH, "n_epochs": AST_EPOCHS}

    def loss_of(rows: np.ndarray) -> Tensor:
        logits = tagger(step_features(model, inputs[rows]))
        targets = torch.from_numpy(tags[rows]).float()
        return functional.binary_cross_entropy_with_logits(logits, targets)

    model.train()
    fit("ast", optimiser, parameters, loss_of, rng=rng, **sizes)


@torch.inference_mode()
def measure_ast(
    model: ASTModel,
    tagger: nn.Linear,
    inputs: Float[Tensor, "N W M"],
    tags: Int8[np.ndarray, "N T K"],
) -> dict[str, float]:
    """The share of tags predicted correctly, and that of the more frequent value of each tag."""
    model.eval()
    parts = inputs.split(AST_BATCH)
    logits = torch.cat([tagger(step_features(model, part)) for part in parts]).numpy()
    likelier = np.maximum(tags.mean((0, 1)), 1 - tags.mean((0, 1)))
    return {
        "tag accuracy (tags are drawn with noise)": float(((logits > 0) == (tags > 0)).mean()),
        "tag accuracy of always saying the likelier": float(likelier.mean()),
    }
