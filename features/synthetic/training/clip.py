"""The small CLIP, a ResNet and a text transformer, trained on drawn faces with captions."""

import json
import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float, Int64
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from features.synthetic.captions import PART_NAMES, PARTS, write_caption
from features.synthetic.random_streams import ENCODER_BRANCH, stream
from features.synthetic.training.loop import HELD_OUT, WEIGHT_DECAY, fit
from features.synthetic.training_data import DrawnFaces, face_chunk, join_faces
from features.system.parallel import map_in_processes

log = logging.getLogger(__name__)

CLIP_NAME = "vaflow-rn-small"
CLIP_LOOKS_NAME = f"{CLIP_NAME}-looks"  # of the weights trained without words for feelings
SIDE_PX = 64
CLIP_MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIDE_PX, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
PICTURE_CHUNKS = 70  # of 400 pictures
CLIP_EPOCHS, CLIP_BATCH, CLIP_RATE = 8, 128, 1e-3


def text_features(model: open_clip.CLIP, tokens: Int64[Tensor, "N L"]) -> Float[Tensor, "N D"]:
    """Unit text embeddings; padding is cut off, which is exact since attention is causal."""
    tower: Any = model  # open_clip does not annotate these attributes
    length = int((tokens != 0).sum(dim=1).max())
    tokens = tokens[:, :length]
    x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    last = tower.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=1)]
    return functional.normalize(last @ tower.text_projection, dim=-1)


def normalised(pixels: np.ndarray) -> Float[Tensor, "N 3 H W"]:
    """Pixels as CLIP's input: channels first, normalised with CLIP's mean and deviation."""
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # (N, 3, H, W), not contiguous
    return (channels_first.float() / 255 - mean) / std


def train_clip(
    folder: Path, seed: int, workers: int, *, feelings: bool = True
) -> tuple[Path, dict[str, float]]:
    """Train the small CLIP, write it and its config; return the weights' path and metrics.

    Without `feelings`, its captions describe what is drawn and name no feeling.
    """
    draw = partial(face_chunk, seed, side_px=SIDE_PX)
    chunks = list(map_in_processes(draw, range(PICTURE_CHUNKS), workers))
    n_test = round(HELD_OUT * PICTURE_CHUNKS)
    train, test = join_faces(chunks[:-n_test]), join_faces(chunks[-n_test:])
    log.info("%d pictures for training", len(train.levels))
    (folder / f"{CLIP_NAME}.json").write_text(json.dumps(CLIP_MODEL, indent=2) + "\n")
    torch.manual_seed(seed)
    model = open_clip.CLIP(**CLIP_MODEL).to(memory_format=torch.channels_last)
    fit_clip(model, train, stream(seed, ENCODER_BRANCH, 2), feelings=feelings)
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    path = folder / f"{CLIP_NAME if feelings else CLIP_LOOKS_NAME}.safetensors"
    save_file(state, path)
    return path, measure_clip(model, test)


def fit_clip(
    model: open_clip.CLIP, faces: DrawnFaces, rng: np.random.Generator, *, feelings: bool
) -> None:
    """Train the model contrastively (Radford et al., 2021); every epoch draws new captions."""
    tokenize = open_clip.SimpleTokenizer()
    no_decay = [p for p in model.parameters() if p.ndim < 2 or p.shape[0] > 40_000]
    decay = [p for p in model.parameters() if not (p.ndim < 2 or p.shape[0] > 40_000)]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": no_decay, "weight_decay": 0}],
        lr=CLIP_RATE,
        betas=(0.9, 0.98),  # as Radford et al. (2021), appendix F
    )
    sizes = {"n_rows": len(faces.levels), "batch": CLIP_BATCH, "n_epochs": CLIP_EPOCHS}

    def loss_of(rows: np.ndarray) -> Tensor:
        captions = [write_caption(rng, faces.levels[row], feelings=feelings) for row in rows]
        images = normalised(faces.pixels[rows])
        if rng.random() < 0.5:
            images = images.flip(3)
        image = functional.normalize(model.encode_image(images), dim=-1)
        text = text_features(model, tokenize(captions))
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        logits = model.logit_scale.exp() * image @ text.T
        own = torch.arange(len(rows))
        by_image = functional.cross_entropy(logits, own)
        by_text = functional.cross_entropy(logits.T, own)
        return (by_image + by_text) / 2

    model.train()
    fit("clip", optimiser, list(model.parameters()), loss_of, rng=rng, **sizes)


@torch.inference_mode()
def measure_clip(model: open_clip.CLIP, faces: DrawnFaces) -> dict[str, float]:
    """The zero-shot accuracy for each part of the face, and for four feelings."""
    model.eval()
    tokenize = open_clip.SimpleTokenizer()
    pixels = np.array_split(faces.pixels, max(1, len(faces.pixels) // CLIP_BATCH))
    image = torch.cat([model.encode_image(normalised(part)) for part in pixels])
    image = functional.normalize(image, dim=-1)

    def choice(texts_by_class: list[list[str]]) -> np.ndarray:
        text = [text_features(model, tokenize(texts)).mean(0) for texts in texts_by_class]
        return (image @ functional.normalize(torch.stack(text), dim=-1).T).argmax(1).numpy()

    measured = {}
    for part, name in enumerate(PART_NAMES):
        low, _, high = PARTS[name]
        clear = faces.levels[:, part] != 1
        correct = choice([low, high])[clear] == (faces.levels[clear, part] == 2)
        measured[f"zero-shot {name}, low or high (chance about .5)"] = float(correct.mean())
    corners = {"sad": (-1, -1), "angry": (-1, 1), "peaceful": (1, -1), "thrilled": (1, 1)}
    clear = (np.abs(faces.felt_va) > 0.5).all(axis=1)
    truth = [list(corners.values()).index((v, a)) for v, a in np.sign(faces.felt_va[clear])]
    predicted = choice([[f"a person who looks {word}"] for word in corners])[clear]
    name = f"zero-shot feeling, {' / '.join(corners)} (chance .25)"
    measured[name] = float((predicted == truth).mean())
    return measured
