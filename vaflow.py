"""vaflow in Python: features, training, predictions, scores and figures, for a notebook.

Functions take the keys of the commands of the same names, and do the same (docs/python.md). Nothing
heavy is imported before it is used. Tables need pandas: `pip install -e '.[notebook]'`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from features.errors import InputError, list_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from models.data.feature_sets import FeatureSets
    from models.runs.run_split import PredictedSplit
    from models.stages.clip_features import Clock
    from models.stages.score_head import ScoreResult
    from models.stages.train_head import TrainResult

__all__ = ["Store", "open_store", "plot", "predict", "score", "train"]

COLUMNS = ("clip", "frame", "time_s", "valence", "arousal")
"""Of predictions. Frames count from 1."""

Place = str | os.PathLike[str]
"""The path of a file or folder; of a store also a URL."""
As = Literal["arrays", "dataframe", "xarray"]


@dataclass(frozen=True)
class Store:
    """A feature store, open for reading; `open_store` makes one."""

    _sets: FeatureSets
    _manifest: Path | None = None

    @property
    def feature_sets(self) -> dict[str, str]:
        """The name of each feature set, by that of its stream, such as `visual`."""
        return self._sets.names

    @property
    def clips(self) -> tuple[str, ...]:
        """The ids of the clips that have features, sorted."""
        from features.store.feature_store import FeatureStore

        store, names = FeatureStore.open(self._sets.location), self.feature_sets.values()
        return tuple(sorted({clip for name in names for clip in store.clip_ids(name)}))

    def features(
        self,
        clip: str,
        feature_set: str | None = None,
        *,
        clock: Clock = None,
        as_: As = "arrays",
    ) -> Any:
        """Return the features of a clip on a clock, by default on that of the feature set itself.

        `feature_set` is the name of a stream or of a set; the first stream is the default. `clock`
        is a rate in Hz, the name of another set or stream, `"labels"` for the times of the clip's
        labels (`open_store` needs the manifest), or times in seconds. Rows are brought to it as for
        a training: row by row between sets that have a row per frame, and interpolated otherwise.

        `as_` is `"arrays"` for a `Track` with `values` (T, D), `time_s` (T,) in seconds and `valid`
        (T,); `"dataframe"` for a table with `time_s` as its index; `"xarray"` for a `DataArray`
        with the dimensions `time_s` and `feature`. A row that is not valid has no input: it is 0 in
        the arrays, and NaN in the others. Raises `InputError` for an unknown name or clock, and
        `StoreError` if the record is missing or damaged.
        """
        from models.stages.clip_features import features_on_clock, find_set

        stream, spec = find_set(self._sets, feature_set or next(iter(self.feature_sets)))
        track = features_on_clock(self._sets, spec, clip, clock, self._manifest)
        if as_ == "arrays":
            return track
        if as_ not in ("dataframe", "xarray"):
            raise InputError(f"as_ = {as_!r}; give arrays, dataframe or xarray")
        import numpy as np

        values = np.where(track.valid[:, None], track.values.astype(np.float32), np.nan)
        if as_ == "xarray":
            return _library("xarray").DataArray(
                values,
                dims=("time_s", "feature"),
                coords={"time_s": track.time_s, "valid": ("time_s", track.valid)},
                name=stream,
                attrs={"clip": clip, "feature_set": spec.name},
            )
        pandas = _library("pandas")
        columns = [f"{stream}_{number}" for number in range(values.shape[1])]
        return pandas.DataFrame(values, pandas.Index(track.time_s, name="time_s"), columns)


def open_store(path: Place, manifest: Place | None = None) -> Store:
    """Open a feature store; the manifest says where the labels of its clips are.

    Raises `InputError` if there is no store, or it has no features of an encoder.
    """
    from models.data.feature_sets import sets_of_store

    return Store(sets_of_store(os.fspath(path)), Path(manifest) if manifest else None)


def train(
    *,
    manifest: Place | Sequence[Place],
    store: Place | Sequence[Place],
    run: Place,
    on_epoch: Callable[[Any], None] | None = None,
    **keys: Any,
) -> TrainResult:
    """Train a head as `vaflow run train-head` does, with the same keys.

    Keys inside others are nested, `train={"epochs": 5}`, or dotted, `**{"train.epochs": 5}`.
    `on_epoch` is called with the result of each epoch. Raises `InputError` for a wrong key or
    value, before anything is written.
    """
    from models.stages.train_head import train_head

    hooks = {"on_epoch": on_epoch}
    return _call(train_head, {"manifest": manifest, "store": store, "run": run} | keys, **hooks)


def score(run: Place, *, split: str = "val", **keys: Any) -> ScoreResult:
    """Score a run on a split as `vaflow run score-head` does, which writes files to the run.

    The result has `score` with the CCC of the split and its intervals, and `clips` with those of
    each clip. Other keys are `manifest`, `store`, `sample`, `force` and `max_length_mismatch`.
    """
    from models.stages.score_head import score_head

    return _call(score_head, {"run": run, "split": split} | keys)


def predict(
    run: Place,
    *videos: Place,
    split: str | None = None,
    clips: Sequence[str] = (),
    manifest: Place | Sequence[Place] | None = None,
    store: Place | Sequence[Place] | None = None,
    output: Place | None = None,
    **keys: Any,
) -> pd.DataFrame:
    """Return valence and arousal of every frame, in the columns `COLUMNS`.

    With videos, which are files, folders and patterns, it does what `vaflow predict` does, with the
    same keys; files are kept if `output` is given. A second person of the video `NAME` is the clip
    `NAME.p2`. Raises `Incomplete` if a video cannot be predicted.

    Without videos, it predicts clips whose features are in the store: those of a split, by default
    `val` of the training's manifest and store, or some `clips` of it.
    """
    pandas = _library("pandas")
    if not videos:
        if output is not None or keys:
            raise InputError(f"{list_names([*keys] or ['output'])}: only with videos to predict")
        predicted = _predict_split(run, split or "val", manifest, store, clips)
        return pandas.concat([pandas.DataFrame(rows) for rows in _rows(predicted)])
    if split or clips or manifest:
        raise InputError("split, clips and manifest are of clips with features: leave them out")
    from flows.stages import raise_if_incomplete
    from models.stages.predict import predict as predict_videos

    with TemporaryDirectory(prefix="vaflow-") as temporary:
        given = {"run": run, "videos": [os.fspath(each) for each in videos], "store": store}
        given |= {"output": output or temporary, "format": "csv"}
        result = _call(predict_videos, given | keys)
        raise_if_incomplete(result)
        tables = []
        for video in result.videos:
            table = pandas.read_csv(result.output / f"{video.name}.csv")
            suffix = table["person"].map(lambda number: f".p{number}" if number > 1 else "")
            tables.append(table.assign(clip=video.name + suffix)[[*COLUMNS]])
    return pandas.concat(tables, ignore_index=True)


def plot(
    run: Place,
    clip: str,
    *,
    split: str = "val",
    manifest: Place | Sequence[Place] | None = None,
    store: Place | Sequence[Place] | None = None,
) -> Figure:
    """Return a figure of a clip over time: labels, prediction, and where there is no face."""
    import numpy as np

    from models.plots.timeline import timeline_figure

    predicted = _predict_split(run, split, manifest, store, [clip])
    packed = predicted.packed
    truth = np.where(packed.va_valid.cpu()[:, None], packed.va.cpu(), np.nan)
    seen = packed.seen.cpu().numpy()
    return timeline_figure(clip, packed.time_s, predicted.prediction.va, truth, seen)


def _call(function: Callable[..., Any], keys: dict[str, Any], **hooks: Any) -> Any:
    """Call a stage with checked keys, as its command does; a key that is None is left out."""
    from flows.keys.settings import settings

    overrides = [f"{key}={_yaml(value)}" for key, value in _dotted(keys)]
    return function(**settings(function, None, overrides), **hooks)


def _dotted(keys: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys; those inside a config one by one, so that its other keys keep defaults."""
    from pydantic_core import to_jsonable_python

    from flows.keys.settings import CONFIGS_BY_KEY

    for key, value in keys.items():
        plain = to_jsonable_python(value)
        if key in CONFIGS_BY_KEY and isinstance(plain, dict):
            yield from ((f"{key}.{inner}", each) for inner, each in plain.items())
        elif value is not None:
            yield key, plain


def _yaml(value: Any) -> str:
    """Return a value as it is written on the command line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").rstrip()


def _predict_split(
    run: Place, split: str, manifest: Any, store: Any, clips: Sequence[str]
) -> PredictedSplit:
    from models.runs.run_split import open_split, read_split

    given = None if manifest is None else _each(Path, manifest)
    stores = None if store is None else _each(os.fspath, store)
    source = open_split(Path(run), given, stores, split)
    if clips:
        groups = source.clips
        if unknown := [clip for clip in clips if clip not in groups.ids(split)]:
            raise InputError(
                f"the split {split!r} has no clip {list_names(unknown)}; give split=..., or one of "
                f"{list_names(groups.ids(split))}"
            )
        chosen = tuple(clip for clip in groups.clips[split] if clip.id in clips)
        labels = {clip.id: groups.labels[clip.id] for clip in chosen}
        source = replace(source, clips=replace(groups, clips={split: chosen}, labels=labels))
    return read_split(source)


def _each(convert: Callable[[Any], Any], given: Any) -> Any:
    """Convert a path, or each of several."""
    if isinstance(given, str | os.PathLike):
        return convert(given)
    return tuple(convert(each) for each in given)


def _rows(predicted: PredictedSplit) -> Iterator[dict[str, Any]]:
    """Yield the columns of each clip."""
    for clip, span in predicted.packed.spans():
        valence, arousal = predicted.prediction.va[span].T
        time_s = predicted.packed.time_s[span]
        yield dict(
            zip(COLUMNS, (clip, range(1, len(time_s) + 1), time_s, valence, arousal), strict=True)
        )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"this needs {name}, which is not installed: `pip install -e '.[notebook]'` installs it"
        ) from None
