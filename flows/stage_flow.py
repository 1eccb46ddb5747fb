"""The Prefect flows of the stages that are one task, made from the plain functions of the stages.

A flow takes its keys, their types and their defaults from that function.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from prefect import Flow, flow, task
from prefect.cache_policies import NO_CACHE

from flows.keys.help import with_help
from flows.keys.signature import hooks_of, keys_of, with_keys
from flows.logs import run_logger
from flows.messages import baseline_name, baseline_streams, describe
from flows.progress import log_hooks
from flows.server.artifacts import publish_score, publish_training
from flows.stage_functions import stage_function
from flows.stages import raise_if_incomplete
from models.stages.ablate import Ablation
from models.stages.baselines import BaselineScores
from models.stages.learning_curve import LearningCurve
from models.stages.predict import PredictResult
from models.stages.score_head import ScoreResult
from models.stages.sweep import Sweep
from models.stages.train_ensemble import EnsembleResult
from models.stages.train_head import TrainResult
from models.stages.trials import Comparison
from models.stages.zero_shot import ZeroShotResult

Scores = dict[str, float | None]


def stage_flow(
    stage: str, task_name: str
) -> Callable[[Callable[[Any, Mapping[str, Any]], Any]], Flow[..., Any]]:
    """Make the flow of a stage from what is done with its result.

    The flow runs the stage as one task, logs its progress and its result, and returns what the
    decorated function makes of the result and the keys.
    """

    def decorate(conclude: Callable[[Any, Mapping[str, Any]], Any]) -> Flow[..., Any]:
        def run(**keys: Any) -> Any:
            log = run_logger()
            function = stage_function(stage)
            run_task = task(name=task_name, cache_policy=NO_CACHE, persist_result=False)(function)
            result = run_task(**keys, **hooks_of(function, log_hooks(log)))
            for line in describe(result):
                if isinstance(line, str):
                    log.info(line.strip())
            raise_if_incomplete(result)
            return conclude(result, keys)

        run.__name__, run.__qualname__ = conclude.__name__, conclude.__qualname__
        run.__module__, run.__doc__ = conclude.__module__, conclude.__doc__
        with_stage_keys = with_keys(keys_of(stage_function(stage)).values())
        return flow(name=stage, persist_result=False)(with_help(with_stage_keys(run)))

    return decorate


@stage_flow("train-head", "train")
def train_head(result: TrainResult, keys: Mapping[str, Any]) -> dict[str, float]:
    """Train a head on the store alone; returns the val scores of the epoch that was kept."""
    publish_training(result.run)
    return asdict(result.kept)


@stage_flow("train-ensemble", "train")
def train_ensemble(result: EnsembleResult, keys: Mapping[str, Any]) -> Scores:
    """Train a head per fold of subjects on the store alone; returns the out-of-fold scores."""
    publish_training(result.run)
    return asdict(result.ensemble.out_of_fold)


@stage_flow("score-head", "score")
def score_head(result: ScoreResult, keys: Mapping[str, Any]) -> Scores | None:
    """Predict a split and score it; returns the scores, or None if there are no labels."""
    publish_score(result, keys["manifest"], keys["store"])
    return asdict(result.score) if result.score else None


@stage_flow("baselines", "baselines")
def score_baselines(result: BaselineScores, keys: Mapping[str, Any]) -> list[Scores]:
    """Learn each baseline on the train split; returns their scores on the val split."""
    for baseline, score in result.scores:
        name, streams = baseline_name(baseline), baseline_streams(baseline)
        run_logger().info("%s of %s: val mean CCC %.3f", name, streams, score.ccc_mean)
    return [asdict(score) for _, score in result.scores]


@stage_flow("predict", "predict")
def predict(result: PredictResult, keys: Mapping[str, Any]) -> dict[str, int]:
    """Predict any videos with a trained head; returns the number of videos by outcome."""
    return dict(result.counts)


@stage_flow("zero-shot", "predict")
def zero_shot(result: ZeroShotResult, keys: Mapping[str, Any]) -> dict[str, Scores]:
    """Predict clips from the region texts alone; returns the scores of the annotated splits."""
    return {split: asdict(score) for split, score in result.scores.items()}


@stage_flow("ablate", "ablate")
def ablate(result: Ablation, keys: Mapping[str, Any]) -> list[dict[str, str | float | None]]:
    """Train every variant with several seeds; returns the table. Fails if a training failed."""
    return _table(result, "group", "row", "ccc_mean")


@stage_flow("learning-curve", "learning curve")
def learning_curve(
    result: LearningCurve, keys: Mapping[str, Any]
) -> list[dict[str, str | float | None]]:
    """Train variants on few people and on noisy labels; returns the table. Fails as `ablate`."""
    return _table(result, "people", "noise", "group", "row", "ccc_mean")


@stage_flow("sweep", "sweep")
def sweep(result: Sweep, keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Train heads with settings from a space; returns the table. Fails if a training failed."""
    rows = ((row.name, row.state, row.score, row.difference, row.params) for row in result.rows)
    names = ("trial", "state", "score", "to_default", "params")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _table(result: Comparison[Any], *columns: str) -> list[dict[str, str | float | None]]:
    """Some columns of the table of a comparison, and the difference to the default."""
    rows = [asdict(row) for row in result.rows]
    return [
        {name: row[name] for name in columns} | {"to_default": row["difference"]} for row in rows
    ]
