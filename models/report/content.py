"""The content of a report: the numbers and curves of a split, before anything is drawn."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float64

from features.canonical_json import JsonObject
from features.errors import InputError
from models.data.data_sets import Manifests, Stores
from models.metrics.ccc import Agreement
from models.metrics.predict import at_labels, concordance
from models.metrics.scores import ClipScore, SplitScore, scores_by_set
from models.metrics.zero_shot import predict_zero_shot
from models.regions.grid import Grid
from models.regions.nearest_words import PromptWords, read_prompt_words
from models.report.region_report import RegionReading, regions_of
from models.runs.folder import (
    CONFIG,
    HEAD_FILE,
    METRICS,
    PROMPTS,
    PROVENANCE,
    read_json,
    read_metrics,
)
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import PredictedSplit, RunSplit
from models.runs.texts_alone import read_texts_alone
from models.training.config import EpochResult, kept_epoch
from models.training.old_keys import OLD_STREAMS

LOST_EPOCHS = "The run's folder has lost the file with its epochs, so there is no curve to show."
ENSEMBLE_EPOCHS = "Each member of an ensemble has curves of its own, in the member's own report."
KEPT_WHY = {
    "last": "the last",
    "val": "the best on the split val",
    "inner": "the best on the training subjects that were held out",
}
PROVENANCE_FIELDS = {
    "seed": "seed",
    "device": "device",
    "git commit": "git_commit",
    "trained at": "made_at",
    f"key of {HEAD_FILE}": "key",
}


@dataclass(frozen=True, slots=True)
class ClipCurves:
    """One clip over time."""

    score: ClipScore
    time_s: Float64[np.ndarray, "T"]
    truth: Float64[np.ndarray, "T 2"]
    """NaN if not annotated."""
    predicted: Float64[np.ndarray, "T 2"]
    seen: Bool[np.ndarray, "T"]
    """False without a face."""
    has_sound: Bool[np.ndarray, "T"]

    @property
    def annotated(self) -> Bool[np.ndarray, "T"]:
        """Rows with labels."""
        return ~np.isnan(self.truth[:, 0])

    @property
    def n_without_face(self) -> int:
        """Number of frames without a face."""
        return int((~self.seen).sum())

    @property
    def sort_key(self) -> float:
        """Sum of both CCC: sorts the worst clip first and clips without labels last."""
        if self.score.ccc_valence is None or self.score.ccc_arousal is None:
            return float("inf")
        return self.score.ccc_valence + self.score.ccc_arousal


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a report shows."""

    run: str
    split: str
    score: SplitScore
    valence: Agreement
    arousal: Agreement
    epochs: tuple[EpochResult, ...]
    """Empty if there are none to show."""
    kept: EpochResult | None
    """The epoch whose weights were kept; None if there are no epochs."""
    kept_why: str
    """Why it was kept, in words."""
    truth: Float64[np.ndarray, "N 2"]
    """Annotated frames of all clips."""
    predicted: Float64[np.ndarray, "N 2"]
    grid: Grid
    prompts: PromptWords | None
    """The words nearest to learned prompts."""
    regions: RegionReading | str
    """A text says why there is nothing to show."""
    curves: tuple[ClipCurves, ...]
    """Worst clip first."""
    config: str
    commands: tuple[tuple[str, str], ...]
    """A description and a command line each."""
    started_as: str | None
    """The command line of the training."""
    facts: tuple[tuple[str, str], ...]
    """Names and values of the training's provenance."""
    no_epochs: str = LOST_EPOCHS
    texts_alone: tuple[float, float, float] | None = None
    """CCC of V, of A, and their mean, of the region texts alone; None if the run has none."""
    caution: tuple[str, ...] = ()
    by_set: Mapping[str, SplitScore] = field(default_factory=dict)
    """Of several data sets, the score of each."""


def content_of(
    split: PredictedSplit, score: SplitScore | None, clips: Sequence[ClipScore]
) -> Content:
    """The content for a split with its scores; raises `InputError` if `score` is None."""
    source, packed, prediction = split.source, split.packed, split.prediction
    meta = source.predictor.meta
    if score is None:
        raise InputError(
            f"no frame of the split {source.name!r} is annotated, so there is nothing to "
            "compare its predictions with; give a split with labels"
        )
    sums = concordance(prediction, packed)
    alone = read_texts_alone(source.run, meta.grid)
    annotated, labels = packed.va_valid.cpu().numpy(), packed.va.cpu().numpy()
    truth = np.where(annotated[:, None], labels, np.nan)
    has_sound = packed.valid_in("audio")
    if has_sound is None:  # without a set of sound there is no gap to show
        has_sound = torch.ones_like(packed.seen)
    valid = packed.seen.cpu().numpy(), has_sound.cpu().numpy()
    provenance = read_json(source.run / PROVENANCE, "delete it to do without, or train again")
    try:
        facts = tuple((k, str(fact)) for k, fact in _facts_of(provenance) if fact is not None)
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"the {PROVENANCE} of the run is damaged ({error}); delete it to do without, or train "
            "again"
        ) from None
    curves = [
        ClipCurves(
            score_of_clip,
            packed.time_s[rows],
            truth[rows],
            prediction.va[rows],
            *(each[rows] for each in valid),
        )
        for score_of_clip, (_, rows) in zip(clips, packed.spans(), strict=True)
    ]
    epochs, train = _read_epochs(source), source.predictor.config.train
    return Content(
        run=source.run.resolve().name,
        split=source.name,
        score=score,
        by_set=scores_by_set(prediction, packed, source.subject_by_clip),
        valence=sums.valence.agreement(),
        arousal=sums.arousal.agreement(),
        epochs=epochs,
        kept=kept_epoch(epochs, train) if epochs else None,
        kept_why=KEPT_WHY[train.select],
        no_epochs=ENSEMBLE_EPOCHS if isinstance(source.predictor, TrainedEnsemble) else LOST_EPOCHS,
        caution=source.caution,
        texts_alone=alone
        and concordance(predict_zero_shot(packed, alone.regions, alone.settings), packed).ccc(),
        truth=at_labels(prediction, packed)[0],
        predicted=at_labels(prediction, packed)[1],
        grid=meta.grid,
        prompts=read_prompt_words(source.run / PROMPTS) if meta.loss.region_weight else None,
        regions=regions_of(split),
        curves=tuple(sorted(curves, key=lambda each: each.sort_key)),
        config=(source.run / CONFIG).read_text(encoding="utf-8"),
        commands=_commands_of(source),
        started_as=provenance.get("started_as"),
        facts=facts,
    )


def _read_epochs(source: RunSplit) -> tuple[EpochResult, ...]:
    try:
        return read_metrics(source.run)
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{source.run / METRICS} is damaged ({error}); delete it to do without, or train again"
        ) from None


def _commands_of(source: RunSplit) -> tuple[tuple[str, str], ...]:
    run, config = source.run.resolve(), source.predictor.config
    used, trained = (
        {
            "manifest": _listed(each.manifest),
            "store": _listed(each.store),
            "max_length_mismatch": str(each.max_length_mismatch),
        }
        for each in (source, config)
    )
    changed = {key: value for key, value in used.items() if value != trained[key]}
    keys = [f"{key}={value}" for key, value in changed.items()]
    options = [
        word for key, value in changed.items() for word in (f"--{key.replace('_', '-')}", value)
    ]
    is_ensemble = isinstance(source.predictor, TrainedEnsemble)
    stage, what = ("train-ensemble", "ensemble") if is_ensemble else ("train-head", "head")
    train = ["run", stage, "-c", str(run / CONFIG), f"run={run}-again"]
    score = ["run", "score-head", f"run={run}", f"split={source.name}", *keys]
    report = ["report", str(run), "--split", source.name, *options]
    return (
        (f"Train the same {what} again, beside this one", shlex.join(["vaflow", *train])),
        ("Score this one", shlex.join(["vaflow", *score])),
        ("Make this report again", shlex.join(["vaflow", *report])),
    )


def _listed(paths: Manifests | Stores) -> str:
    """Return the value of a key that has one path, or a list of them."""
    return f"[{','.join(map(str, paths))}]" if isinstance(paths, tuple) else str(paths)


def _facts_of(record: JsonObject) -> Iterator[tuple[str, object]]:
    """Yield the facts of a well-formed record; None for a missing one."""
    inputs, versions = record.get("inputs") or {}, record.get("versions") or {}
    streams = inputs.get("streams") or {stream: inputs.get(stream) for stream in OLD_STREAMS}
    for stream, used in streams.items():
        yield f"{stream} features", (used or {}).get("name")
        yield f"sha256 of the {stream} records", (used or {}).get("records_sha256")
    yield "sha256 of the labels", inputs.get("labels_sha256")
    yield "sha256 of the region texts", inputs.get("texts_sha256")
    for split, clips in (inputs.get("clips") or {}).items():
        yield f"clips of the split {split}", len(clips)
    for kind, encoder in (record.get("encoders") or {}).items():
        yield f"encoder {kind}", json.dumps(encoder, sort_keys=True, ensure_ascii=False)
    for name, key in PROVENANCE_FIELDS.items():
        yield name, record.get(key)
    yield "versions", ", ".join(f"{name} {number}" for name, number in versions.items()) or None
