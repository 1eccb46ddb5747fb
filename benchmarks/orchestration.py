"""What orchestration costs: a flow over the plain function, and a Dask worker that is killed.

    python benchmarks/orchestration.py [--quick] [--json FILE]

The shipped small encoders, sight and sound, on short clips of 360p video; each run in a process of
its own. What a flow costs however many clips there are, its temporary server above all, is
`prefect_start_s`: its time for one clip less the plain function's. `prefect_over_direct` is the
flow's time for 200 clips less that, over the plain function's, in turns. `prefect_memory` is the
peak of the flow's process and its children for four times the clips over that for the clips (of 200
over 50 with `--quick`). `killed_over_undisturbed` is the time of 64 clips on two Dask workers, one
of which is killed when a quarter is done, over that of the same run left alone;
`killed_excess_clips` is how many clips' time it takes beyond 1.5 times that, at the undisturbed
pace (wanted: 1 or less).
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.helpers.encoder_configs import DEMO_AST, DEMO_CLIP
from benchmarks.helpers.extraction_jobs import STORES
from benchmarks.helpers.media_sets import MEDIA, Shape, make_set
from benchmarks.helpers.peak_memory import peak_of
from benchmarks.helpers.timing import Report, Seconds, arguments, in_turns
from features.encoders import AnyEncoderConfig
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from flows.dask.cluster import cluster, connected
from flows.dask.shards import extract_on_dask

CLIP_S = 2
N_FILES = 4  # that clips take turns at
N_CLIPS, N_KILLED = 200, 64
LOOK_S = 1.0  # at its memory
ENCODERS: tuple[AnyEncoderConfig, ...] = (ClipConfig(**DEMO_CLIP), AstConfig(**DEMO_AST))


def main() -> None:
    """Flow against function, then a worker that dies; or one extraction, where one is asked for."""
    options = arguments(__doc__, point={"metavar": "WAY=MANIFEST", "help": "this one alone"})
    STORES.mkdir(parents=True, exist_ok=True)
    if options.point:
        way, _, manifest = options.point.partition("=")
        print(json.dumps(WAYS[way](Path(manifest))))
        return
    report, n_rounds = Report(), 1 if options.quick else 3
    _flow(report, n_rounds + 1, N_CLIPS if options.quick else 4 * N_CLIPS)
    _killed(report, n_rounds)
    report.write(options.json)


def _set(n_clips: int) -> Path:
    return make_set(MEDIA, Shape(CLIP_S), n_clips, n_files=N_FILES)


def _flow(report: Report, n_rounds: int, many: int) -> None:
    """The flow against the plain function, and its memory for so many clips and for a quarter."""
    peaks_mib: dict[int, list[float]] = {}

    def run(way: str, n_clips: int) -> Seconds:
        command = [sys.executable, __file__, "--point", f"{way}={_set(n_clips)}"]
        said, peak_mib = peak_of(command, LOOK_S)
        if way == "prefect":
            peaks_mib.setdefault(n_clips, []).append(peak_mib)
        return Seconds(said.strip().splitlines()[-1])

    few = many // 4
    report.times_s |= in_turns({f"{way}_1_clip": partial(run, way, 1) for way in WAYS}, n_rounds)
    report.times_s |= in_turns({way: partial(run, way, N_CLIPS) for way in WAYS}, n_rounds)
    for n_clips in {few, many} - {N_CLIPS}:
        report.times_s |= in_turns(
            {f"prefect_{n_clips}_clips": partial(run, "prefect", n_clips)}, 1
        )
    start_s = report.median_s("prefect_1_clip") - report.median_s("direct_1_clip")
    report.numbers["prefect_start_s"] = start_s
    after_s = report.median_s("prefect") - start_s
    report.ratios["prefect_over_direct"] = after_s / report.median_s("direct")
    for n_clips, peaks in peaks_mib.items():
        report.numbers[f"prefect_{n_clips}_clips_peak_mib"] = median(peaks)
    report.ratios["prefect_memory"] = median(peaks_mib[many]) / median(peaks_mib[few])


def _killed(report: Report, n_rounds: int) -> None:
    """Two workers, and one of them killed on the way; both have their encoders loaded."""
    manifest = _set(N_KILLED)
    with cluster(None, 2) as address:
        _on_dask(manifest, address)  # which loads them
        ways: dict[str, Callable[[], object]] = {
            "undisturbed": partial(_on_dask, manifest, address),
            "killed": partial(_on_dask, manifest, address, kill_at=N_KILLED // 4),
        }
        report.times_s |= in_turns(ways, n_rounds + 1)
    alone_s, killed_s = report.median_s("undisturbed"), report.median_s("killed")
    report.ratios["killed_over_undisturbed"] = killed_s / alone_s
    report.numbers["killed_excess_clips"] = (killed_s - 1.5 * alone_s) / (alone_s / N_KILLED)


def _directly(manifest: Path) -> float:
    with tempfile.TemporaryDirectory(dir=STORES) as folder:
        began = time.perf_counter()
        options = ExtractionOptions(f"{folder}/s.zarr", ENCODERS, device="cpu")
        done = extract_features(manifest, options)
    assert not done.failed
    return time.perf_counter() - began


def _by_flow(manifest: Path) -> float:
    from flows.extract import extract_features as flow

    with tempfile.TemporaryDirectory(dir=STORES) as folder:
        began = time.perf_counter()
        flow(manifest=manifest, store=f"{folder}/s.zarr", encoders=ENCODERS, device="cpu")
    return time.perf_counter() - began


WAYS = {"direct": _directly, "prefect": _by_flow}


def _on_dask(manifest: Path, address: str, kill_at: int | None = None) -> None:
    """Extraction on the workers of a scheduler; one dies when so many clips are stored."""
    with tempfile.TemporaryDirectory(dir=STORES) as folder:
        over = threading.Event()

        def kill() -> None:
            with connected(address) as client:
                pids = client.run(os.getpid)
            while not over.wait(0.02):
                if len(list(Path(folder).glob("s.zarr/clip-*/*/zarr.json"))) >= (kill_at or 0):
                    os.kill(min(pids.values()), signal.SIGKILL)
                    return

        killer = threading.Thread(target=kill)
        if kill_at:
            killer.start()
        options = ExtractionOptions(f"{folder}/s.zarr", ENCODERS, device="cpu", readers=1)
        done = extract_on_dask(manifest, options, scheduler=address, workers=2)
        over.set()
        if kill_at:
            killer.join()
        assert not done.failed, done.failed[0].detail


if __name__ == "__main__":
    main()
