"""Tracks of noise in a store, with labels: what training costs does not depend on what they say."""

from pathlib import Path

import numpy as np

from benchmarks.helpers.encoder_configs import DEMO_AST, DEMO_CLIP
from features.clip import Clip, Track
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.manifest.labels import Labels, write_labels
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore

TRACKS = Path("data/benchmarks/tracks")
FPS, STEPS_A_SECOND = 30, 10
VALIDATION = 2  # clips beside those that are trained on


def make_tracks(folder: Path, n_clips: int, seconds: int) -> Path:
    """The manifest of so many clips to train on; made once."""
    folder = folder / f"{n_clips}-of-{seconds}s"
    manifest = folder / "m.jsonl"
    if manifest.exists():
        return manifest
    configs = ClipConfig(**DEMO_CLIP), AstConfig(**DEMO_AST)
    specs = [config.spec() for config in configs]
    widths = specs[0].model["embed_dim"], specs[1].model["hidden_size"]
    opened = FeatureStore.open(store_beside(manifest), create=True)
    rng = np.random.default_rng(0)
    clips: list[Clip] = []
    for index in range(n_clips + VALIDATION):
        name = f"c{index:04d}"
        va = rng.uniform(-0.9, 0.9, (seconds * FPS, 2))
        (folder / "labels").mkdir(exist_ok=True)
        write_labels(folder / f"labels/{name}.txt", Labels(va, np.ones(len(va), bool)))
        for config, spec, width, rate in zip(
            configs, specs, widths, (FPS, STEPS_A_SECOND), strict=True
        ):
            values = rng.standard_normal((seconds * rate, width)).astype(np.float16)
            time_s = np.arange(len(values)) / rate
            made_by = {"encoder": config.model_dump(mode="json")}
            track = Track(values, time_s, np.ones(len(values), bool))
            opened.write(spec, name, track, source={}, provenance=made_by)
        split = "train" if index < n_clips else "val"
        clips.append(Clip(id=name, labels=f"labels/{name}.txt", split=split, fps=FPS))
    write_manifest(manifest, clips)
    return manifest


def store_beside(manifest: Path) -> str:
    """Where the tracks of a manifest lie."""
    return str(manifest.with_name("s.zarr"))
