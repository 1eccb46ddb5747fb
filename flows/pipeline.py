"""The flow `pipeline`: the flows of three stages, one after the other."""

from typing import Any

from prefect import flow

from flows.extract import extract_features
from flows.keys.help import with_help
from flows.keys.signature import keys_for, keys_of, with_keys
from flows.server.artifacts import publish_training
from flows.stage_flow import score_head, train_head
from flows.stages import feature_sets_of
from flows.stages import pipeline as pipeline_plainly


@flow(name="pipeline", persist_result=False)
@with_help
@with_keys(keys_of(pipeline_plainly).values())
def pipeline(**keys: Any) -> dict[str, float | None] | None:
    """Extract, train and score; raises `Incomplete` before training if a clip fails."""
    streams = feature_sets_of(keys["manifest"], keys["encoders"], keys["frames"])
    extract_features(**keys_for(extract_features, keys))
    train_head(**keys_for(train_head, keys), streams=streams)
    scores = score_head(**keys_for(score_head, keys))
    ccc_mean = scores["ccc_mean"] if scores else None
    data = keys["manifest"], keys["store"]
    publish_training(keys["run"], *data, split=keys["split"], ccc_mean=ccc_mean)
    return scores
