"""A million clips on paper: planning them, what the store would be asked and hold, and how long.

    python benchmarks/plan_scale.py [--quick] [--json FILE] [--clips N] ...

`plan`: seconds and peak memory of planning a run with the shipped encoders, sight and sound
together or sight alone, as `extract-features` does it (manifest, digests of the media that the
memo remembers, records, quarantine, shards), each in a process of its own; the store answers from
memory (`imagined.py`), once with most clips complete, once with none. The first plan of a manifest,
which reads all media, is what fills the memo here, and is not timed: the media is what it costs.
`objects`, `requests`, `usd`: of records as the store lays them out, by requests that a server
counted (`bill.py`). `wall`: shards on GPUs that die and lag (`fleet.py`).

The script fails where sight alone takes 60 s or 2 GiB, or where the layout is not as it reckons.
"""

import json
import sys
import time
from math import ceil
from pathlib import Path

import numpy as np

from benchmarks.helpers.encoder_configs import DEMO_AST, DEMO_CLIP
from benchmarks.helpers.fake_store import Imagined, make_manifest, make_media, make_quarantine
from benchmarks.helpers.peak_memory import peak_of
from benchmarks.helpers.timing import Report, arguments
from benchmarks.s3_cost import USD_A_GB_MONTH, USD_A_THOUSAND, asked, cost_usd
from benchmarks.simulate_cluster import Fleet, durations_s, simulated
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.options import ExtractionOptions
from features.extraction.plan import plan_extraction
from features.extraction.shards import deal_shards, plan_shards
from features.freshness.digest_cache import open_cache
from features.freshness.media_digests import SourceDigests
from features.manifest.manifest import read_manifest
from features.store import feature_store as store
from features.store.layout import ARRAYS, CHUNK_BYTES, ArraySchema

FOLDER = Path("data/benchmarks/plan")
WANTED_S, WANTED_MIB = 60, 2048
LOOK_S = 2.0  # at its memory
GPUS = (8, 64)
SEED = 0
SIGHT, SOUND = ClipConfig(**DEMO_CLIP), AstConfig(**DEMO_AST)
ENCODERS = {"sight": (SIGHT,), "both": (SIGHT, SOUND)}
SIGHT_WIDTH, SOUND_WIDTH = 512, 768  # ViT-B/32, AST
SOUND_HZ = 0.625  # windows of 10.24 s, a hop of 1.6 s
FPS = 30.0


def main() -> None:
    """Plan, count, reckon and simulate; or plan once, where that is asked for."""
    options = arguments(
        __doc__,
        clips={"type": int, "default": 1_000_000, "metavar": "N"},
        clip_s={"type": float, "default": 20.0, "help": "seconds of a clip on average (20)"},
        frames_per_s={"type": float, "default": 9200.0, "help": "of a GPU and its cores (9200)"},
        deaths_h={"type": float, "default": 6.0, "help": "hours of a worker between deaths (6)"},
        request_ms={"type": float, "default": 20.0, "help": "until an object store answers (20)"},
        **{
            f"usd_{kind}": {"type": float, "default": price, "help": f"a thousand ({price})"}
            for kind, price in USD_A_THOUSAND.items()
        },
        point={"metavar": "ENCODERS=STORE", "help": "this plan alone"},
    )
    n_clips = 100_000 if options.quick else options.clips
    if options.point:
        print(json.dumps(_point(options.point, n_clips)))
        return
    report = Report()
    _plan(report, n_clips)
    prices = {kind: getattr(options, f"usd_{kind}") for kind in USD_A_THOUSAND}
    _reckon(report, n_clips, options.clip_s, prices, options.request_ms / 1000)
    for n_gpus in GPUS:
        fleet = Fleet(n_gpus, options.frames_per_s / FPS, options.deaths_h)
        _run(report, n_clips, options.clip_s, fleet)
    report.write(options.json)
    _hold(report)


def _plan(report: Report, n_clips: int) -> None:
    """Time and memory of each kind of plan."""
    _prepare(n_clips)
    size = ["--clips", str(n_clips)]
    for encoders in ENCODERS:
        for kind in ("grown", "new"):
            command = [sys.executable, __file__, "--point", f"{encoders}={kind}", *size]
            said, peak_mib = peak_of(command, LOOK_S)
            found = json.loads(said)
            name = f"plan_{encoders}_{kind}"
            report.times_s[name] = [found["seconds"]]
            report.numbers[f"{name}_peak_mib"] = peak_mib
            report.numbers[f"{name}_shards"] = found["shards"]
            report.numbers[f"{name}_to_extract"] = found["to_extract"]


def _prepare(n_clips: int) -> None:
    """Media, manifest, memo and quarantine, where they are not there yet."""
    make_media(FOLDER)
    manifest = make_manifest(FOLDER, n_clips)
    specs = [config.spec() for config in ENCODERS["both"]]
    for is_new in (False, True):
        work = Imagined(FOLDER, {}, is_new).work
        work.mkdir(exist_ok=True)
        mark = work / f"{manifest.stem}.hashed"
        if mark.exists():
            continue
        print(f"  hashing {n_clips} files once for {work.name}", file=sys.stderr, flush=True)
        clips = read_manifest(manifest)
        with open_cache(work) as memo:
            digests = SourceDigests(memo)
            for clip in clips.clips:
                digests.of(clips.source(clip), "audio")
        if not is_new:
            make_quarantine(work, specs, n_clips)
        mark.touch()


def _point(asked_for: str, n_clips: int) -> dict[str, float]:
    """Plan a run once."""
    encoders, _, kind = asked_for.partition("=")
    sets = {config.spec().name: config.spec() for config in ENCODERS[encoders]}
    place = Imagined(FOLDER, sets, kind == "new")
    store.backend_at = lambda _: place
    options = ExtractionOptions("imagined", ENCODERS[encoders], device="cpu")
    began = time.perf_counter()
    plan = plan_extraction(read_manifest(FOLDER / f"{n_clips}.jsonl"), options)
    shards = plan_shards(plan, GPUS[-1])
    took_s = time.perf_counter() - began
    n_jobs = sum(len(each.jobs) for each in plan.sets)
    return {"seconds": took_s, "shards": len(shards), "to_extract": n_jobs}


def _reckon(
    report: Report, n_clips: int, clip_s: float, prices: dict[str, float], answer_s: float
) -> None:
    """Objects, bytes, requests and cost of both feature sets."""
    ways, counted = asked()
    rows = {SIGHT_WIDTH: round(clip_s * FPS), SOUND_WIDTH: round(clip_s * SOUND_HZ)}
    n_files = sum(_files(n, width) for width, n in rows.items())
    small = sum(_files(1, width) for width in rows)
    if counted != small:
        raise SystemExit(f"a clip has {counted} objects, where {small} were reckoned")
    n_bytes = n_clips * sum(_row_bytes(width) * n for width, n in rows.items())
    report.numbers["objects"] = n_clips * n_files
    report.numbers["gigabytes"] = n_bytes / 1e9
    report.numbers["usd_month"] = n_bytes / 1e9 * USD_A_GB_MONTH
    for name, way in ways.items():
        requests = way.of(n_clips)
        more = n_clips * (n_files - small)  # chunks of longer clips
        for kind in {"extract": ("put",), "verify": ("get",)}.get(name, ()):
            requests[kind] += more
        for kind, n in requests.items():
            report.numbers[f"requests_{name}_{kind}"] = n
        report.numbers[f"usd_{name}"] = cost_usd(requests, prices)
    one_by_one = sum(ways["again"].of(n_clips).values()) * answer_s
    report.numbers["plan_on_s3_hours"] = one_by_one / 3600


def _array_row_bytes(kind: ArraySchema, width: int) -> int:
    """Of one array; values are float16, the first of their types."""
    return np.dtype(kind.dtypes[0]).itemsize * (width if kind.n_axes == 2 else 1)


def _row_bytes(width: int) -> int:
    """Of all arrays of a record, but for checksums and metadata."""
    return sum(_array_row_bytes(kind, width) for kind in ARRAYS.values())


def _files(n_rows: int, width: int) -> int:
    """Files of a record: its own, and for each array one of metadata and its chunks."""
    n_files = 1
    for kind in ARRAYS.values():
        row_bytes = _array_row_bytes(kind, width)
        n_files += 1 + ceil(n_rows / max(1, CHUNK_BYTES // row_bytes))
    return n_files


def _run(report: Report, n_clips: int, clip_s: float, fleet: Fleet) -> None:
    """The wall time of a run, undisturbed and with deaths and stragglers."""
    rng = np.random.default_rng(SEED)
    lengths_s = durations_s(n_clips, clip_s, rng)
    dealt = deal_shards(np.round(1000 * lengths_s).astype(int).tolist(), fleet.n_workers)
    shards = [lengths_s[places] for places in dealt]
    calm = Fleet(fleet.n_workers, fleet.media_s_per_s, 1e9, lagging=0.0)
    name = f"wall_{fleet.n_workers}_gpus"
    for what, each in {"calm": calm, "disturbed": fleet}.items():
        course = simulated(shards, each, rng)
        report.numbers[f"{name}_{what}_hours"] = course.wall_s / 3600
        report.ratios[f"{name}_{what}_over_ideal"] = course.wall_s / course.ideal_s
    report.numbers[f"{name}_deaths"] = course.n_deaths
    report.numbers[f"{name}_clips_redone"] = course.redone


def _hold(report: Report) -> None:
    """Fail where planning takes more than it may."""
    for kind in ("grown", "new"):
        name = f"plan_sight_{kind}"
        took_s, peak_mib = report.median_s(name), report.numbers[f"{name}_peak_mib"]
        if took_s >= WANTED_S or peak_mib >= WANTED_MIB:
            raise SystemExit(
                f"{name}: {took_s:.0f} s, {peak_mib:.0f} MiB; wanted: under "
                f"{WANTED_S} s and {WANTED_MIB} MiB"
            )


if __name__ == "__main__":
    main()
