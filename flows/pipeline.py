"""The flow `pipeline`: the flows of three stages, one after the other."""

from typing import Any

from prefect import flow

from flows.extract import extract_features
from flows.server.artifacts import publish_scored
from flows.stage_flow import score_head, train_head, with_keys_of
from flows.stage_keys import keys_of
from flows.stages import feature_sets_of


@flow(name="pipeline", persist_result=False)
@with_keys_of("pipeline")
def pipeline(**keys: Any) -> dict[str, float | None] | None:
    """Extract, train and score; raises `Incomplete` before training if a clip fails."""
    sets = feature_sets_of(keys["encoders"])
    extract_features(**_keys_for(extract_features.fn, keys))
    train_head(**_keys_for(train_head.fn, keys), **sets)
    scores = score_head(**_keys_for(score_head.fn, keys))
    ccc_mean = scores["ccc_mean"] if scores else None
    publish_scored(keys["run"], keys["split"], ccc_mean, keys["manifest"], keys["store"])
    return scores


def _keys_for(function: Any, keys: dict[str, Any]) -> dict[str, Any]:
    return {name: keys[name] for name in keys_of(function) if name in keys}
