"""Extraction in the plain way, as one writes it first, against `extract_features`: whole jobs.

    python benchmarks/naive.py [--quick] [--json FILE]

The plain way: PyAV frame by frame, open_clip's own PIL preprocessing picture by picture, batches
that end with the clip, float32, one `.npy` per clip. Sound: resampled by PyAV, one window after
the other through the feature extractor of transformers and the network. Both sides have their
networks loaded before. Ratios are speed-ups of ours.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from open_clip.transform import image_transform_v2
from torch import Tensor

from benchmarks.helpers.encoder_configs import ast_config, clip_config
from benchmarks.helpers.extraction_jobs import STORES, extract, load
from benchmarks.helpers.media_sets import MEDIA, Shape, make_set, videos
from benchmarks.helpers.timing import Report, arguments, in_turns
from features.encoders.ast import FBANK_HOP_S
from features.encoders.base import Precision

BATCH = 32
RATE_HZ = 16_000
HOP_S = 5.12
SPECIAL_TOKENS = 2


def main() -> None:
    """Both ways in turns, with ViT-B/32 and with AST."""
    options = arguments(__doc__)
    n_clips, seconds, n_rounds = (2, 2, 1) if options.quick else (3, 4, 3)
    report = Report()
    sights = make_set(MEDIA, Shape(seconds), n_clips)
    sounds = make_set(MEDIA, Shape(20, fps=2), 2)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    clips = {p: load(clip_config("ViT-B-32", p)) for p in precisions}
    asts = {p: load(ast_config(p, HOP_S)) for p in precisions}
    plain_clip, plain_ast = clips["float32"].encoder, asts["float32"].encoder
    ways: dict[str, Callable[[], object]] = {
        "clip_naive_batch1": lambda: see_all(plain_clip, videos(sights), 1),
        "clip_naive_batch32": lambda: see_all(plain_clip, videos(sights), BATCH),
        "ast_naive": lambda: hear_all(plain_ast, videos(sounds)),
    }
    for p in precisions:
        ways[f"clip_ours_{p}"] = lambda p=p: extract(sights, [clips[p]], batch_size=BATCH)
        ways[f"ast_ours_{p}"] = lambda p=p: extract(sounds, [asts[p]])
    report.times_s = in_turns(ways, n_rounds)
    for p in precisions:
        for naive in ("clip_naive_batch1", "clip_naive_batch32", "ast_naive"):
            ours = f"{naive.partition('_')[0]}_ours_{p}"
            report.ratios[f"{naive}_{p}"] = report.median_s(naive) / report.median_s(ours)
    report.write(options.json)


def see_all(encoder: Any, paths: list[Path], batch_size: int) -> int:
    """Every frame of every video through the loaded CLIP; how many there were."""
    transform = image_transform_v2(encoder.preprocessing, is_train=False)
    STORES.mkdir(parents=True, exist_ok=True)
    n_frames = 0
    with tempfile.TemporaryDirectory(dir=STORES) as folder, torch.inference_mode():
        for path in paths:
            outputs: list[Tensor] = []
            batch: list[Tensor] = []
            with av.open(str(path)) as container:
                for frame in container.decode(video=0):
                    batch.append(transform(frame.to_image()))
                    if len(batch) == batch_size:
                        outputs.append(encoder.model.encode_image(torch.stack(batch)))
                        batch = []
            if batch:
                outputs.append(encoder.model.encode_image(torch.stack(batch)))
            values = torch.cat(outputs).numpy()
            np.save(f"{folder}/{path.stem}.npy", values)
            n_frames += len(values)
    return n_frames


def hear_all(encoder: Any, paths: list[Path], hop_s: float = HOP_S) -> int:
    """Every window of every sound through the loaded AST; how many there were."""
    extractor, network = encoder.extractor, encoder.model
    window_s = extractor.max_length * FBANK_HOP_S
    STORES.mkdir(parents=True, exist_ok=True)
    n_windows = 0
    with tempfile.TemporaryDirectory(dir=STORES) as folder, torch.inference_mode():
        for path in paths:
            outputs: list[np.ndarray] = []
            for window in windows(heard(path), hop_s, window_s):
                features = extractor(window, sampling_rate=RATE_HZ, return_tensors="pt")
                tokens = network(**features).last_hidden_state[0, SPECIAL_TOKENS:]
                grid = tokens.unflatten(0, (encoder.n_mel_patches, -1))
                outputs.append(grid.mean(dim=0).numpy())
            np.save(f"{folder}/{path.stem}.npy", np.stack(outputs))
            n_windows += len(outputs)
    return n_windows


def heard(path: Path) -> np.ndarray:
    """The sound of a file (S,), mono at 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        frames = [*container.decode(audio=0), None]  # None: what is left inside
        parts = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(parts)


def windows(samples: np.ndarray, hop_s: float, window_s: float) -> Iterator[np.ndarray]:
    """Stretches of the sound a hop apart, until one reaches its end."""
    size, hop = round(window_s * RATE_HZ), round(hop_s * RATE_HZ)
    for at in range(0, max(1, len(samples) - size + hop), hop):
        yield samples[at : at + size]


if __name__ == "__main__":
    main()
