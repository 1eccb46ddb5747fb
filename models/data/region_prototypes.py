"""Region prototypes from the text tower of the CLIP that made a feature set."""

import torch
from pydantic import ValidationError

from features.errors import InputError, StoreError, WeightsError
from features.spec import FeatureSpec
from models.data.feature_sets import FeatureSets
from models.regions.prompts import AnyPrompts
from models.regions.prototypes import Prototypes
from models.regions.text_tower import TextTower
from models.regions.texts_file import read_texts
from models.regions.whole_tower import open_tower
from models.regions.zero_shot import RegionPrototypes


def build_prototypes(
    sets: FeatureSets, stream: str, clip_id: str, prompts: AnyPrompts, device: torch.device
) -> Prototypes:
    """Return the prototypes of prompts on the device; raises as `load_text_tower` does."""
    tower = load_text_tower(sets, sets.specs[stream], clip_id, device)
    return prompts.build(tower, read_texts(prompts.texts))


def read_regions(
    sets: FeatureSets, clip_id: str, prompts: AnyPrompts, stream: str | None = None
) -> RegionPrototypes:
    """Return the features of the regions in the space of a stream, on the CPU.

    Without a name the stream is the first one with texts. Raises `InputError` if there is none, and
    as `load_text_tower` does.
    """
    stream = stream or next(iter(sets.with_texts), None)
    if stream is None:
        raise InputError(
            "region prompts need a text tower, and no encoder of the features "
            f"{', '.join(sets.names.values())} has one; choose features of a clip encoder"
        )
    try:
        with torch.no_grad():
            prototypes = build_prototypes(sets, stream, clip_id, prompts, torch.device("cpu"))()
    except ValueError as error:  # texts or a model that the text tower cannot run
        raise InputError(f"prompts: {error}") from error
    return RegionPrototypes(prototypes, read_texts(prompts.texts).grid, stream)


def load_text_tower(
    sets: FeatureSets, spec: FeatureSpec, clip_id: str, device: torch.device
) -> TextTower:
    """Return the text encoder of the CLIP model named in a clip's record of features.

    Raises `InputError` if the encoder is no CLIP, `StoreError` if the record does not name it, and
    `WeightsError` if its weights have changed.
    """
    from features.encoders.clip import ClipConfig, load_clip  # imports open_clip: seconds

    if spec.kind != "clip":
        raise InputError(
            f"region prompts need a text tower, and the features {spec.name} are of an "
            f"encoder of kind {spec.kind!r}, which has none; choose features of a clip encoder"
        )
    try:
        config = ClipConfig.model_validate(sets.encoder_config(spec, clip_id))
    except ValidationError:
        raise StoreError(
            f"the record {spec.name} of clip {clip_id!r} in {sets.location} does not "
            "say which encoder made it; run extract-features again"
        ) from None
    loaded = load_clip(config)
    if loaded.weights_sha256 != spec.weights_sha256:
        raise WeightsError(
            f"the weights of {config.model} ({config.pretrained}) have the digest "
            f"{loaded.weights_sha256[:12]}, the features {spec.name} were made with "
            f"{spec.weights_sha256[:12]}; put the old weights back, or extract and train again"
        )
    return open_tower(loaded.model.to(device), loaded.tokenizer)
