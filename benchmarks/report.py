"""Size and opening time of a report in the shape of Aff-Wild2's validation split.

`python -m benchmarks.report [--clips N] [--members N] [--output FILE]`: synthetic labels and
predictions of 76 clips with 440,000 frames in all, a face crop drawn for each thumbnail, gate and
attention over time. Times are medians of `--loads` loads in headless Chromium, in milliseconds:
"painted" when the first content is seen, "scripted" when the scripts of the page have run, from
which on it answers, "busy" the processor time of the page's thread, which other processes do not
lengthen, until a second after the load.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from selenium import webdriver

from models.metrics.ccc import Concordance, VaConcordance
from models.metrics.intervals import score_intervals
from models.metrics.scores import ClipScore, SplitScore
from models.regions.grid import NINE
from models.report.content import ClipCurves, Content
from models.report.errors import GroupError, arrows_of, errors_by_region, group_error
from models.report.fusion_weights import N_LAGS, OF_AN_ENSEMBLE, FusionWeights
from models.report.html import page
from models.report.thumbnails import HEIGHT_PX, PER_CLIP, sheet_of
from models.training.config import EpochResult

N_CLIPS, N_FRAMES, FPS = 76, 440_000, 30.0
N_LONGEST = 21_000  # frames
READY = """const n = performance.getEntriesByType('navigation')[0];
const paint = performance.getEntriesByName('first-contentful-paint')[0];
return {painted: paint.startTime, scripted: n.domContentLoadedEventEnd, loaded: n.loadEventEnd}"""


def wander(rng: np.random.Generator, n: int) -> np.ndarray:
    """A smooth course of n frames in [-1, 1], with the jitter of a prediction."""
    coarse = np.cumsum(rng.normal(0, 0.12, (n // 30 + 2, 2)), axis=0)
    at = np.arange(n) / 30
    smooth = np.stack([np.interp(at, np.arange(len(c)), np.sin(c)) for c in coarse.T], axis=1)
    return np.clip(0.7 * smooth, -1, 1)


def clip(rng: np.random.Generator, number: int, n: int, members: int) -> ClipCurves:
    """A clip whose faces, sound and labels have gaps."""
    truth = wander(rng, n)
    spread = rng.normal(0, 0.08, (max(1, members), n, 2)).cumsum(axis=1) * 0.02
    each = np.clip(0.7 * truth + rng.normal(0, 0.02, (n, 2)) + spread, -1, 1)
    predicted = each.mean(axis=0)
    seen, has_sound, annotated = (np.ones(n, dtype=bool) for _ in range(3))
    for mask, n_gaps in ((seen, 12), (has_sound, 2), (annotated, 3)):
        for start in rng.integers(0, n, n_gaps):
            mask[start : start + int(rng.integers(3, 60))] = False
    truth = np.where(annotated[:, None], truth, np.nan)
    faces = rng.integers(0, 255, (PER_CLIP, 16, 16, 3)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    assert faces.shape[1] == HEIGHT_PX
    at_s = np.linspace(0, n / FPS, PER_CLIP).tolist()
    known = truth[annotated], predicted[annotated]
    valence, arousal = (Concordance.of(known[0][:, k], known[1][:, k]).ccc() for k in range(2))
    return ClipCurves(
        ClipScore(f"{number:03d}-30-1280x720", int(annotated.sum()), 0, valence, arousal),
        np.arange(n) / FPS,
        truth,
        predicted,
        seen,
        has_sound,
        band=np.stack([each.min(axis=0), each.max(axis=0)]) if members > 1 else None,
        weights=None if members > 1 else _weights(rng, n),
        thumbnails=sheet_of([*zip(at_s, faces, strict=True)]),
    )


def _weights(rng: np.random.Generator, n: int) -> FusionWeights:
    gate = np.clip(0.6 + 0.2 * wander(rng, n)[:, 0] + rng.normal(0, 0.02, n), 0, 1)
    attention = rng.random((n, N_LAGS))
    return FusionWeights(
        {"visual": gate, "audio": 1 - gate},
        {"visual to audio": attention / attention.sum(axis=1, keepdims=True)},
        np.linspace(-10, 10, N_LAGS),
    )


def content(n_clips: int, n_frames: int, members: int) -> Content:
    """The content of a report with this many clips and frames."""
    rng = np.random.default_rng(0)
    lengths = rng.gamma(1.5, 1.0, n_clips)
    lengths = np.clip(lengths / lengths.sum() * n_frames, 300, N_LONGEST).astype(int)
    curves = [clip(rng, k, n, members) for k, n in enumerate(lengths.tolist())]
    known = [(c.truth[c.annotated], c.predicted[c.annotated]) for c in curves]
    truth, predicted = (np.concatenate(each) for each in zip(*known, strict=True))
    sums = [VaConcordance(*(Concordance.of(t[:, k], p[:, k]) for k in range(2))) for t, p in known]
    valence, arousal = (Concordance.of(truth[:, k], predicted[:, k]) for k in range(2))
    ccc = VaConcordance(valence, arousal).ccc()
    found = score_intervals(sums)
    assert found
    score = SplitScore(*ccc, len(truth), n_clips, 0, n_clips, **found.ends())
    mean = float(truth[:, 0].mean()), float(truth[:, 1].mean())
    errors = [
        group_error(c.score.clip, t, p, mean, with_ccc=True)
        for (t, p), c in zip(known, curves, strict=True)
    ]
    epochs = tuple(EpochResult(k, 1 / (k + 1), 0.4, 0.5, 0.45) for k in range(15))
    keys = (
        "loss",
        "loss_valence",
        "loss_arousal",
        "loss_regions",
        "gradient_norm",
        "learning_rate",
    )
    values = {key: tuple(1 / (k + 1) for k in range(15)) for key in (*keys, "ccc_mean")}
    return Content(
        run="affwild2",
        split="val",
        score=score,
        valence=valence.agreement(),
        arousal=arousal.agreement(),
        epochs=epochs,
        kept=epochs[-1],
        kept_why="the last",
        truth=truth,
        predicted=predicted,
        grid=NINE,
        prompts=None,
        regions="none here",
        curves=tuple(sorted(curves, key=lambda each: each.sort_key)),
        config="",
        commands=(),
        started_as=None,
        facts=(),
        epoch_values=values,
        by_subject=_largest_first(errors),
        by_region=errors_by_region(truth, predicted, mean, NINE),
        arrows=arrows_of(truth, predicted),
        weights=_joined([c.weights for c in curves if c.weights]),
    )


def _joined(parts: list[FusionWeights]) -> FusionWeights | str:
    if not parts:
        return OF_AN_ENSEMBLE
    gate, attention = (
        {name: np.concatenate([each[name] for each in own]) for name in own[0]}
        for own in ([p.gate for p in parts], [p.attention for p in parts])
    )
    return FusionWeights(gate, attention, parts[0].lags_s)


def _largest_first(errors: list[GroupError]) -> tuple[GroupError, ...]:
    return tuple(sorted(errors, key=lambda each: -sum(each.rmse)))


def opening(path: Path, loads: int) -> dict[str, float]:
    """Median times of a load in milliseconds; raises if the page asks for anything."""
    from tests.helpers.browser import chromium, resize

    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as window:
        resize(window, 1280)
        window.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        for _ in range(loads):
            window.get("about:blank")
            before_s = _busy_s(window)
            window.get(path.resolve().as_uri())
            time.sleep(1)
            busy_ms = 1000 * (_busy_s(window) - before_s)
            found.append(window.execute_script(READY) | {"busy": busy_ms})
        assert window.get_log("browser") == []
    middle = {n: round(statistics.median(each[n] for each in found)) for n in found[0]}
    return middle | {"loaded_least": round(min(each["loaded"] for each in found))}


def _busy_s(window: webdriver.Chrome) -> float:
    metrics = window.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(each["value"] for each in metrics if each["name"] == "TaskDuration")


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=N_CLIPS)
    parser.add_argument("--frames", type=int, default=N_FRAMES)
    parser.add_argument("--members", type=int, default=1, help="of an ensemble; 1: a single head")
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--output", type=Path, help="keep the page")
    options = parser.parse_args()
    shown = content(options.clips, options.frames, options.members)
    began_s = time.process_time()
    text = page(shown, "0" * 64)
    cpu_s = time.process_time() - began_s
    with tempfile.TemporaryDirectory() as folder:
        path = options.output or Path(folder) / "report.html"
        path.write_text(text, encoding="utf-8")
        result = {
            "frames": sum(len(each.time_s) for each in shown.curves),
            "mib": round(path.stat().st_size / 2**20, 2),
            "drawn_in_cpu_s": round(cpu_s, 1),
            "open_ms": opening(path, options.loads),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
