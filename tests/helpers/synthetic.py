"""A tiny seeded CLIP, and a store with valence in the visual and arousal in the audio features."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from features.clip import Clip, Track
from features.encoders.clip import ClipConfig
from features.manifest.manifest import write_manifest
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore
from features.system.files import sha256_of

WIDTH_VISUAL = 16
WIDTH_AUDIO = 12
FRAME_S = 0.04
STEP_S = 0.1
N_FRAMES = 130
SPLITS = ("train",) * 6 + ("val",) * 2 + ("test",)

TINY_CLIP = {
    "embed_dim": WIDTH_VISUAL,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}

AST_SPEC = FeatureSpec(
    kind="ast",
    model={"name": "planted"},
    weights_sha256="0" * 64,
    preprocessing={},
    sampling={"hop_s": STEP_S},
    precision="float32",
)


@dataclass(frozen=True)
class Planted:
    """The files of the data set."""

    manifest: Path
    store: str
    clip: ClipConfig
    visual: FeatureSpec


def tiny_model(seed: int = 0) -> open_clip.CLIP:
    """A CLIP of open_clip's own classes, frozen, small enough to build at once."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return open_clip.CLIP(**TINY_CLIP).eval().requires_grad_(False)


def write_tiny_clip(folder: Path, seed: int = 0) -> ClipConfig:
    """Write that CLIP as a model config and a weights file."""
    model, weights = folder / "tiny-planted.json", folder / f"tiny-{seed}.safetensors"
    model.write_text(json.dumps(TINY_CLIP))
    save_file(tiny_model(seed).state_dict(), weights)
    return ClipConfig(model=str(model), pretrained=str(weights))


def visual_spec(config: ClipConfig) -> FeatureSpec:
    """A spec with the weights of the tiny CLIP, so that its text encoder fits the features."""
    return FeatureSpec(
        kind="clip",
        model={"name": "planted"},
        weights_sha256=sha256_of(Path(config.pretrained)),
        preprocessing={},
        sampling={"rows": "every frame"},
        precision="float32",
    )


def wander(rng: np.random.Generator, time_s: np.ndarray) -> np.ndarray:
    """A smooth curve in [-.8, .8]: the mean of three slow sines."""
    phases = rng.uniform(0, 2 * np.pi, 3)
    periods_s = rng.uniform(1.5, 4.0, 3)
    return 0.8 * np.mean(np.sin(2 * np.pi * time_s[:, None] / periods_s + phases), axis=1)


def track(rng: np.random.Generator, time_s: np.ndarray, course: np.ndarray, width: int) -> Track:
    """Noise around a large mean, plus the curve along a direction that all clips share."""
    fixed = np.random.default_rng(7)
    direction, mean = fixed.standard_normal(width), 3 + fixed.standard_normal(width)
    values = mean + course[:, None] * direction + 0.1 * rng.standard_normal((len(time_s), width))
    return Track(values.astype(np.float16), time_s, np.ones(len(time_s), dtype=bool))


def blanked(whole: Track, rows: slice) -> Track:
    """The track with some rows made invalid."""
    values, valid = whole.values.copy(), whole.valid.copy()
    values[rows], valid[rows] = 0, False
    return Track(values, whole.time_s, valid)


def plant(folder: Path, splits: tuple[str, ...] = SPLITS, seed: int = 0) -> Planted:
    """Write a manifest, label files and a store, as the extraction does.

    The first val clip has frames without a face, a row that is not annotated and a label row beyond
    its last frame; clips of the test split have no labels. Another seed draws other clips.
    """
    clip_config = write_tiny_clip(folder)
    spec = visual_spec(clip_config)
    store = FeatureStore.open(folder / "features.zarr", create=True)
    provenance = {"encoder": clip_config.model_dump(mode="json")}
    clips = []
    for index, split in enumerate(splits):
        rng = np.random.default_rng(1000 * seed + index)
        clip_id = f"{split}-{index}"
        time_s = FRAME_S * np.arange(N_FRAMES)
        step_s = STEP_S * (0.5 + np.arange(round(N_FRAMES * FRAME_S / STEP_S)))
        both_s = np.concatenate([time_s, step_s])
        valence, arousal = wander(rng, both_s), wander(rng, both_s)
        visual = track(rng, time_s, valence[:N_FRAMES], WIDTH_VISUAL)
        va = np.stack([valence[:N_FRAMES], arousal[:N_FRAMES]], axis=1)
        if split == "val" and splits[index - 1] != "val":
            visual = blanked(visual, slice(40, 46))
            va = np.concatenate([va, va[-1:]])
            va[10] = -5
        sound = track(rng, step_s, arousal[N_FRAMES:], WIDTH_AUDIO)
        store.write(spec, clip_id, visual, source={"video": str(index)}, provenance=provenance)
        store.write(AST_SPEC, clip_id, sound, source={"video": str(index)}, provenance={})
        labels = None if split == "test" else f"{clip_id}.txt"
        if labels:
            rows = "".join(f"{v:.6f},{a:.6f}\n" for v, a in va)
            (folder / labels).write_text("valence,arousal\n" + rows)
        clips.append(Clip(id=clip_id, labels=labels, split=split))
    write_manifest(folder / "manifest.jsonl", clips)
    return Planted(folder / "manifest.jsonl", str(store.path), clip_config, spec)
