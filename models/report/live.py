"""What the page draws with plotly.js: charts as JSON, and the curves of the clips, packed.

A number of a curve is an integer of 16 bits, of a time one of 32, both little-endian in base64:
an eighth of its decimal digits. A curve of many frames is downsampled as that of the still figure,
so that each bucket of frames keeps its highest and its lowest value of every curve.
"""

import base64
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from features.canonical_json import JsonObject
from models.plots import svg as colours
from models.report.content import ClipCurves, Content
from models.report.timeline import kept_rows, stretches

SCRIPT = Path(__file__).with_name("report.js")
CLIP_ROWS = 1600  # of a clip, about: 2 per bucket and curve
REPORT_ROWS = 125_000  # of all clips
LEAST_BUCKETS = 12
ATTENTION_COLUMNS = 150  # of a clip over time
SCALE = 10_000  # of a value in [-1, 1]
GAP = -32_768
SHADES = ((0, "#FFFFFF"), (0.25, "#C6DBEF"), (0.6, "#4292C6"), (1, "#08306B"))  # as "Blues"
COLOURS = {
    "truth": colours.TRUTH,
    "predicted": colours.PREDICTED,
    "face": colours.NO_FACE,
    "sound": colours.NO_SOUND,
    "labels": colours.UNLABELLED,
    "faint": colours.FAINT,
    "ink": colours.INK,
}


def plotly_script() -> str:
    """Return plotly.js, as it is in its Python package; the page asks for nothing else."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def live_data(content: Content, charts: Mapping[str, JsonObject]) -> str:
    """Return the JSON of the page, in ASCII and without `<`, so that no HTML ends it.

    `charts` are traces and layout by the id of their figure.
    """
    clips = {
        f"clip-{number}": _clip(curves, len(content.curves))
        for number, curves in enumerate(content.curves, 1)
    }
    lags_s = [] if isinstance(content.weights, str) else content.weights.lags_s.tolist()
    whole = {
        "charts": charts,
        "clips": clips,
        "colours": COLOURS,
        "lines": colours.LINES,
        "shades": SHADES,
        "lags_s": [round(lag_s, 3) for lag_s in lags_s],
        "font": colours.PAGE_FONT,
    }
    return json.dumps(whole, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _clip(curves: ClipCurves, n_clips: int) -> JsonObject:
    values = {
        "truth valence": curves.truth[:, 0],
        "truth arousal": curves.truth[:, 1],
        "predicted valence": curves.predicted[:, 0],
        "predicted arousal": curves.predicted[:, 1],
    }
    gate = {} if curves.weights is None else curves.weights.gate
    rows = rows_of_clip([*values.values(), *[*gate.values()][1:]], n_clips)
    if curves.band is not None:
        for end, band in zip(("lowest", "highest"), curves.band, strict=True):
            values |= {f"{end} valence": band[:, 0], f"{end} arousal": band[:, 1]}
    missing = {"face": curves.seen, "sound": curves.has_sound, "labels": curves.annotated}
    found: JsonObject = {
        "n_rows": len(curves.time_s),
        "time_ms": _packed(np.round(1000 * curves.time_s[rows]).astype("<i4")),
        "values": {name: _fractions(each[rows]) for name, each in values.items()},
        "gate": {name: _fractions(each[rows]) for name, each in gate.items()},
        "missing": {name: _spans(~known, curves.time_s) for name, known in missing.items()},
    }
    if curves.weights is not None and curves.weights.attention:
        found["attention"] = _attention(curves)
    if pictures := curves.thumbnails:
        found["pictures"] = {
            "sheet": pictures.sheet,
            "time_s": [round(time_s, 3) for time_s in pictures.time_s],
            "width_px": pictures.width_px,
        }
    return found


def rows_of_clip(
    curves: Sequence[Float64[np.ndarray, "T"]], n_clips: int
) -> Int64[np.ndarray, "K"]:
    """Return the rows of a clip that are drawn: those that suffice for each of the curves.

    At most about `CLIP_ROWS`, and of `n_clips` clips together at most about `REPORT_ROWS`.
    """
    n_rows = min(CLIP_ROWS, REPORT_ROWS // n_clips)
    if len(curves[0]) <= n_rows:
        return np.arange(len(curves[0]))
    buckets = max(LEAST_BUCKETS, n_rows // (2 * len(curves)))
    return np.unique(np.concatenate([kept_rows(each, buckets) for each in curves]))


def _fractions(values: Float64[np.ndarray, "K"]) -> str:
    whole = np.where(np.isnan(values), GAP, np.round(SCALE * np.nan_to_num(values)))
    return _packed(whole.astype("<i2"))


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _spans(rows: Bool[np.ndarray, "T"], time_s: Float64[np.ndarray, "T"]) -> list[list[float]]:
    """Return when rows are true, as pairs of seconds; gaps too short to be seen are closed."""
    least_s = float(time_s[-1] - time_s[0]) / CLIP_ROWS
    spans: list[list[float]] = []
    for start_s, stop_s in stretches(rows, time_s):
        if spans and start_s - spans[-1][1] < least_s:
            spans[-1][1] = round(stop_s, 3)
        else:
            spans.append([round(start_s, 3), round(stop_s, 3)])
    return spans


def _attention(curves: ClipCurves) -> JsonObject:
    """Return the attention by lag over time as shades of 0 to 255, 255 being `most`."""
    assert curves.weights
    n = len(curves.time_s)
    edges = np.unique(np.linspace(0, n, min(ATTENTION_COLUMNS, n) + 1).astype(int))
    time_s = [float(curves.time_s[a:b].mean()) for a, b in itertools.pairwise(edges)]
    found: JsonObject = {"time_s": [round(each, 3) for each in time_s], "shares": {}}
    for name, weights in curves.weights.attention.items():
        sums = np.add.reduceat(weights, edges[:-1], axis=0)
        means = (sums / np.diff(edges)[:, None]).T  # (lags, columns)
        most = max(float(means.max()), 1e-9)
        shades = _packed(np.round(255 * means / most).astype(np.uint8))
        found["shares"][name] = {"shades": shades, "most": round(most, 5)}
    return found
