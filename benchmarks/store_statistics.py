"""What `vaflow stats` costs as a store grows: memory is flat, in clips and in their length.

    python benchmarks/store_statistics.py [--quick] [--json FILE] [--folder data/benchmarks/stats]

`clips`: stores of up to 25,000 clips (with --quick 4,000) of 20 rows, 512 wide; a real record for
some, the others are hard links with a commit of their own. `length`: a store of one clip of up to
288,000 rows, 2.7 hours of 30 frames a second. Each point is the command in a process of its own,
the search for near pairs included, stores in memory of the system where they fit. `memory_...` is
the peak of the largest point over that of the smallest (1 is flat), `linear_...` what a further
clip or row takes between the last two points over what it takes between the first two.
`stats_vs_plain` is the time that reading all rows into one array with zarr alone, unchecked, and
asking numpy takes, over that of the pass, which checks every byte and has no more than blocks. What
is made already is not made again.
"""

import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import zarr

from benchmarks.helpers.blank_spec import blank_spec
from benchmarks.helpers.peak_memory import peak_of
from benchmarks.helpers.timing import Report, arguments, in_turns
from features.clip import Track
from features.maintenance.statistics.compute import statistics
from features.store.commit import encode_commit, make_commit, read_commit
from features.store.feature_store import FeatureStore
from features.store.layout import METADATA

WIDTH = 512
N_ROWS = 20  # of each of many clips
N_REAL = 512  # records that are written; what is linked to them is a twin of theirs
CLIPS, CLIPS_QUICK = (1_000, 5_000, 25_000), (1_000, 2_000, 4_000)
ROWS = (18_000, 72_000, 288_000)
PLAIN = (100, 3_000)  # clips, rows of each: what is compared with reading all at once
N_ROUNDS = 5
SPEC = blank_spec("clip")


def main() -> None:
    """Make what is missing, and measure."""
    given = arguments(__doc__, folder={"type": Path, "default": Path("data/benchmarks/stats")})
    report, folder = Report(), given.folder
    clips = CLIPS_QUICK if given.quick else CLIPS
    measure(report, "clips", {n: made(folder / f"{n}-clips.zarr", n, N_ROWS) for n in clips})
    measure(report, "length", {n: made(folder / f"{n}-rows.zarr", 1, n) for n in ROWS})
    compare(report, made(folder / "plain.zarr", *PLAIN))
    report.write(given.json)


def measure(report: Report, name: str, points: dict[int, Path]) -> None:
    """The command on each store; the first time only brings the files into memory."""
    peaks_mib = []
    for amount, store in points.items():
        command = [sys.executable, "-m", "flows", "stats", str(store)]
        for _ in range(2):
            began = time.perf_counter()
            _, peak_mib = peak_of(command)
            took_s = time.perf_counter() - began
        print(f"  {name} {amount}: {took_s:.3g} s, {peak_mib:.0f} MiB", file=sys.stderr, flush=True)
        report.times_s[f"{name}_{amount}"] = [took_s]
        report.numbers[f"{name}_{amount}_peak_mib"] = peak_mib
        peaks_mib.append(peak_mib)
    each_s = [
        (report.median_s(f"{name}_{b}") - report.median_s(f"{name}_{a}")) / (b - a)
        for a, b in pairwise(points)
    ]
    report.ratios[f"linear_{name}"] = each_s[1] / each_s[0]
    report.ratios[f"memory_{name}"] = peaks_mib[-1] / peaks_mib[0]


def compare(report: Report, store: Path) -> None:
    """The pass without its search for pairs, in turns with reading all at once."""

    def plain() -> np.ndarray:
        group = zarr.open_group(store, mode="r")[SPEC.name]
        tracks = [(track["values"][:], track["valid"][:]) for _, track in group.groups()]
        rows = np.concatenate([values[valid] for values, valid in tracks]).astype(np.float64)
        return np.stack([rows.mean(0), rows.std(0), rows.min(0), rows.max(0)])

    def ours() -> np.ndarray:
        (found,) = statistics(str(store), n_pairs=0)
        moments = found.summary.moments
        return np.stack([moments.mean, moments.std, moments.low, moments.high])

    np.testing.assert_allclose(ours(), plain(), rtol=1e-9, atol=1e-9)
    report.times_s |= in_turns({"stats": ours, "plain": plain}, N_ROUNDS)
    report.ratios["stats_vs_plain"] = report.median_s("plain") / report.median_s("stats")
    report.numbers["stats_mb_per_s"] = np.prod(PLAIN) * WIDTH * 2e-6 / report.median_s("stats")


def made(path: Path, n_clips: int, n_rows: int) -> Path:
    """A store of so many clips of so many rows."""
    store, rng = FeatureStore.open(path, create=True), np.random.default_rng(0)
    drawn = rng.standard_normal((n_rows, WIDTH), np.float32)
    done = path.with_suffix(".made")
    if done.exists():
        return path
    for k in range(n_clips):
        name = f"c{k:06d}"
        if k < N_REAL:
            shift = rng.standard_normal(WIDTH, np.float32)
            values = (np.roll(drawn, k, axis=0) + shift).astype(np.float16)
            track = Track(values, np.arange(n_rows) / 30, np.ones(n_rows, bool))
            store.write(SPEC, name, track, source={}, provenance={})
        else:
            link(store.path / SPEC.name / f"c{k % N_REAL:06d}", store.path / SPEC.name / name)
    done.touch()
    return path


def link(pattern: Path, place: Path) -> None:
    """The record once more: links, and a commit of its own."""
    commit = read_commit(pattern)
    assert commit is not None
    for name in commit.files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).unlink(missing_ok=True)  # of a run that was stopped
        (place / name).hardlink_to(pattern / name)
    own = make_commit({"of": place.name}, commit.files, commit.provenance, None)
    (place / METADATA).write_bytes(encode_commit(own))


if __name__ == "__main__":
    main()
