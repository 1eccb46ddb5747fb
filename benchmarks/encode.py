"""How close extraction comes to its encoder, and what each stage costs on the way.

    python benchmarks/encode.py [--quick] [--json FILE]

Efficiency: seconds of the bare network on ready tensors, over seconds of `extract_features` for as
many frames (of 360p H.264) or windows, in the same precision and batches, with the same threads, in
turns; weights are loaded before. Speed-ups are of whole jobs, per frame, against the plain way of
`naive.py`: `naive_batch1_...` and `naive_batch32_...` of that precision against its float32 loop
with that batch, `naive_float32` of float32 against batch 1. How much is encoded is so chosen that a
run takes `Size.run_s`. With `--quick`, ViT-B/16 and AST run in float32 alone. The first run makes
weights and media under data/benchmarks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.helpers.encoder_configs import DEMO_CLIP, ast_config, clip_config
from benchmarks.helpers.extraction_jobs import CPU, Loaded, extract, load, normalised, see_bare
from benchmarks.helpers.media_sets import MEDIA, Shape, make_set, videos
from benchmarks.helpers.timing import Report, arguments, in_turns
from benchmarks.overhead import demo, short_clips, sparse
from benchmarks.plain_baseline import hear_all, see_all
from benchmarks.stages import measure
from features.encoders.base import Precision
from features.encoders.clip import ClipConfig
from features.system.devices import bfloat16_gain

BATCH = 32
AST_BATCH = 2  # larger ones gain nothing on a CPU, and wait longer to be full
HOP_S = 5.12  # of AST's windows
CLIP_S, SOUND_S, WINDOWS_A_SOUND = 2, 20, 3  # length of a clip to see, of one to hear
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
MOST_CLIPS = 40
N_FILES = 4  # that clips take turns at


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run."""

    rounds: int
    """Of ViT-B/32, in which the pace of everything around the network shows best."""
    more_rounds: int
    """Of all else."""
    run_s: float
    """About what a run of ViT-B/32 takes, and of extraction with it; others take half of it.

    What every run costs once (the first pictures, the last record: a third of a second) counts in
    it, and in a short one counts for more.
    """
    precisions: tuple[Precision, ...]
    """Of ViT-B/16 and AST."""
    sparse_s: int
    """Seconds of video of which ViT-B/16 sees two frames a second."""


QUICK = Size(rounds=2, more_rounds=1, run_s=6, precisions=("float32",), sparse_s=20)
FULL = Size(rounds=5, more_rounds=3, run_s=25, precisions=PRECISIONS, sparse_s=60)


def main() -> None:
    """All of it, encoder by encoder."""
    options = arguments(__doc__)
    size = QUICK if options.quick else FULL
    rest = replace(size, rounds=size.more_rounds, run_s=size.run_s / 2)
    report = Report()
    report.numbers["bfloat16_matrix_gain"] = bfloat16_gain(CPU)
    vit = {p: load(clip_config("ViT-B-32", p)) for p in PRECISIONS}
    frames(report, vit, "clip", size, against_naive=True)
    stage_in_bfloat16(report, vit, size)
    sparse(report, "clip", clip_config("ViT-B-32", "float32"), rest.rounds)
    sparse(report, "demo", ClipConfig(**DEMO_CLIP), rest.rounds)
    measure(report, vit["float32"].encoder, rest.rounds)
    del vit
    vit16 = {p: load(clip_config("ViT-B-16", p)) for p in size.precisions}
    frames(report, vit16, "clip_b16", rest, against_naive=False)
    del vit16
    sparse(report, "clip_b16", clip_config("ViT-B-16", "float32"), rest.rounds, size.sparse_s)
    windows(report, {p: load(ast_config(p, HOP_S)) for p in size.precisions}, rest)
    demo(report, rest.rounds)
    short_clips(report, rest.rounds)
    report.write(options.json)


def frames(
    report: Report, loaded: dict[Precision, Loaded], name: str, size: Size, *, against_naive: bool
) -> None:
    """A CLIP in its precisions: bare, in `extract_features`, and in the plain way."""
    ways: dict[str, Callable[[], object]] = {}
    counts: dict[str, int] = {}
    for p, each in loaded.items():
        items = torch.randint(0, 256, (BATCH, 3, *each.encoder.size), dtype=torch.uint8)
        see = partial(see_bare, each, normalised(each, items))
        manifest, n_frames = _clips_for(size.run_s / (1 if p == "float32" else 2), see)
        counts[p] = n_frames
        ways[f"{name}_bare_{p}"] = partial(see, n_frames)
        ways[f"{name}_extract_{p}"] = partial(extract, manifest, [each], batch_size=BATCH)
    if against_naive:
        one = videos(make_set(MEDIA, Shape(CLIP_S), 1))
        for batch in (1, BATCH):
            run = partial(see_all, loaded["float32"].encoder, one, batch)
            ways[f"{name}_naive_batch{batch}"] = run
            counts[f"naive_batch{batch}"] = Shape(CLIP_S).n_frames
    report.times_s |= in_turns(ways, size.rounds)
    for p in loaded:
        _efficiency(report, name, p)
        report.numbers[f"{name}_bare_{p}_frames_per_s"] = counts[p] / report.median_s(
            f"{name}_bare_{p}"
        )
        report.numbers[f"{name}_extract_{p}_frames_per_s"] = counts[p] / report.median_s(
            f"{name}_extract_{p}"
        )
    if against_naive:
        for p in loaded:
            ours = report.numbers[f"{name}_extract_{p}_frames_per_s"]
            for batch in (1, BATCH):
                plain_s = report.median_s(f"{name}_naive_batch{batch}")
                per_s = counts[f"naive_batch{batch}"] / plain_s
                report.ratios[f"naive_batch{batch}_{p}"] = ours / per_s
        report.ratios["naive_float32"] = report.ratios["naive_batch1_float32"]


def windows(report: Report, loaded: dict[Precision, Loaded], size: Size) -> None:
    """AST in its precisions, with sound from the container, and the plain way in float32."""
    ways: dict[str, Callable[[], object]] = {}
    counts: dict[str, int] = {}
    for p, each in loaded.items():
        extractor = each.encoder.extractor
        ready = torch.randn(AST_BATCH, extractor.max_length, extractor.num_mel_bins)
        hear = partial(_heard, each, ready.to(each.encoder.dtype))
        per_s = _rate(hear, AST_BATCH)
        n_clips = min(MOST_CLIPS, max(2, round(per_s * size.run_s / WINDOWS_A_SOUND)))
        counts[p] = n_clips * WINDOWS_A_SOUND
        manifest = make_set(MEDIA, Shape(SOUND_S, fps=2), n_clips, n_files=min(n_clips, N_FILES))
        ways[f"ast_bare_{p}"] = partial(hear, counts[p])
        ways[f"ast_extract_{p}"] = partial(extract, manifest, [each], batch_size=AST_BATCH)
    one = videos(make_set(MEDIA, Shape(SOUND_S, fps=2), 1))
    ways["ast_naive"] = partial(hear_all, loaded["float32"].encoder, one, HOP_S)
    report.times_s |= in_turns(ways, size.rounds)
    plain_per_s = WINDOWS_A_SOUND / report.median_s("ast_naive")
    for p in loaded:
        _efficiency(report, "ast", p)
        per_s = counts[p] / report.median_s(f"ast_extract_{p}")
        report.numbers[f"ast_extract_{p}_windows_per_s"] = per_s
        report.ratios[f"ast_naive_{p}"] = per_s / plain_per_s


def stage_in_bfloat16(report: Report, vit: dict[Precision, Loaded], size: Size) -> None:
    """The encoder stage in bfloat16 against `encode_image` in float32: speed and cosine."""
    items = torch.randint(0, 256, (BATCH, 3, *vit["float32"].encoder.size), dtype=torch.uint8)
    ready = normalised(vit["float32"], items)
    ways: dict[str, Callable[[], object]] = {
        "encode_image_float32": lambda: see_bare(vit["float32"], ready, BATCH),
        "encoder_stage_bfloat16": lambda: vit["bfloat16"].encoder.encode(items),
    }
    report.times_s |= in_turns(ways, size.rounds)
    times_s = [report.median_s(way) for way in ways]
    report.ratios["bfloat16_stage_over_float32"] = times_s[0] / times_s[1]
    both = [vit[p].encoder.encode(items).double() for p in PRECISIONS]
    report.numbers["bfloat16_cosine_least"] = float(cosine_similarity(*both).min())


def _efficiency(report: Report, name: str, precision: Precision) -> None:
    bare_s = report.median_s(f"{name}_bare_{precision}")
    extract_s = report.median_s(f"{name}_extract_{precision}")
    report.ratios[f"efficiency_{name}_{precision}"] = bare_s / extract_s


def _clips_for(run_s: float, see: Callable[[int], None]) -> tuple[Path, int]:
    """A manifest that takes about so long to encode, and how many frames it has."""
    shape = Shape(CLIP_S)
    n_clips = min(MOST_CLIPS, max(1, round(_rate(see, BATCH) * run_s / shape.n_frames)))
    manifest = make_set(MEDIA, shape, n_clips, n_files=min(n_clips, N_FILES))
    return manifest, n_clips * shape.n_frames


def _rate(run: Callable[[int], None], n_items: int) -> float:
    """Items per second, after a warm-up."""
    run(n_items)
    began = time.perf_counter()
    run(n_items)
    return n_items / (time.perf_counter() - began)


@torch.inference_mode()
def _heard(each: Loaded, ready: Tensor, n_windows: int) -> None:
    """So many windows through the bare network."""
    for at in range(0, n_windows, len(ready)):
        each.encoder.model(input_values=ready[: n_windows - at])


if __name__ == "__main__":
    main()
