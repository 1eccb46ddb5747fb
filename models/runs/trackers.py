"""Experiment trackers that a training also writes its epochs to: `train.log_to`.

Each library is an extra that is imported when it is named. The file `log_to.json` beside the last
state says which run of a tracker belongs to the training, so that one that goes on appends to it.
"""

import json
import logging
import os
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from features.errors import InputError
from models.runs.folder import TRAINING, RunConfig, write_json
from models.training.config import EpochResult, TrackerName

RUNS = "log_to.json"
TENSORBOARD = "tensorboard"
"""In a run's folder, the event files."""
PROJECT = "vaflow"
"""The experiment of MLflow and the project of W&B, unless the environment names one."""
PARAMS_AT_ONCE = 100  # a limit of MLflow
NAMES = MappingProxyType(
    {
        "ccc_valence": "val/ccc_valence",
        "ccc_arousal": "val/ccc_arousal",
        "ccc_mean": "val/ccc_mean",
        "ccc_inner": "inner/ccc_mean",
        "ccc_train_valence": "train/ccc_valence",
        "ccc_train_arousal": "train/ccc_arousal",
        **{
            name: f"train/{name}"
            for name in (
                "loss",
                "loss_valence",
                "loss_arousal",
                "loss_regions",
                "loss_unlabelled",
                "gradient_norm",
                "gradient_norm_max",
                "learning_rate",
                "seconds",
            )
        },
    }
)
"""Field of `EpochResult` -> name in a tracker. The step is the number of the epoch, from 1."""

log = logging.getLogger(__name__)


class Tracker(ABC):
    """The run of a tracker that belongs to a training."""

    logged: dict[str, set[int]]
    """The steps that it holds, by the name of the number."""
    id: str = ""
    """The tracker's name of the run, to go on with it."""

    @abstractmethod
    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step."""

    @abstractmethod
    def close(self, status: str) -> None:
        """End the run: FINISHED, KILLED or FAILED."""


class TensorBoard(Tracker):
    """Event files in the run's folder."""

    def __init__(self, config: RunConfig, before: str | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder, self.logged = config.run / TENSORBOARD, defaultdict(set)
        if before is None:
            shutil.rmtree(folder, ignore_errors=True)  # of another training
        else:
            self._read(folder)
        self._writer = SummaryWriter(str(folder))

    def _read(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore[reportMissingImports]

        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for name in events.Tags()["scalars"]:
            self.logged[name] = {event.step for event in events.Scalars(name)}

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write scalars, and flush the file."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, status: str) -> None:
        """Close the file."""
        self._writer.close()


class MLflow(Tracker):
    """A run in the store that `MLFLOW_TRACKING_URI` names, or in `mlflow.db` beside the run."""

    def __init__(self, config: RunConfig, before: str | None) -> None:
        entities = import_module("mlflow.entities")
        self._metric = entities.Metric
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        client = import_module("mlflow").MlflowClient
        self._client = client(uri or f"sqlite:///{config.run.resolve().parent / 'mlflow.db'}")
        self.logged = defaultdict(set)
        if before is not None:
            self._go_on(before)
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.id = self._client.create_run(experiment, run_name=config.run.name).info.run_id
        params = [entities.Param(key, value) for key, value in settings(config).items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(self.id, params=params[start : start + PARAMS_AT_ONCE])

    def _go_on(self, before: str) -> None:
        self.id = before
        self._client.update_run(before, status="RUNNING")
        for name in NAMES.values():
            history = self._client.get_metric_history(before, name)
            self.logged[name] = {metric.step for metric in history}

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write metrics."""
        now_ms = int(time.time() * 1000)
        metrics = [self._metric(name, value, now_ms, step) for name, value in numbers.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def close(self, status: str) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self.id, status)


class WeightsAndBiases(Tracker):
    """A run in `wandb/` of the run's folder, offline unless `WANDB_MODE` says otherwise."""

    def __init__(self, config: RunConfig, before: str | None) -> None:
        self.logged = defaultdict(set)
        self.id, _, last = (before or uuid.uuid4().hex[:8]).partition(":")
        if last:
            self.logged = {name: set(range(1, int(last) + 1)) for name in NAMES.values()}
        config.run.mkdir(parents=True, exist_ok=True)
        self._key = self.id
        self._run = import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=config.run.name,
            id=self._key,
            resume="allow",
            dir=str(config.run),
            mode=None if "WANDB_MODE" in os.environ else "offline",
            config=settings(config),
        )

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the step; its number is kept in the id, as nothing offline can be asked for it."""
        self._run.log(dict(numbers), step=step)
        self.id = f"{self._key}:{step}"

    def close(self, status: str) -> None:
        """Finish the run."""
        self._run.finish(exit_code=int(status != "FINISHED"))


TRACKERS: Mapping[TrackerName, tuple[Callable[[RunConfig, str | None], Tracker], str]] = (
    MappingProxyType(
        {
            "tensorboard": (TensorBoard, "tensorboard"),
            "mlflow": (MLflow, "mlflow"),
            "wandb": (WeightsAndBiases, "wandb"),
        }
    )
)
"""Each tracker, and the module that it needs."""


def check_installed(names: Sequence[TrackerName]) -> None:
    """Raise `InputError` if the library of a tracker is not installed."""
    for name in names:
        if not find_spec(TRACKERS[name][1]):
            raise InputError(
                f"train.log_to names {name}, which is not installed: `pip install -c "
                f"constraints.txt -e '.[{name}]'`, or leave it out"
            )


@contextmanager
def tracking(
    config: RunConfig, key: str, *, is_new: bool = False
) -> Iterator[Callable[[Sequence[EpochResult]], None]]:
    """Yield a function that brings the trackers up to date with the epochs that have ended.

    Runs of trackers that a training with this key began are gone on with, unless `is_new`. A
    tracker that fails later is reported in a warning, and tried again after the next epoch. Raises
    `InputError` if one cannot be opened.
    """
    names = dict.fromkeys(config.train.log_to)
    if not names:
        yield lambda _: None
        return
    path = config.run / TRAINING / RUNS
    before = {} if is_new else _read_runs(path, key)
    trackers: dict[str, Tracker] = {}

    def write_runs() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        runs = {name: each.id for name, each in trackers.items()}
        write_json(path, {"key": key, "runs": {**before, **runs}})

    def on_epochs(epochs: Sequence[EpochResult]) -> None:
        for name, tracker in trackers.items():
            with _reported(name):
                for epoch in epochs:
                    _write_new(tracker, epoch)
        write_runs()

    status = "FAILED"
    try:
        for name in names:
            trackers[name] = _opened(name, config, before.get(name))
        write_runs()
        yield on_epochs
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        for name, tracker in trackers.items():
            with _reported(name):
                tracker.close(status)


def _opened(name: TrackerName, config: RunConfig, before: str | None) -> Tracker:
    try:
        return TRACKERS[name][0](config, before)
    except Exception as error:  # each library has errors of its own
        raise InputError(
            f"train.log_to: {name} cannot be opened ({error}); correct its settings in the "
            "environment, or leave it out"
        ) from error


def _write_new(tracker: Tracker, epoch: EpochResult) -> None:
    step, fields = epoch.index + 1, asdict(epoch)
    numbers = {
        name: float(fields[key])
        for key, name in NAMES.items()
        if fields[key] is not None and step not in tracker.logged.get(name, ())
    }
    if numbers:
        tracker.write(step, numbers)
        for name in numbers:
            tracker.logged.setdefault(name, set()).add(step)


@contextmanager
def _reported(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # as above; the training does not depend on it
        log.warning("train.log_to: %s takes no numbers now: %s", name, error)


def _read_runs(path: Path, key: str) -> dict[str, str]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] == key:
            return dict(found["runs"])
    return {}


def settings(config: RunConfig) -> dict[str, str]:
    """Return the keys of a run that are not null, dotted, with their values as text."""
    return dict(_flat("", config.model_dump(mode="json")))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else name, each)
    elif value is not None:
        yield prefix, str(value)
