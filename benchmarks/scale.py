"""What extraction and training cost as clips become more, and longer: linear, with memory flat.

    python benchmarks/scale.py [--quick] [--json FILE]

Each point is a process of its own. Extraction: the small shipped encoders, sight and sound, 360p
video of 10 frames a second, networks loaded before. Training: an epoch of the default head over
tracks of noise, of 10 s and more, with all that comes before and after it. Ratios, for each of
`clips`, `length`, `train_clips` and `train_length`: `linear_...` is what a further clip, or minute,
takes from the second point to the third, over what it takes from the first to the second (1 is
linear; what every run costs falls out); `memory_...` is the peak of memory, of all processes
together, of the last point over the first (1 is flat; a bank in memory is not).
"""

import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.helpers.encoder_configs import DEMO_AST, DEMO_CLIP
from benchmarks.helpers.extraction_jobs import extract, load
from benchmarks.helpers.feature_tracks import TRACKS, make_tracks, store_beside
from benchmarks.helpers.media_sets import MEDIA, Shape, make_cuts, make_set
from benchmarks.helpers.peak_memory import peak_of
from benchmarks.helpers.timing import Report, arguments
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from models.stages.train_head import train_head
from models.training.config import TrainConfig

FPS = 10
N_FILES = 4  # that clips take turns at
N_CLIPS = (8, 32, 128)
CLIP_S = 10
MINUTES = (1, 8, 30)
N_TRACKS = (16, 64, 256)
TRACK_S = 10
TIMES = (1, 4, 16)  # as long
LONGEST = Shape(60 * MINUTES[-1], fps=FPS)


def main() -> None:
    """Every point, and the ratios between them; or one point, where one is asked for."""
    options = arguments(__doc__, point={"metavar": "KIND=MANIFEST", "help": "this one alone"})
    if options.point:
        kind, _, manifest = options.point.partition("=")
        print(json.dumps({"seconds": POINTS[kind](Path(manifest))}))
        return
    report = Report()
    n_rounds = 1 if options.quick else 3
    short = Shape(CLIP_S, fps=FPS)
    by_count = {n: make_set(MEDIA, short, n, n_files=N_FILES) for n in N_CLIPS}
    _measure(report, "extract", "clips", by_count, n_rounds)
    cuts = make_cuts(MEDIA, LONGEST, tuple(60 * n for n in MINUTES))
    by_length = {seconds // 60: manifest for seconds, manifest in cuts.items()}
    _measure(report, "extract", "length", by_length, n_rounds)
    tracks = {n: make_tracks(TRACKS, n, TRACK_S) for n in N_TRACKS}
    _measure(report, "train", "train_clips", tracks, n_rounds)
    tracks = {n: make_tracks(TRACKS, N_TRACKS[0], n * TRACK_S) for n in TIMES}
    _measure(report, "train", "train_length", tracks, n_rounds)
    report.write(options.json)


def _extract(manifest: Path) -> float:
    """Seconds that extraction takes, with sight and sound."""
    encoders = [load(ClipConfig(**DEMO_CLIP)), load(AstConfig(**DEMO_AST))]
    return extract(manifest, encoders)


def _train(manifest: Path) -> float:
    """Seconds that an epoch takes, with all that comes before and after it."""
    settings = TrainConfig(epochs=1, device="cpu")
    with tempfile.TemporaryDirectory(dir=TRACKS) as folder:
        began = time.perf_counter()
        run = Path(folder) / "run"
        train_head(manifest=manifest, store=store_beside(manifest), run=run, train=settings)
        return time.perf_counter() - began


POINTS = {"extract": _extract, "train": _train}


def _measure(report: Report, kind: str, name: str, points: dict[int, Path], n_rounds: int) -> None:
    """Each point in turn, and what a further one costs."""
    peaks_mib: dict[int, list[float]] = {amount: [] for amount in points}
    for _ in range(n_rounds):
        for amount, manifest in points.items():
            said, peak_mib = peak_of([sys.executable, __file__, "--point", f"{kind}={manifest}"])
            seconds = json.loads(said)["seconds"]
            print(f"  {name} {amount}: {seconds:.3g} s, {peak_mib:.0f} MiB", file=sys.stderr)
            report.times_s.setdefault(f"{name}_{amount}", []).append(seconds)
            peaks_mib[amount].append(peak_mib)
    for amount, peaks in peaks_mib.items():
        report.numbers[f"{name}_{amount}_peak_mib"] = median(peaks)
    each_s = [
        (report.median_s(f"{name}_{b}") - report.median_s(f"{name}_{a}")) / (b - a)
        for a, b in pairwise(points)
    ]
    report.numbers[f"{name}_seconds_each"] = each_s[-1]
    report.ratios[f"linear_{name}"] = each_s[1] / each_s[0]
    first, *_, last = (median(peaks) for peaks in peaks_mib.values())
    report.ratios[f"memory_{name}"] = last / first


if __name__ == "__main__":
    main()
