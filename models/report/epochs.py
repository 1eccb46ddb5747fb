"""The epochs of a training as a report shows them: every number that `metrics.jsonl` has."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import floor, isfinite
from pathlib import Path

from features.canonical_json import JsonObject
from models.plots.svg import AROUSAL, INK, LINES, UNLABELLED, VALENCE
from models.report.charts import Chart, Series
from models.report.references import Reference
from models.runs.folder import METRICS

EpochValues = Mapping[str, tuple[float | None, ...]]
"""Of each quantity its value in each epoch; None if an epoch has none."""

_INDEX = "index"
_VAL = ("ccc_valence", "ccc_arousal", "ccc_mean", "ccc_inner")
_LOOKS = {  # colour, marker and dash
    "ccc_mean": (INK, "o", "-"),
    "ccc_inner": (UNLABELLED, "D", ":"),
    "loss": (INK, "o", "-"),
    "loss_regions": (LINES[2], "D", ":"),
}
_OTHER_MARKERS = "oDvs^"


def read_epoch_values(run: Path) -> EpochValues:
    """Return every numeric key of the epochs; empty if the run has lost the file.

    Raises `ValueError` if a line is not JSON.
    """
    try:
        text = (run / METRICS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    lines = [json.loads(line) for line in text.splitlines()]
    lines = [line for line in lines if isinstance(line, dict)]
    keys = dict.fromkeys(key for line in lines for key in line if key != _INDEX)
    values = {key: tuple(_number(line, key) for line in lines) for key in keys}
    return {key: each for key, each in values.items() if any(v is not None for v in each)}


def _number(line: JsonObject, key: str) -> float | None:
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None


def epoch_charts(
    values: EpochValues, kept_epoch: int, references: Sequence[Reference] = ()
) -> tuple[Chart, ...]:
    """Return charts of the loss and its parts, the CCC on val and on train, and what else there is.

    `kept_epoch` counts from 1. References with a mean CCC are drawn as level lines.
    """
    grouped = {
        "loss": [key for key in values if key == "loss" or key.startswith("loss_")],
        "ccc": [key for key in _VAL if key in values],
        "gradient": [key for key in values if key.startswith("gradient_norm")],
        "train": [key for key in values if key.startswith("ccc_train_")],
    }
    used = {key for keys in grouped.values() for key in keys}
    charts = [
        _chart("loss", "Training loss", "training loss", grouped["loss"], values, kept_epoch),
        _chart("val-ccc", "CCC on the split val", "CCC on val", grouped["ccc"], values, kept_epoch),
        _chart(
            "train-ccc", "CCC in training", "CCC on train", grouped["train"], values, kept_epoch
        ),
        _chart(
            "gradient-norm",
            "Norm of the gradient",
            "gradient norm",
            grouped["gradient"],
            values,
            kept_epoch,
        ),
        *(
            _chart(f"epoch-{k}", _words(key), _words(key), [key], values, kept_epoch)
            for k, key in enumerate(key for key in values if key not in used)
        ),
    ]
    drawn = [chart for chart in charts if chart]
    return tuple(_with_references(each, references) for each in drawn)


def _chart(
    name: str, caption: str, ylabel: str, keys: list[str], values: EpochValues, kept: int
) -> Chart | None:
    if not keys:
        return None
    n = len(values[keys[0]])
    label = f"{caption} over {n} epochs"
    if name == "val-ccc" and "ccc_mean" in values:
        label += f"; {values['ccc_mean'][kept - 1]:.3f} at epoch {kept}, which is kept"
    at = [float(k) for k in range(1, n + 1)]
    series = tuple(
        Series(_words(key, group=keys), at, values[key], *_look(key, k))
        for k, key in enumerate(keys)
    )
    known = [value for key in keys for value in values[key] if value is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    if name.endswith("ccc"):
        low, high = min(0.0, floor(10 * low) / 10), 1.0
    room = 0.05 * (high - low) or 1.0
    y_range = (low if low == 0 or name.endswith("ccc") else low - room, high + room)
    x_range = (0.5, max(n, 2) + 0.5)
    return Chart(
        name, label, "epoch", ylabel, series, caption, (), x_range, y_range, kept_epoch=kept
    )


def _with_references(chart: Chart, references: Sequence[Reference]) -> Chart:
    if chart.name != "val-ccc" or not references:
        return chart
    ends = chart.x_range or (0.0, 1.0)
    best = max(references, key=lambda each: each.ccc_mean)
    line = Series(f"{best.name}, mean", ends, (best.ccc_mean,) * 2, UNLABELLED, "D", "--")
    return replace(chart, series=(*chart.series, line))


def _look(key: str, place: int) -> tuple[str, str, str]:
    if key in _LOOKS:
        return _LOOKS[key]
    if "valence" in key:
        return VALENCE, "s", "--"
    if "arousal" in key:
        return AROUSAL, "^", "--"
    return LINES[place % len(LINES)], _OTHER_MARKERS[place % len(_OTHER_MARKERS)], "-"


def _words(key: str, group: Sequence[str] = ()) -> str:
    """Return a key as words, without what all keys of a group begin with."""
    if group and key == "loss":
        return "whole loss"
    for prefix in ("ccc_train_", "ccc_", "loss_") if group else ():
        if key.startswith(prefix):
            return key.removeprefix(prefix).replace("_", " ")
    return key.replace("_", " ")
