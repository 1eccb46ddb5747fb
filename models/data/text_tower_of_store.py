"""The CLIP text encoder that matches a store's visual features."""

import torch
from pydantic import ValidationError

from features.errors import InputError, StoreError, WeightsError
from models.data.feature_sets import FeatureSets
from models.regions.text_tower import TextTower


def load_text_tower(sets: FeatureSets, clip_id: str, device: torch.device) -> TextTower:
    """Return the text encoder of the CLIP model named in a clip's record of visual features.

    Raises `InputError` if the encoder is no CLIP, `StoreError` if the record does not name it, and
    `WeightsError` if its weights have changed.
    """
    from features.encoders.clip import ClipConfig, load_clip  # imports open_clip: seconds

    spec = sets.visual
    if spec.kind != "clip":
        raise InputError(
            f"the head's prompts need a text tower, and the visual features {spec.name} are of an "
            f"encoder of kind {spec.kind!r}, which has none; choose features of a clip encoder"
        )
    try:
        config = ClipConfig.model_validate(sets.encoder_config(spec, clip_id))
    except ValidationError:
        raise StoreError(
            f"the record {spec.name} of clip {clip_id!r} in {sets.store.backend.path()} does not "
            "say which encoder made it; run extract-features again"
        ) from None
    loaded = load_clip(config)
    if loaded.weights_sha256 != spec.weights_sha256:
        raise WeightsError(
            f"the weights of {config.model} ({config.pretrained}) have the digest "
            f"{loaded.weights_sha256[:12]}, the features {spec.name} were made with "
            f"{spec.weights_sha256[:12]}; put the old weights back, or extract and train again"
        )
    return TextTower(loaded.model.to(device), loaded.tokenizer)
