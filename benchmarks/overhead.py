"""Extraction where what is around the network counts: few frames, small networks, short clips.

Run by `encode.py`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import torch

from benchmarks.helpers.encoder_configs import DEMO_AST, DEMO_CLIP
from benchmarks.helpers.extraction_jobs import extract, load, normalised, see_bare
from benchmarks.helpers.media_sets import MEDIA, Shape, make_set, videos
from benchmarks.helpers.timing import Report, in_turns
from benchmarks.plain_baseline import hear_all, see_all
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.runtime import Runtime
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.media.sampling import Sampling
from features.system.parallel import n_cores

BATCH = 32
SPARSE_FPS = 2


def sparse(report: Report, name: str, config: ClipConfig, n_rounds: int, seconds: int = 60) -> None:
    """Two frames a second of so much video, against the slower of its two stages alone."""
    manifest = make_set(MEDIA, Shape(seconds), 1)
    video = videos(manifest)[0]
    few = load(config.model_copy(update={"sampling": Sampling(fps=SPARSE_FPS)}))
    items = torch.zeros((BATCH, 3, *few.encoder.size), dtype=torch.uint8)
    ready = normalised(few, items)
    ways: dict[str, Callable[[], object]] = {
        f"sparse_{name}_decode": partial(_decoded, video, few.sampling),
        f"sparse_{name}_bare": partial(see_bare, few, ready, SPARSE_FPS * seconds),
        f"sparse_{name}_extract": partial(extract, manifest, [few]),
    }
    report.times_s |= in_turns(ways, n_rounds)
    decode_s, bare_s, extract_s = (report.median_s(way) for way in ways)
    report.ratios[f"efficiency_sparse_{name}"] = max(decode_s, bare_s) / extract_s


def demo(report: Report, n_rounds: int) -> None:
    """The demo's small encoders, where everything but the encoder counts, against the plain way."""
    clip, ast = load(ClipConfig(**DEMO_CLIP)), load(AstConfig(**DEMO_AST))
    sights = make_set(MEDIA, Shape(30), 1)
    sounds = make_set(MEDIA, Shape(60, fps=2), 2)
    ways: dict[str, Callable[[], object]] = {
        "demo_clip_naive_batch1": partial(see_all, clip.encoder, videos(sights), 1),
        "demo_clip_naive_batch32": partial(see_all, clip.encoder, videos(sights), BATCH),
        "demo_clip_extract": partial(extract, sights, [clip]),
        "demo_ast_naive": partial(hear_all, ast.encoder, videos(sounds), ast.config.hop_s),
        "demo_ast_extract": partial(extract, sounds, [ast]),
    }
    report.times_s |= in_turns(ways, n_rounds)
    ours = {"demo_clip_naive_batch1": "demo_clip_extract"}
    ours |= {"demo_clip_naive_batch32": "demo_clip_extract", "demo_ast_naive": "demo_ast_extract"}
    for naive, own in ours.items():
        report.ratios[naive] = report.median_s(naive) / report.median_s(own)


def short_clips(report: Report, n_rounds: int) -> None:
    """Many clips of a second, decoded by one process or by two; nothing is made of the frames."""
    paths = videos(make_set(MEDIA, Shape(1), 96, n_files=8))
    ways: dict[str, Callable[[], object]] = {
        f"short_clips_{n}_processes": partial(_decoded_by, n, paths) for n in (1, 2)
    }
    report.times_s |= in_turns(ways, n_rounds + 1)
    one, two = (report.median_s(way) for way in ways)
    report.ratios["short_clips_two_processes"] = one / two


def _decoded_by(n_processes: int, paths: list[Path]) -> int:
    """Frames that so many processes, a thread each to listen to them, give of videos."""
    with (
        closing(Runtime("cpu")) as runtime,
        runtime.decoders(n_processes, DEFAULT_LIMITS) as decoders,
        ThreadPoolExecutor(n_processes) as pool,
    ):
        shares = [paths[k::n_processes] for k in range(n_processes)]
        return sum(pool.map(_all_of, decoders, shares))


def _all_of(decoder: Decoder, paths: list[Path]) -> int:
    return sum(_n_frames(decoder.frames(path, None)) for path in paths)


def _n_frames(items: Iterable[object]) -> int:
    return sum(len(item) for item in items if isinstance(item, list))


def _decoded(video: Path, sampling: Sampling) -> int:
    """Frames that a decode process of its own, on all cores, gives of a video."""
    with closing(Decoder(DEFAULT_LIMITS, n_cores())) as decoder:
        return _n_frames(decoder.frames(video, None, sampling))
